"""The average of a detector's weights: what it is, and that it is what counts once there is one."""

import json

import pytest
import torch
from helpers.runs import move_run, read, same_bits
from torch import nn

from detector.engine.ema import average_weights, warmed_up
from detector.errors import UserError
from detector.models.build import build_detector, resolve_parts
from detector.tasks.detection import test as run_test  # under its own name pytest would collect it
from detector.tasks.detection import train
from detector.tasks.measured import state_digest
from detector.tasks.trained import load_trained, load_weights

EVERY = ("SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.CHECKPOINT_KEEP", 0, "SOLVER.MAX_ITER", 3, "SOLVER.BASE_LR", 0.02)
AVERAGED = (*EVERY, "SOLVER.EMA_DECAY", 0.75)


def inner(average):
    """The network of an average, under its own keys."""
    return {key.removeprefix("module."): value for key, value in average.items() if key != "n_averaged"}


def measured(folder):
    return json.loads((folder / "metrics.json").read_text())["measured"]


@pytest.fixture
def averaged(tiny, tmp_path):
    """averaged(*opts): the config of a finished run that keeps an average, and its last checkpoint."""

    def build(*opts):
        cfg = tiny(*AVERAGED, *opts)
        train(cfg)
        return cfg, read(tmp_path / "out" / "model_final.pth")

    return build


def test_the_average_follows_its_recursion_and_training_does_not_notice(averaged, tiny, tmp_path, caplog):
    caplog.set_level("INFO", "detector")
    _, content = averaged()
    assert "constant; weights averaged, decay 0.75" in caplog.text
    first, second, third = (
        read(tmp_path / "out" / name)["model"] for name in ("model_0000001.pth", "model_0000002.pth", "model_final.pth")
    )
    average = inner(content["average"])
    for key, value in third.items():
        if value.is_floating_point():
            want = 0.75 * (0.75 * first[key] + 0.25 * second[key]) + 0.25 * value
            torch.testing.assert_close(average[key], want, msg=key)
        else:
            assert torch.equal(average[key], value)
    assert not torch.equal(average["head.cls_logits.weight"], third["head.cls_logits.weight"])
    assert not torch.equal(average["backbone.bn1.running_mean"], third["backbone.bn1.running_mean"])
    train(tiny(*EVERY, "OUTPUT_DIR", tmp_path / "plain"))
    assert same_bits(read(tmp_path / "plain" / "model_final.pth")["model"], third)
    assert read(tmp_path / "plain" / "model_final.pth")["average"] is None


@pytest.fixture
def follow():
    """follow(average, weights): what an average of one weight is after updates by these."""

    def build(decay, weights, started=None):
        model = nn.Linear(1, 1, bias=False)
        average = average_weights(model, decay, warmup=True)
        if started is not None:
            average.load_state_dict(started)
        for weight in weights:
            nn.init.constant_(model.weight, weight)
            average.update_parameters(model)
        return average

    return build


def test_a_warm_up_keeps_less_of_the_first_weights_and_goes_on_exactly(follow):
    want = 3.0  # the first update copies
    for n, weight in ((1, 5.0), (2, 7.0), (3, 6.0)):
        stays = min(0.3, (1 + n) / (10 + n))  # 2 / 11, 3 / 12, then the decay itself
        want = stays * want + (1 - stays) * weight
    whole = follow(0.3, (3.0, 5.0, 7.0, 6.0))
    assert whole.module.weight.item() == pytest.approx(want, rel=1e-6)
    half = follow(0.3, (3.0, 5.0))
    assert same_bits(follow(0.3, (7.0, 6.0), half.state_dict()).state_dict(), whole.state_dict())
    assert (warmed_up(0.999, 1), warmed_up(0.999, 8), warmed_up(0.999, 9000)) == (2 / 11, 0.5, 0.999)


