"""What a resumed run says of what changed, and what stops it."""

from pathlib import Path

import pytest
from helpers.runs import read

from detector.config import config_text, load_config
from detector.config.defaults import flat, get_defaults
from detector.errors import UserError
from detector.tasks.compare import RULES, SAID, SILENT, STOPS, SWITCH, compare, compare_tasks, rule_of
from detector.tasks.detection import train
from detector.tasks.resolve import resolve
from detector.version import versions
from detector.weights.read import WeightFile


def resolved(*opts):
    return resolve(load_config(None, ["MODEL.NUM_CLASSES", "2", *map(str, opts)]), 2, 3)


CLASSES = ["dark", "light"]
PATH = Path("out/model_0000010.pth")


def checkpoint(*opts, **more):
    return WeightFile(PATH, {}, {"config": config_text(resolved(*opts)), "classes": CLASSES, **more})


STOPPING = [
    ("MODEL.BACKBONE.NAME", "resnet50", "resnet34"),
    ("MODEL.BACKBONE.NORM", "frozen_bn", "gn"),
    ("MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "2", "3"),
    ("MODEL.BACKBONE.PASSES", "0", "2"),
    ("MODEL.NUM_CLASSES", "2", "3"),
    ("MODEL.NECK.OUT_CHANNELS", "256", "128"),
    ("MODEL.NECK.SOURCES", "'[c3, c4, c5]'", "'[c4, c5]'"),
    ("MODEL.FCOS.NORM_REG_TARGETS", "False", "True"),
    ("SOLVER.OPTIMIZER", "sgd", "adamw"),
    ("SOLVER.EMA_DECAY", "0.0", "0.9"),
    ("SOLVER.STAGE_LR_FACTORS", "'[]'", "'[0.1, 0.1, 0.1, 0.1, 0.1]'"),
]


@pytest.mark.parametrize(("key", "was", "now"), STOPPING, ids=[key for key, *_ in STOPPING])
def test_what_the_tensors_mean_nothing_without_stops(key, was, now):
    with pytest.raises(UserError) as caught:
        compare(checkpoint(), resolved(key, now.strip("'")), CLASSES, 5)
    message = str(caught.value)
    assert message.startswith(
        f"{PATH} cannot be resumed, as its training had other settings: {key} {was} -> {now}. Write {key} {was} to "
        "resume it, or start anew with OUTPUT_DIR another/folder"
    )
    assert "\n" not in message


def test_an_average_that_ends_stops_and_another_decay_is_said(caplog):
    averaged = checkpoint("SOLVER.EMA_DECAY", 0.9)
    with pytest.raises(UserError, match=r"SOLVER\.EMA_DECAY 0\.9 -> 0\.0\. Write SOLVER\.EMA_DECAY 0\.9 to resume it"):
        compare(averaged, resolved(), CLASSES, 5)
    compare(averaged, resolved("SOLVER.EMA_DECAY", 0.99), CLASSES, 5)
    assert caplog.messages == [f"resumed with other settings than {PATH} had: SOLVER.EMA_DECAY 0.9 -> 0.99"]


def test_rates_of_stages_that_end_stop_and_others_are_said(caplog):
    factors = ("SOLVER.STAGE_LR_FACTORS", "[0.1, 0.1, 0.1, 0.1, 0.5]")
    with pytest.raises(UserError, match=r"SOLVER\.STAGE_LR_FACTORS '\[0\.1, 0\.1, 0\.1, 0\.1, 0\.5\]' -> '\[\]'"):
        compare(checkpoint(*factors), resolved(), CLASSES, 5)
    compare(checkpoint(*factors), resolved(factors[0], "[0.1, 0.1, 0.1, 0.1, 0.2, 2]"), CLASSES, 5)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(("was", "now"), [("saliency", "detection"), ("detection", "saliency")])
def test_another_task_is_told_before_classes_and_data(was, now):
    file = WeightFile(PATH, {}, {"config": f"MODEL: {{TASK: {was}}}"})
    with pytest.raises(UserError, match=f"{PATH} is of MODEL.TASK {was}, and this config of MODEL.TASK {now}: take"):
        compare_tasks(file, load_config(None, ["MODEL.TASK", now]))
    compare_tasks(file, load_config(None, ["MODEL.TASK", was]))
    for content in ({}, {"config": "MODEL: {NO_SUCH_KEY: 1}"}):
        compare_tasks(WeightFile(PATH, {}, content), load_config(None, ["MODEL.TASK", now]))


def test_all_that_stops_is_in_one_message():
    with pytest.raises(UserError) as caught:
        compare(checkpoint(), resolved("MODEL.BACKBONE.NORM", "gn", "SOLVER.OPTIMIZER", "adamw", "SEED", 3), CLASSES, 5)
    assert "NORM frozen_bn -> gn; SOLVER.OPTIMIZER sgd -> adamw. Write MODEL.BACKBONE.NORM frozen_bn SOLVER" in str(
        caught.value
    )
    assert "SEED" not in str(caught.value)


SAYING = [
    ("SOLVER.BASE_LR", "0.01", "0.02"),
    ("SOLVER.MAX_ITER", "90000", "100000"),
    ("SOLVER.STEPS", "'[60000, 80000]'", "'[5]'"),
    ("SOLVER.AMP", "off", "bf16"),
    ("SEED", "0", "7"),
    ("DATASETS.TRAIN", "'[coco_2017_train]'", "'[coco_2017_val]'"),
    ("DATASETS.ROOT", None, "elsewhere"),
    ("INPUT.MAX_SIZE_TRAIN", "1333", "1000"),
    ("DATALOADER.ASPECT_RATIO_GROUPING", "True", "False"),
    ("TEST.IMS_PER_BATCH", "8", "4"),
    ("MODEL.WEIGHT", "''", "imagenet"),
    ("MODEL.DEVICE", "auto", "cpu"),
    ("MODEL.CHANNELS_LAST", "True", "False"),
]


@pytest.mark.parametrize(("key", "was", "now"), SAYING, ids=[key for key, *_ in SAYING])
def test_what_changes_the_course_is_said_with_both_values(key, was, now, caplog):
    compare(checkpoint(), resolved(key, now.strip("'")), CLASSES, 5)
    was = resolved().DATASETS.ROOT if was is None else was
    assert caplog.messages == [f"resumed with other settings than {PATH} had: {key} {was} -> {now}"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("OUTPUT_DIR", "moved"),
        ("DATALOADER.NUM_WORKERS", 1),
        ("MODEL.RPN.NMS_THRESH", 0.5),  # without effect, as the head is FCOS
        ("SEED", 0),
    ],
)
def test_what_changes_nothing_is_silent(key, value, caplog):
    now = resolved(key, value)
    caplog.clear()
    compare(checkpoint(), now, CLASSES, 5)
    assert caplog.messages == []


