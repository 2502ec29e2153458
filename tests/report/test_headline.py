"""The answer in sentences: no claim without a paired difference, ties called ties."""

import pytest
from helpers import comparisons

from detector.report.headline import headline, reading

ALONE = "of one run each; seeds not counted"


def said(document):
    return " ".join(headline(document))


def test_two_models():
    better = comparisons.results({"a": 0.5, "b": 0.55})
    assert headline(better) == [
        f"b is better than a: AP 55.0 against 50.0, a difference of +5.0 (+3.0 .. +7.0), {ALONE}."
    ]
    worse = comparisons.results({"a": 0.55, "b": 0.5})
    assert headline(worse) == [
        f"a is better than b: AP 55.0 against 50.0, a difference of +5.0 (+3.0 .. +7.0), {ALONE}."
    ]
    tie = comparisons.results({"a": 0.5, "b": 0.51})
    assert headline(tie) == [f"b and a are a tie: AP 51.0 against 50.0, a difference of +1.0 (-1.0 .. +3.0), {ALONE}."]
    both = headline(comparisons.runs(("a", "b")))[0]
    assert both == "b and a are a tie: AP 60.4 against 60.0, a difference of +0.4 (-2.0 .. +2.8)."


def unequal(number):
    """Two models; the second has so many of the first one's three seeds."""
    document = comparisons.runs(("a", "b"))
    other, gap = document["models"]["b"], document["differences"][0]["AP"]
    other["runs"] = other["runs"][:number]
    gap.update(value=0.012 if number == 1 else 0.01, seeds=gap["seeds"] if number > 1 else None)
    if number == 1:
        other["AP"]["seeds"] = None
    return document


def test_of_unequal_seeds_those_are_named_that_both_have():
    """The runs' AP are 59.0, 60.0 and 61.0, and 59.4 and 60.4; the models' own are 60.0 and 60.4."""
    assert headline(unequal(1))[0] == (
        "b and a are a tie: of seed 0 alone, which both have, AP 59.4 against 59.0, a difference of +1.2 "
        "(-2.0 .. +2.8), seeds not counted."
    )
    assert headline(unequal(2))[0].startswith(
        "b and a are a tie: of seeds 0 and 1, which both have, AP 59.9 against 59.5, a difference of +1.0 ("
    )
    assert "which both have" not in said(unequal(3))
    apart = unequal(1)
    apart["models"]["b"]["runs"][0]["seed"] = 7  # then the difference is of all
    assert "tie: AP 60.4 against 60.0," in said(apart)


def test_so_they_are_where_several_models_are_compared():
    document = comparisons.runs(("a", "b", "c"))
    del document["models"]["c"]["runs"][0]
    assert "c with 63.1 (60.7 .. 65.5); better than a, the difference being +3.1 (+0.7 .. +5.5), of seeds 1 and 2." in (
        said(document)
    )


def test_reading_names_the_intervals_that_hold_no_seeds():
    line = "Of the images alone are the intervals of AP of b, b minus a: one seed tells nothing of others."
    assert line in reading(unequal(1))
    assert not any("alone are" in one for one in reading(unequal(2)))
    assert not any("alone are" in one for one in reading(comparisons.results({"a": 0.5, "b": 0.6})))


def test_the_seeds_of_a_single_model_are_its_noise():
    document = comparisons.runs(("a",))
    assert headline(document)[:2] == [
        "AP of a: 60.0 (57.6 .. 62.4).",
        "By seed: 59.0 (SEED 0), 60.0 (SEED 1), 61.0 (SEED 2); a standard deviation of 0.8.",
    ]
    del document["models"]["a"]["AP"]["seeds"]  # as of one run
    assert not any(line.startswith("By seed") for line in headline(document))


def test_the_best_of_several_is_told_from_the_first_alone():
    document = comparisons.results({"a": 0.5, "b": 0.51, "c": 0.58, "d": 0.40, "e": 0.57})
    assert headline(document) == [
        f"Highest AP: c with 58.0 (56.0 .. 60.0); better than a, the difference being +8.0 (+6.0 .. +10.0); {ALONE}.",
        "Also better than a: e. Worse than a: d. Ties with a: b.",
    ]


def test_the_highest_may_be_a_tie():
    document = comparisons.results({"a": 0.5, "b": 0.51, "d": 0.40})
    assert said(document).startswith("Highest AP: b with 51.0 (49.0 .. 53.0); a tie with a, the difference being +1.0")
    assert "etter than" not in said(document)
    all_alike = comparisons.results({"a": 0.5, "b": 0.51, "c": 0.495})
    assert "No model is told from a: all 2 are ties with it." in said(all_alike)


def test_the_first_may_be_the_highest():
    document = comparisons.results({"a": 0.5, "b": 0.45, "c": 0.4})
    assert headline(document) == [
        f"Highest AP: a with 50.0 (48.0 .. 52.0); it is the model that the others are compared with; {ALONE}.",
        "Worse than a: b, c.",
    ]


