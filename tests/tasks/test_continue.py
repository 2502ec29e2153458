"""What a resumed run takes over from its checkpoint, and what from its config."""

import pytest
import torch
from helpers.by_hand import RATES, RECIPE, Recipe, distance, train_by_hand
from helpers.runs import move_run, read, same_bits

from detector.tasks.detection import train

FASTER_RCNN = (
    *("MODEL.NECK.OUT_CHANNELS", 32, "MODEL.HEAD.NAME", "faster_rcnn"),
    *("MODEL.NECK.SOURCES", "('c2', 'c3', 'c4', 'c5')", "MODEL.NECK.EXTRA_LEVELS", "maxpool"),
    *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 32, "MODEL.RPN.POST_NMS_TOP_N_TRAIN", 100),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16, "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", 32),
)


def test_a_resumed_run_samples_as_an_uninterrupted_one(tiny, tmp_path):
    opts = (*FASTER_RCNN, "SOLVER.CHECKPOINT_PERIOD", 3, "SOLVER.TEST_PERIOD", 2)
    train(tiny(*opts))
    whole = read(tmp_path / "out" / "model_final.pth")
    move_run(tmp_path / "out" / "model_0000003.pth", tmp_path / "resumed")
    torch.manual_seed(99)  # the state of this process does not count
    train(tiny(*opts, "OUTPUT_DIR", tmp_path / "resumed"), resume=True)
    resumed = read(tmp_path / "resumed" / "model_final.pth")
    assert same_bits(resumed["model"], whole["model"])
    moments = [content["optimizer"]["state"] for content in (resumed, whole)]
    assert len(moments[1]) > 30
    for number, state in moments[1].items():
        assert torch.equal(state["momentum_buffer"], moments[0][number]["momentum_buffer"])


@pytest.mark.parametrize(
    ("key", "value", "change"),
    [
        ("BASE_LR", 0.05, {"rates": [0.05, 0.025]}),
        ("BIAS_LR_FACTOR", 12, {"bias_factor": 12}),
        ("MOMENTUM", 0.2, {"momentum": 0.2}),
        ("WEIGHT_DECAY", 1.0, {"decays": (1.0, 0.02)}),
        ("WEIGHT_DECAY_BIAS", 4.0, {"decays": (0.05, 4.0)}),
    ],
)
def test_a_setting_that_changed_counts_on_resuming(started, tmp_path, key, value, change):
    before, start = started("SOLVER.MAX_ITER", 2)
    train(before)
    after, _ = started("SOLVER.MAX_ITER", 4, f"SOLVER.{key}", value)
    train(after, resume=True)
    half = train_by_hand(before, start, RECIPE._replace(rates=RATES[:2]))
    unchanged = RECIPE._replace(rates=RATES[2:4])
    want, other = (
        train_by_hand(after, half.model, recipe, 2, half.moments).model
        for recipe in (unchanged._replace(**change), unchanged)
    )
    got = read(tmp_path / "out" / "model_final.pth")["model"]
    assert distance(got, want, half.model) < 0.01
    assert distance(got, other, half.model) > 0.1


def test_a_changed_decay_of_adamw_counts_on_resuming(started, tmp_path):
    opts = ("SOLVER.OPTIMIZER", "adamw", "SOLVER.CLIP_GRAD_NORM", 0, "SOLVER.WARMUP_ITERS", 0, "SOLVER.STEPS", "()")
    before, start = started(*opts, "SOLVER.MAX_ITER", 1, "SOLVER.BASE_LR", 0.001)
    train(before)
    after, _ = started(*opts, "SOLVER.MAX_ITER", 2, "SOLVER.BASE_LR", 0.001, "SOLVER.WEIGHT_DECAY", 50)
    train(after, resume=True)
    recipe = Recipe([0.001], bias_factor=3, decays=(0.05, 0.02), adamw=True)
    half = train_by_hand(before, start, recipe)
    want = train_by_hand(after, half.model, recipe._replace(decays=(50, 0.02)), 1, half.moments).model
    got = read(tmp_path / "out" / "model_final.pth")["model"]
    assert distance(weights(got), weights(want), half.model) < 0.01


def weights(state):
    """What decays here; of biases before norms, whose gradient is noise, AdamW takes the sign."""
    return {key: value for key, value in state.items() if key.endswith("weight")}


