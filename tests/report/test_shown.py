"""How values of report.json are written."""

import pytest
from helpers import comparisons

from detector.report import shown


@pytest.mark.parametrize(
    ("value", "sign", "text"),
    [
        (0.4123, False, "41.2"),
        (0.0123, True, "+1.2"),
        (-0.0123, True, "-1.2"),
        (None, True, "-"),
        (0.0, True, "+0.0"),
        (-0.0001, True, "+0.0"),
        (-0.0, False, "0.0"),
        (-0.0006, True, "-0.1"),
    ],
)
def test_points(value, sign, text):
    assert shown.points(value, sign) == text


def test_a_value_has_its_interval_where_there_is_one():
    assert shown.measured({"value": 0.5, "interval95": [0.4, 0.6]}) == "50.0 (40.0 .. 60.0)"
    assert shown.measured({"value": -0.01, "interval95": [-0.02, 0.001]}, sign=True) == "-1.0 (-2.0 .. +0.1)"
    assert shown.measured({"value": 0.5, "interval95": [None, None]}) == "50.0"
    assert shown.measured({"value": 0.5, "interval95": None}) == "50.0"
    assert shown.measured({"value": None, "interval95": [None, None]}) == "-"
    assert shown.measured(None) == "-"


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (None, "-"),
        (0.5, "0.50"),
        (0.0494, "0.049"),
        (0.0499, "< 0.05"),
        (0.05, "0.050"),
        (0.0098, "0.0098"),
        (0.0001, "0.0001"),
        (3e-9, "< 0.0001"),
    ],
)
def test_p_values_do_not_round_to_the_level_or_to_nothing(p, text):
    assert shown.chance(p) == text


def test_verdicts():
    pair = ("b", "a")
    assert shown.verdict({"value": 0.1, "tie": False}, pair) == "b is better"
    assert shown.verdict({"value": -0.1, "tie": False}, pair) == "a is better"
    assert shown.verdict({"value": 0.1, "tie": True}, pair) == "a tie"
    assert shown.verdict({"value": None, "tie": True}, pair) == "nothing to find"


def test_costs_are_written_in_units_that_people_use():
    texts = {cost.key: cost.text for cost in shown.COSTS}
    assert texts["params"](44_549_160) == "44.5 M"
    assert texts["macs"](4.089e9) == "4.09 G"
    assert texts["params"](12) == "12"
    assert texts["image_s"](0.0523) == "52.3 ms"
    assert texts["step_s"](1.25) == "1.25 s"
    assert texts["memory_mb"](900.4) == "900 MiB"
    assert texts["memory_mb"](2048) == "2 GiB"
    assert texts["train_s"](3725) == "1:02:05"
    assert texts["correlation"](0.0519) == "0.052"


def test_a_budget_that_is_one_for_all_is_a_sentence_and_no_column():
    document = comparisons.runs()
    assert shown.budget(document) == "All were trained with 600 steps, 4,800 images."
    keys = [cost.key for cost in shown.known_costs(document)]
    assert "params" in keys
    assert "steps" not in keys
    document["models"]["resnest50"]["facts"]["steps"] = 500
    assert shown.budget(document) == "All were trained with 4,800 images."
    assert "steps" in [cost.key for cost in shown.known_costs(document)]
    assert shown.budget(comparisons.results({"a": 0.5, "b": 0.6})) == ""
    assert shown.known_costs(comparisons.results({"a": 0.5, "b": 0.6})) == []


def test_costs_that_nobody_knows_have_no_column():
    document = comparisons.runs(("a", "b"))
    document["models"]["a"]["facts"].update(image_s=None, correlation=None)
    document["models"]["b"]["facts"]["correlation"] = None
    keys = [cost.key for cost in shown.known_costs(document)]
    assert "image_s" in keys
    assert "correlation" not in keys


