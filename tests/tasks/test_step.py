"""The training step, held against the same step spelled out on plain tensors."""

import pytest
import torch
from helpers.by_hand import RATES, RECIPE, Recipe, distance, train_by_hand
from helpers.runs import read, records

from detector.tasks.detection import train


def test_the_step_is_the_recipe_spelled_out(started, tmp_path):
    cfg, start = started()
    train(cfg)
    want = train_by_hand(cfg, start, RECIPE)
    assert min(want.norms) > 1.5  # each is clipped
    assert distance(read(tmp_path / "out" / "model_final.pth")["model"], want.model, start) < 5e-3

    _, record = records(tmp_path / "out")  # of all six steps
    assert set(want.terms[0]) == {"loss_cls", "loss_reg", "loss_centerness"}
    means = {name: sum(terms[name] for terms in want.terms) / 6 for name in want.terms[0]}
    for name, mean in {**means, "loss": sum(means.values()), "grad_norm": sum(want.norms) / 6}.items():
        assert record[name] == pytest.approx(mean, rel=1e-3), name
    assert record["lr"] == 0.005


def test_adamw_is_the_recipe_spelled_out(started, tmp_path):
    settings = ("SOLVER.OPTIMIZER", "adamw", "SOLVER.CLIP_GRAD_NORM", 0, "SOLVER.WEIGHT_DECAY", 5)
    settings += ("MODEL.FCOS.NORM", "none")  # the gradient of a bias before a norm is noise, whose sign AdamW takes
    cfg, start = started(*settings, "SOLVER.SCHEDULE", "cosine", "SOLVER.MAX_ITER", 4, "SOLVER.BASE_LR", 0.001)
    train(cfg)
    rates = [0.00025, 0.001 * 0.625 * (1 + 0.5**0.5) / 2, 0.0005, 0.001 * (1 - 0.5**0.5) / 2]
    want = train_by_hand(cfg, start, Recipe(rates, bias_factor=3, decays=(5, 0.02), adamw=True))
    assert distance(read(tmp_path / "out" / "model_final.pth")["model"], want.model, start) < 5e-3


# A CPU computes fp16 slowly.
@pytest.mark.parametrize(("precision", "side"), [("bf16", 48), ("fp16", 32)])
def test_the_step_in_half_precision_is_the_recipe_spelled_out(started, tmp_path, precision, side):
    cfg, start = started("SOLVER.MAX_ITER", 2, "SOLVER.AMP", precision, "INPUT.MIN_SIZE_TRAIN", side)
    train(cfg)
    recipe = RECIPE._replace(rates=RATES[:2])
    want, full = (train_by_hand(cfg, start, recipe, precision=p) for p in (precision, "off"))
    content = read(tmp_path / "out" / "model_final.pth")
    got = content["model"]
    assert distance(got, want.model, start) < 5e-3
    assert distance(got, full.model, start) > 0.05
    assert all(value.dtype == torch.float32 for value in got.values() if value.is_floating_point())
    _, record = records(tmp_path / "out")
    assert record["grad_norm"] == pytest.approx(sum(want.norms) / 2, rel=1e-2)  # unscaled
    assert content["scaler"].get("scale") == (65536 if precision == "fp16" else None)