@pytest.fixture
def in_fp16(started, tmp_path):
    """in_fp16(**scaler): a run in fp16 of one step, and its second one resumed after its scaler was changed."""

    def run(**scaler):
        small = ("SOLVER.AMP", "fp16", "INPUT.MIN_SIZE_TRAIN", 32)  # a CPU computes fp16 slowly
        train(started(*small, "SOLVER.MAX_ITER", 1)[0])
        first = read(tmp_path / "out" / "model_final.pth")
        changed = {**first["scaler"], **scaler}
        move_run(tmp_path / "out" / "model_final.pth", tmp_path / "resumed", scaler=changed)
        cfg, _ = started(*small, "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", tmp_path / "resumed")
        train(cfg, resume=True)
        return first, read(tmp_path / "resumed" / "model_final.pth")

    return run


def test_the_scaler_goes_on_where_it_was(in_fp16):
    first, last = in_fp16(scale=1024.0, _growth_tracker=first_growth() - 1)
    assert (first["scaler"]["scale"], first["scaler"]["_growth_tracker"]) == (65536, 1)
    assert (last["scaler"]["scale"], last["scaler"]["_growth_tracker"]) == (2048, 0)
    assert not same_parameters(first, last)


def test_an_infinite_gradient_in_fp16_lowers_the_scale_and_is_left_out(in_fp16):
    first, last = in_fp16(scale=2.0**100)
    assert (last["step"], last["scaler"]["scale"], last["scaler"]["_growth_tracker"]) == (2, 2.0**99, 0)
    assert same_parameters(first, last)


def first_growth():
    """Good steps after which a scaler doubles its scale."""
    return torch.amp.GradScaler("cpu").get_growth_interval()


def same_parameters(first, last):
    """Whether the weights are equal; the statistics of batch norms move in any step."""
    names = [name for name in first["model"] if name.endswith(("weight", "bias"))]
    return all(torch.equal(first["model"][name], last["model"][name]) for name in names)


def test_the_last_checkpoint_is_of_the_last_step_whatever_lies_under_its_name(tiny, tmp_path):
    every = ("SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.STEPS", "()", "DATASETS.TEST", "()")
    train(tiny(*every, "SOLVER.MAX_ITER", 2))
    train(tiny(*every, "SOLVER.MAX_ITER", 6), resume=True)
    (tmp_path / "out" / "model_final.pth").unlink()
    move_run(tmp_path / "out" / "model_0000004.pth", tmp_path / "again")
    torch.save({**read(tmp_path / "out" / "model_0000004.pth"), "step": 2}, tmp_path / "again" / "model_final.pth")
    train(tiny(*every, "SOLVER.MAX_ITER", 4, "OUTPUT_DIR", tmp_path / "again"), resume=True)
    assert read(tmp_path / "again" / "model_final.pth")["step"] == 4


def test_a_refused_resume_leaves_the_config_of_the_run(tiny, tmp_path):
    train(tiny("SOLVER.MAX_ITER", 1))
    before = (tmp_path / "out" / "config.yaml").read_bytes()
    with pytest.raises(ValueError, match=r"MODEL\.BACKBONE\.NAME resnet10 -> resnet34"):
        train(tiny("MODEL.BACKBONE.NAME", "resnet34"), resume=True)
    assert (tmp_path / "out" / "config.yaml").read_bytes() == before


def test_measures_of_other_test_sets_are_no_measures(tiny, tmp_path, write_images):
    train(tiny("SOLVER.MAX_ITER", 1))
    other = write_images(tmp_path / "other", (1, 1), seed=5)
    assert list(train(tiny("SOLVER.MAX_ITER", 1, "DATASETS.TEST", other), resume=True)) == ["other"]


def test_an_evaluation_made_up_for_leaves_the_rate_as_it_was(tiny, tmp_path):
    train(tiny("SOLVER.MAX_ITER", 2))
    whole = read(tmp_path / "out" / "model_final.pth")
    move_run(tmp_path / "out" / "model_final.pth", tmp_path / "killed", evaluated=0, metrics=None)
    train(tiny("SOLVER.MAX_ITER", 2, "OUTPUT_DIR", tmp_path / "killed"), resume=True)
    again = read(tmp_path / "killed" / "model_final.pth")
    assert again["optimizer"]["param_groups"] == whole["optimizer"]["param_groups"]
    assert again["metrics"] == whole["metrics"]


def test_frozen_random_weights_are_named(tiny, caplog):
    train(tiny("SOLVER.MAX_ITER", 1, "MODEL.BACKBONE.FREEZE_CONV_BODY_AT", 2))
    assert "random weights are frozen by MODEL.BACKBONE.FREEZE_CONV_BODY_AT 2: set it to 0" in caplog.text