def test_a_warm_up_of_the_config_is_that_of_the_average(tiny, tmp_path, caplog):
    caplog.set_level("INFO", "detector")
    train(tiny(*AVERAGED, "SOLVER.EMA_WARMUP", True, "DATASETS.TEST", "()", "SOLVER.MAX_ITER", 2))
    assert "weights averaged, decay 0.75 after a warm-up" in caplog.text
    first, last = (read(tmp_path / "out" / name) for name in ("model_0000001.pth", "model_final.pth"))
    key = "head.cls_logits.weight"
    want = 2 / 11 * first["model"][key] + 9 / 11 * last["model"][key]
    torch.testing.assert_close(inner(last["average"])[key], want)


def test_what_is_tested_kept_and_loaded_is_the_average(averaged, tmp_path):
    cfg, content = averaged("SOLVER.TEST_PERIOD", 2, "MODEL.FCOS.INFERENCE_TH", 0)
    digest = state_digest(inner(content["average"]))
    assert digest != state_digest(content["model"])
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert measured(tmp_path / "out")["digest"] == digest
    best = read(tmp_path / "out" / "model_best.pth")
    assert best["step"] in (2, 3)
    name = "model_final.pth" if best["step"] == 3 else "model_0000002.pth"
    assert same_bits(best["model"], inner(read(tmp_path / "out" / name)["average"]))
    assert run_test(cfg)["val"] == {k: v for k, v in metrics.items() if k != "measured"}
    assert measured(tmp_path / "out")["digest"] == digest
    model, *_ = load_trained(cfg)
    assert state_digest(model.state_dict()) == digest


def test_a_weight_of_a_run_with_an_average_is_the_average(averaged, tiny, tmp_path, caplog):
    _, content = averaged()
    caplog.set_level("INFO", "detector")
    weight = tmp_path / "out" / "model_final.pth"
    cfg = tiny("MODEL.WEIGHT", weight, "OUTPUT_DIR", tmp_path / "other")
    run_test(cfg, weight=str(weight))
    digest = state_digest(inner(content["average"]))
    assert measured(tmp_path / "other")["digest"] == digest
    model = build_detector(resolve_parts(cfg))
    load_weights(model, cfg, content["classes"])  # to start from
    assert state_digest(model.state_dict()) == digest
    assert caplog.text.count("the averaged weights under 'average' are taken, not those under 'model'") == 2


def test_a_resume_with_an_average_goes_on_with_both(averaged, tiny, tmp_path):
    _, whole = averaged()
    move_run(tmp_path / "out" / "model_0000001.pth", tmp_path / "again")
    train(tiny(*AVERAGED, "OUTPUT_DIR", tmp_path / "again"), resume=True)
    again = read(tmp_path / "again" / "model_final.pth")
    assert same_bits(again["model"], whole["model"])
    assert same_bits(again["average"], whole["average"])
    assert whole["average"]["n_averaged"] == 3


@pytest.mark.parametrize(("was", "now"), [(0, 0.75), (0.75, 0)])
def test_a_resume_neither_begins_nor_drops_an_average(tiny, tmp_path, was, now):
    train(tiny("SOLVER.MAX_ITER", 1, "SOLVER.EMA_DECAY", was))
    with pytest.raises(UserError, match=rf"cannot be resumed, .*: SOLVER\.EMA_DECAY {float(was)} -> {float(now)}"):
        train(tiny("SOLVER.MAX_ITER", 2, "SOLVER.EMA_DECAY", now), resume=True)


def test_a_checkpoint_without_config_and_average_is_no_start_of_one(tiny, tmp_path):
    train(tiny("SOLVER.MAX_ITER", 1))
    content = read(tmp_path / "out" / "model_final.pth")
    del content["config"]
    (tmp_path / "bare").mkdir()
    torch.save(content, tmp_path / "bare" / "model_0000001.pth")
    with pytest.raises(UserError, match="no checkpoint to resume from: it has no 'average'"):
        train(tiny("SOLVER.MAX_ITER", 2, "SOLVER.EMA_DECAY", 0.5, "OUTPUT_DIR", tmp_path / "bare"), resume=True)