def test_the_subject_says_what_is_the_same_for_all():
    document = comparisons.runs()
    assert shown.subject(document) == (
        "5 models under fcos, 3 seeds each, on voc:bccd:test: 72 images with 1,021 objects"
    )
    document["models"]["resnest50"]["AP"]["seeds"] = None
    document["models"]["resnest50"]["head"] = "refinedet"
    assert shown.subject(document).startswith("5 models, 1 to 3 seeds each, on")
    assert shown.parts(document, "resnest50") == "refinedet"  # the backbone is the name
    assert shown.subject(comparisons.results({"a": 0.5, "b": 0.6})).startswith("2 detectors on t.json: 400 images")


def test_classes_are_read_from_the_rows_where_no_list_names_them():
    document = comparisons.results({"a": 0.5, "b": 0.6}, ("x", "y/z"))
    assert shown.class_names(document) == ["x", "y/z"]
    del document["classes"]
    assert shown.class_names(document) == ["x", "y/z"]


def test_settings_are_text_or_json():
    assert shown.setting("resnet50") == "resnet50"
    assert shown.setting([1, "a", None, True]) == '[1,"a",null,true]'
    assert shown.setting(0.0025) == "0.0025"


def test_a_scale_holds_zero_and_every_interval():
    rows = [{"value": 0.1, "interval95": [0.05, 0.2]}, {"value": None}, None, {"value": 0.3, "interval95": None}]
    assert shown.scale(rows) == (0.0, 0.3)
    assert shown.scale([{"value": -0.1, "interval95": [-0.2, -0.05]}]) == (-0.2, 0.0)
    assert shown.scale([]) == (0.0, 0.0)


def test_what_the_columns_of_costs_are_is_explained():
    document = comparisons.runs(("a", "b"))
    said = " ".join(shown.explained(document))
    assert "one image of 240 x 320 pixels, height x width." in said
    assert "without tests and checkpoints: it need not be the steps times the time of one." in said
    assert "Correlation is" in said
    assert "seconds" not in said
    assert "rounds" not in said
    assert "Image and step are the times of a test image and of a training step." in said
    for model in document["models"].values():
        model["facts"]["image_s"] = None
    assert "Step is the time of a training step." in " ".join(shown.explained(document))
    document["models"]["b"]["facts"].update(size=[480, 640], step_s_rounds=[1.0, 1.2, 1.1])
    said = " ".join(shown.explained(document))
    assert "the largest test size (a: 240 x 320; b: 480 x 640)" in said
    assert "the least and the most of the rounds" in said
    cost = next(cost for cost in shown.COSTS if cost.key == "step_s")
    assert shown.rounds_text(document["models"]["b"], cost) == "1 s .. 1.2 s"
    assert shown.rounds_text(document["models"]["a"], cost) == ""
    assert shown.explained(comparisons.results({"a": 0.5, "b": 0.6})) == []


def test_one_model_is_one():
    assert shown.subject(comparisons.results({"a": 0.5})).startswith("1 detector on")
    assert shown.subject(comparisons.runs(("a",))).startswith("1 model with a under fcos, 3 seeds, on")


def test_objects_are_counted_by_size():
    document = comparisons.results({"a": 0.5})
    assert shown.sizes_text(document) == ""
    document["sizes"] = {"small": 0, "medium": 1300, "large": 6}
    assert shown.sizes_text(document) == (
        "Objects: 0 small, 1,300 medium, 6 large (below 32 x 32 pixels, between, from 96 x 96 on)."
    )


def test_a_very_wide_interval_does_not_squeeze_the_others():
    rows = [{"value": 0.01, "interval95": [-0.01, 0.03 + 0.001 * place]} for place in range(11)]
    assert shown.scale(rows) == (-0.01, 0.04)
    assert shown.scale([*rows, {"value": 0.2, "interval95": [-0.3, 0.7]}]) == (-0.01, 0.04)
    assert shown.scale([{"value": 0.2, "interval95": [-0.3, 0.7]}]) == (-0.3, 0.7)