def test_the_fastest_and_what_it_loses():
    document = comparisons.runs(("a", "b", "c", "d"))
    document["models"]["d"]["facts"]["image_s"] = 0.01
    for model in document["models"].values():
        model["facts"]["image_s_rounds"] = [model["facts"]["image_s"] + more for more in (-0.001, 0.0, 0.02)]
    assert headline(document)[-1] == (
        "Fastest: d, 10 ms an image against 52 ms of a; in AP worse than a, the difference being -2.7 (-5.1 .. -0.3)."
    )
    document["models"]["d"]["facts"]["image_s_rounds"] = [0.009, 0.01, 0.055]
    assert headline(document)[-1].startswith(
        "Fastest: d, 10 ms an image against 52 ms of a, not told from a, whose rounds overlap with its own; in AP worse"
    )
    document["models"]["d"]["facts"]["image_s_rounds"] = [0.009, 0.01, 0.1]
    assert headline(document)[-1] == (
        "Which is fastest is not certain: d took the least, 10 ms an image against up to 74 ms of c, but its slowest "
        "round (100 ms) was no faster than the fastest round of any other; was the machine busy while timing?"
    )
    two = {**document, "models": {name: document["models"][name] for name in "ad"}}
    assert "certain: d took the least, 10 ms an image against 52 ms of a, but its slowest round" in said(two)
    del document["models"]["b"]["facts"]["image_s_rounds"]
    assert headline(document)[-1].startswith("Least time (how far it varies is not known): d, 10 ms an")
    for model in document["models"].values():
        model["facts"]["image_s"] = None
        model["facts"]["step_s_rounds"] = [model["facts"]["step_s"]] * 3
    assert headline(document)[-1] == "Fastest: a, 1.1 s a step of training."
    for model in document["models"].values():
        model["facts"]["step_s"] = 0.3
    assert "Fastest" not in said(document)


def test_each_head_has_its_highest_where_heads_and_backbones_were_crossed():
    document = comparisons.runs(("a", "b", "c", "d"))
    for place, model in enumerate(document["models"].values()):
        model.update(backbone=f"back{place % 2}", head=f"head{place // 2}")
    assert "Highest AP: c (back0, head1) with 63.1" in said(document)
    assert "Highest of each head: back0 under head1, 63.1; back1 under head0, 60.4." in said(document)
    assert "each head" not in said(comparisons.runs())


def test_without_values_nothing_is_claimed(empty):
    assert headline(empty) == ["There is nothing to find: no model has an AP."]
    document = comparisons.results({"a": 0.5, "b": 0.6})
    document["differences"][0]["AP"] = {**comparisons.NOTHING, "p": None, "tie": True}
    assert headline(document) == ["b and a cannot be compared: one of them has nothing to find."]


def test_one_model():
    assert headline(comparisons.results({"a": 0.5})) == ["AP of a: 50.0 (48.0 .. 52.0)."]


def test_reading_says_which_chance_the_intervals_hold():
    alone = " ".join(reading(comparisons.results({"a": 0.5, "b": 0.6})))
    assert "What another seed of a training would change is not in them." in alone
    assert "1,000 replicates" in alone
    assert "sign-flip" not in alone
    assert "20 equal models" not in alone
    document = comparisons.runs(seeds=3)
    document["notes"] = []
    both = " ".join(reading(document))
    assert "two sources of chance together" in both
    assert "Of 3 seeds the exact sign-flip test has no p below 0.25" in both
    assert "20 equal models" in both
    many = comparisons.runs(seeds=6)
    many["notes"] = []
    assert "sign-flip" not in " ".join(reading(many))


@pytest.mark.parametrize("number", [1, 1203])
def test_reading_says_how_p_values_of_classes_are_corrected(number):
    classes = [f"class {place}" for place in range(number)]
    lines = " ".join(reading(comparisons.results({"a": 0.5, "b": 0.6}, classes)))
    assert ("corrected for their number, 1,203," in lines) == (number == 1203)


def test_one_model_is_told_nothing_of_differences():
    lines = " ".join(reading(comparisons.results({"a": 0.5})))
    for word in ("difference", "tie", "Holm", "paired", "Verdicts"):
        assert word not in lines
    assert "95 % interval" in lines
    assert "paired" not in " ".join(reading(comparisons.runs(("a",))))


def test_what_another_seed_would_change_is_said_once():
    document = comparisons.results({"a": 0.5, "b": 0.6})
    document["notes"] = ["What another seed of a training would change is not in the intervals: there is one run."]
    assert "another seed" not in " ".join(reading(document))


def test_verdicts_of_measures_are_said_not_to_be_corrected():
    assert "twelve measures are not corrected" in " ".join(reading(comparisons.results({"a": 0.5, "b": 0.6})))
