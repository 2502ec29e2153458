"""What a config leaves open becomes numbers, once."""

import logging

import pytest

from detector.config import config_from_text, config_text, load_config
from detector.tasks.resolve import resolve, resolve_model, scale_to_batch


def config(*opts):
    """Shares of a file's 1,000 steps."""
    text = "SOLVER: {MAX_ITER: 1000, STEPS: [600, 800], WARMUP_ITERS: 50}\n"
    return config_from_text(text, opts=[str(x) for x in opts])


def test_epochs_become_steps_and_shares_of_them(caplog):
    with caplog.at_level(logging.INFO, "detector"):
        cfg = resolve(config("SOLVER.EPOCHS", 4), 80, 25)
    solver = cfg.SOLVER
    assert (solver.EPOCHS, solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS) == (0, 100, (60, 80), 5)
    assert (solver.TEST_PERIOD, solver.BASE_LR) == (25, 0.01)
    assert cfg.is_frozen()
    expected = (
        "SOLVER.EPOCHS 4 of 25 batches: MAX_ITER 100, STEPS (60, 80), WARMUP_ITERS 5, TEST_PERIOD 25, "
        "CHECKPOINT_PERIOD 25"
    )
    assert [record.getMessage() for record in caplog.records] == [expected]
    assert resolve(config("SOLVER.EPOCHS", 4, "SOLVER.TEST_PERIOD", 7), 80, 25).SOLVER.TEST_PERIOD == 7


def test_two_thirds_of_the_default_steps_are_two_thirds_of_the_epochs():
    solver = resolve(load_config(None, ["SOLVER.EPOCHS", "9"]), 80, 10).SOLVER
    assert (solver.MAX_ITER, solver.STEPS) == (90, (60, 80))


def test_batches_are_counted_of_the_resolved_config_and_only_where_epochs_need_them():
    def count(cfg):
        assert cfg.MODEL.NUM_CLASSES == 3
        return 100 // cfg.SOLVER.IMS_PER_BATCH

    opts = ["MODEL.NUM_CLASSES", 0, "SOLVER.IMS_PER_BATCH", 5]
    assert resolve(config(*opts, "SOLVER.EPOCHS", 2), 3, count).SOLVER.MAX_ITER == 40
    cfg = resolve(config(*opts), 3, lambda cfg: pytest.fail("there are no epochs"))
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.TEST_PERIOD) == (1000, 0)


def test_classes_of_the_data_count_where_the_config_leaves_them_open():
    assert resolve(config("MODEL.NUM_CLASSES", 0), 7, 1).MODEL.NUM_CLASSES == 7
    assert resolve(config("MODEL.NUM_CLASSES", 5), 7, 1).MODEL.NUM_CLASSES == 5
    cfg = resolve_model(config("MODEL.NUM_CLASSES", 0, "SOLVER.EPOCHS", 3), 7)
    assert (cfg.MODEL.NUM_CLASSES, cfg.SOLVER.EPOCHS, cfg.DATALOADER.SIZE_DIVISIBILITY) == (7, 3, 32)


@pytest.mark.parametrize(
    "opts",
    [
        [],
        ["MODEL.NUM_CLASSES", 0, "MODEL.HEAD.NAME", "refinedet"],
        ["SOLVER.EPOCHS", 4],
        ["SOLVER.EPOCHS", 4, "SOLVER.REFERENCE_BATCH", 8],
        ["SOLVER.REFERENCE_BATCH", 8],
        ["SOLVER.REFERENCE_BATCH", 3, "SOLVER.SCHEDULE", "cosine"],
        ["MODEL.HEAD.NAME", "refinedet", "MODEL.NECK.NAME", "fpn"],
    ],
)
def test_resolving_again_changes_nothing(opts, caplog):
    once = resolve(config(*opts), 3, 25)
    caplog.clear()
    with caplog.at_level(logging.INFO, "detector"):
        assert resolve(once, 9, lambda cfg: pytest.fail("nothing is open")) == once
        assert resolve(config_from_text(config_text(once)), 9, 9) == once
    assert not caplog.records


def test_nothing_is_left_open():
    cfg = resolve(load_config("own/fcos_resnet50"), 3, 25)
    assert (cfg.MODEL.NECK.NAME, cfg.MODEL.NECK.SOURCES) == ("fpn", ("c3", "c4", "c5"))
    assert (cfg.MODEL.NECK.EXTRA_LEVELS, cfg.MODEL.NECK.NORM, cfg.MODEL.NECK.L2NORM_SCALES) == ("p6p7_p5", "none", ())
    assert (cfg.DATALOADER.SIZE_DIVISIBILITY, cfg.MODEL.NUM_CLASSES, cfg.SOLVER.EPOCHS) == (32, 3, 0)
    assert cfg.SOLVER.REFERENCE_BATCH == cfg.SOLVER.IMS_PER_BATCH == 4