def test_every_key_has_a_rule_and_every_rule_a_key():
    keys = [*flat(get_defaults()), "LOG.TENSORBOARD"]
    found = {key: rule_of(key) for key in keys}
    assert {found[key] for key in keys} == {STOPS, SWITCH, SAID, SILENT}
    assert [key for key in keys if found[key] == SWITCH] == [
        "SOLVER.STAGE_LR_FACTORS",
        "SOLVER.EMA_DECAY",
    ]
    assert {key for key, rule in found.items() if rule == STOPS and not key.startswith("MODEL.")} == {
        "SOLVER.OPTIMIZER"
    }
    for entry in RULES:
        assert entry == "" or entry in keys or any(key.startswith(entry) for key in keys if entry.endswith("."))
    assert rule_of("MODEL.A_PLUGINS.WIDTH") == STOPS


@pytest.mark.parametrize(
    ("now", "difference"),
    [
        (["light", "dark"], "class 0 was 'dark' and is 'light'"),
        (["dark", "light", "grey"], "class 2 was none and is 'grey'"),
        (["dark"], "class 1 was 'light' and is none"),
    ],
)
def test_other_classes_are_both_named(now, difference):
    with pytest.raises(UserError) as caught:
        compare(checkpoint(), resolved("MODEL.NUM_CLASSES", len(now)), now, 5)
    message = str(caught.value)
    assert f"2 (dark, light), and DATASETS.TRAIN has {len(now)} ({', '.join(now)}); {difference}." in message
    assert f"MODEL.WEIGHT {PATH} OUTPUT_DIR another/folder" in message