def test_with_epochs_the_batch_changes_the_rate_alone():
    opts = ["SOLVER.EPOCHS", 4, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.REFERENCE_BATCH", 16]
    solver = resolve(config(*opts), 80, 25).SOLVER
    assert (solver.BASE_LR, solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS) == (0.0025, 100, (60, 80), 5)


@pytest.mark.parametrize(
    ("opts", "batches", "problem"),
    [
        (
            (1,),
            1,
            r"SOLVER\.EPOCHS 1 of 1 batches would make SOLVER\.STEPS \(600, 800\) .* \(1, 1\), .*SOLVER\.STEPS \(\)",
        ),
        ((1, "SOLVER.STEPS", "(100,)"), 2, r"SOLVER\.STEPS \(100,\) of MAX_ITER 1000 \(0,\), which do not rise"),
        ((2, "SOLVER.STEPS", "(2000,)"), 10, r"end at step 20, SOLVER\.STEPS \(2000,\) .* would be \(40,\)"),
        ((2, "SOLVER.STEPS", "(990,)"), 10, r"end at step 20, SOLVER\.STEPS \(990,\) .* would be \(20,\)"),
        ((2, "SOLVER.WARMUP_ITERS", "1100"), 10, r"end at step 20, SOLVER\.WARMUP_ITERS 1100 .* would be 22: write"),
    ],
)
def test_a_schedule_that_loses_its_form_is_an_error_with_a_remedy(opts, batches, problem):
    with pytest.raises(ValueError, match=problem):
        resolve(config("SOLVER.EPOCHS", *opts), 80, batches)


def test_steps_that_are_not_used_are_no_error():
    for remedy in (["SOLVER.STEPS", "()"], ["SOLVER.SCHEDULE", "cosine"]):
        assert resolve(config("SOLVER.EPOCHS", 1, *remedy), 80, 1).SOLVER.MAX_ITER == 1


def test_the_schedule_is_scaled_to_the_batch_once(caplog):
    cfg = load_config(None, ["SOLVER.REFERENCE_BATCH", "16", "SOLVER.IMS_PER_BATCH", "2"])
    with caplog.at_level(logging.INFO, "detector"):
        scaled = scale_to_batch(cfg).SOLVER
    assert (scaled.BASE_LR, scaled.MAX_ITER, scaled.STEPS) == (0.00125, 720000, (480000, 640000))
    assert (scaled.WARMUP_ITERS, scaled.REFERENCE_BATCH) == (4000, 2)
    (record,) = caplog.records
    assert record.getMessage() == (
        "batch 2 for a reference of 16: BASE_LR 0.01 -> 0.00125, MAX_ITER 90000 -> 720000, "
        "STEPS (60000, 80000) -> (480000, 640000), WARMUP_ITERS 500 -> 4000"
    )
    assert scale_to_batch(scale_to_batch(cfg)) == scale_to_batch(cfg)
    assert scale_to_batch(load_config(None)) == load_config(None)


def test_the_rate_of_adamw_follows_the_square_root_of_the_batch():
    opts = ("SOLVER.OPTIMIZER", "adamw", "SOLVER.BASE_LR", 0.001, "SOLVER.REFERENCE_BATCH", 16)
    for batch, rate in ((4, 0.0005), (64, 0.002)):
        solver = scale_to_batch(load_config(None, [*map(str, opts), "SOLVER.IMS_PER_BATCH", str(batch)])).SOLVER
        assert (solver.BASE_LR, solver.MAX_ITER) == (rate, 90000 * 16 // batch)


def test_an_extreme_batch_keeps_a_step_or_is_refused():
    cfg = config("SOLVER.REFERENCE_BATCH", 1, "SOLVER.IMS_PER_BATCH", 4096, "SOLVER.STEPS", "()")
    assert scale_to_batch(cfg).SOLVER.MAX_ITER == 1
    for batch in (1000, 2000):  # 600 and 800 become 1 and 1, then 0 and 0
        cfg = config("SOLVER.REFERENCE_BATCH", 1, "SOLVER.IMS_PER_BATCH", batch)
        with pytest.raises(
            ValueError, match=rf"batch {batch} for a reference of 1 would make SOLVER\.STEPS .* not rise"
        ):
            scale_to_batch(cfg)


@pytest.mark.parametrize(
    ("opts", "problem"),
    [
        # 10, 9 and 3 by 8: 1, 1 and 0
        (
            ("MAX_ITER", 10, "STEPS", "(9,)", "WARMUP_ITERS", 3),
            r"MAX_ITER 10 -> 1 .*STEPS \(9,\) -> \(1,\),.*STEPS \(\)",
        ),
        (
            ("MAX_ITER", 10, "STEPS", "()", "WARMUP_ITERS", 9),
            r"MAX_ITER 10 -> 1 .*WARMUP_ITERS 9 -> 1,.*WARMUP_ITERS 0",
        ),
    ],
)
def test_a_batch_that_leaves_nothing_behind_a_step_or_the_warm_up_is_refused(opts, problem):
    given = [f"SOLVER.{word}" if isinstance(word, str) and word.isupper() else word for word in opts]
    batch = ["SOLVER.REFERENCE_BATCH", 1, "SOLVER.IMS_PER_BATCH"]
    with pytest.raises(ValueError, match=rf"batch 8 for a reference of 1 would make SOLVER\.{problem}"):
        scale_to_batch(config(*given, *batch, 8))
    solver = scale_to_batch(config(*given, *batch, 2)).SOLVER  # 5, and 4 or 4: both of them before it
    assert solver.MAX_ITER == 5


def test_a_short_trial_of_a_long_schedule_scales_as_well():
    opts = ["SOLVER.MAX_ITER", 10, "SOLVER.WARMUP_ITERS", 20, "SOLVER.REFERENCE_BATCH", 1, "SOLVER.IMS_PER_BATCH", 2]
    solver = scale_to_batch(config(*opts)).SOLVER
    assert (solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS) == (5, (300, 400), 10)