def test_other_versions_are_said(caplog):
    compare(checkpoint(versions=versions()), resolved(), CLASSES, 5)
    assert caplog.messages == []
    compare(checkpoint(versions={**versions(), "torch": "1.0"}), resolved(), CLASSES, 5)
    assert caplog.messages == [
        f"resumed with other settings than {PATH} had: version of torch 1.0 -> {versions()['torch']}"
    ]


def test_checkpoints_without_config_or_with_one_of_another_version_are_resumed(caplog):
    compare(WeightFile(PATH, {}, {"step": 1}), resolved(), CLASSES, 5)
    assert caplog.messages == []
    compare(WeightFile(PATH, {}, {"config": "A_KEY_THAT_IS_GONE: 3\n"}), resolved(), CLASSES, 5)
    assert caplog.messages[0].startswith(f"what changed since {PATH} cannot be told: {PATH}: A_KEY_THAT_IS_GONE")


def test_a_change_is_said_once(tiny, tmp_path, caplog):
    train(tiny("SOLVER.MAX_ITER", 1))
    train(tiny("SOLVER.MAX_ITER", 2, "SOLVER.BASE_LR", 0.003), resume=True)
    said = [text for text in caplog.messages if "other settings" in text]
    assert said == [
        f"resumed with other settings than {tmp_path / 'out' / 'model_final.pth'} had: SOLVER.MAX_ITER 1 -> 2; "
        "SOLVER.BASE_LR 0.002 -> 0.003"
    ]
    caplog.clear()
    train(tiny("SOLVER.MAX_ITER", 2, "SOLVER.BASE_LR", 0.003), resume=True)
    assert not [text for text in caplog.messages if "other settings" in text]


@pytest.mark.parametrize(
    ("key", "value"),
    [("MODEL.BACKBONE.NAME", "resnet34"), ("SOLVER.OPTIMIZER", "adamw"), ("MODEL.BACKBONE.FREEZE_CONV_BODY_AT", 3)],
)
def test_a_resume_as_something_else_is_refused_and_leaves_the_run(tiny, tmp_path, key, value):
    train(tiny("SOLVER.MAX_ITER", 1))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(ValueError, match=rf"model_final\.pth cannot be resumed.*: {key} "):
        train(tiny("SOLVER.MAX_ITER", 2, key, value), resume=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_resume_with_other_data_names_both_lists(tiny, tmp_path, write_images):
    train(tiny("SOLVER.MAX_ITER", 1))
    three = write_images(tmp_path / "three", (2, 2), categories=((1, "a"), (2, "b"), (9, "c")))
    other = ("DATASETS.TRAIN", three, "DATASETS.TEST", three, "MODEL.NUM_CLASSES", 0)
    with pytest.raises(
        ValueError,
        match=r"3 classes \('a', 'b', 'c'\), and .*final\.pth was trained on 2 \('dark', 'light'\), without 'a',",
    ):
        train(tiny("SOLVER.MAX_ITER", 2, *other), resume=True)
    train(
        tiny(
            "SOLVER.MAX_ITER",
            1,
            *other,
            "MODEL.WEIGHT",
            tmp_path / "out" / "model_final.pth",
            "OUTPUT_DIR",
            tmp_path / "new",
        )
    )
    assert read(tmp_path / "new" / "model_final.pth")["classes"] == ["a", "b", "c"]


def test_a_data_set_of_another_size_is_said(caplog):
    compare(checkpoint(pictures=5), resolved(), CLASSES, 5)
    assert not caplog.messages
    compare(checkpoint(pictures=5), resolved(), CLASSES, 3)
    assert caplog.messages == [f"resumed with other settings than {PATH} had: pictures to train on 5 -> 3"]
