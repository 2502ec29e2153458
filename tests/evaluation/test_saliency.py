"""Measures of maps: by hand, and equal to pysodmetrics'."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from detector.errors import UserError
from detector.evaluation.saliency import MEASURES, SaliencyEvaluator, measure, stretched

KINDS = (
    "plain",
    "one level",
    "no object",
    "all object",
    "dark",
    "light",
    "few levels",
    "grey mask",
    "a pixel",
    "perfect",
)


def case(number):
    """A map uint8 [H, W] and a mask of grey levels; of ten kinds in their turns."""
    rng = np.random.default_rng([7, number])
    height, width = rng.integers(8, 40, 2)
    levels = rng.integers(0, 256, (height, width), dtype=np.uint8)
    mask = np.where(rng.random((height, width)) < rng.uniform(0.1, 0.9), 255, 0).astype(np.uint8)
    kind = KINDS[number % len(KINDS)]
    if kind in ("one level", "dark", "light"):
        levels[:] = {"one level": 77, "dark": 0, "light": 255}[kind]
    if kind in ("no object", "all object"):
        mask[:] = 255 * (kind == "all object")
    if kind == "few levels":
        levels = levels // 64 + np.uint8(100)
    if kind == "grey mask":
        mask = rng.integers(0, 256, mask.shape, dtype=np.uint8)
    if kind == "a pixel":
        mask[:] = 0
        mask[3, 4] = 255
    return (mask.copy() if kind == "perfect" else levels), mask


def measured(cases):
    evaluator = SaliencyEvaluator(Path("set"), range(len(cases)))
    for i, (levels, mask) in enumerate(cases):
        evaluator.add(levels, mask > 128, i)
    return evaluator.compute()


def oracle(cases):
    """The same by pysodmetrics."""
    sod = pytest.importorskip("py_sod_metrics")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f, mae, structure = sod.Fmeasure(), sod.MAE(), sod.Smeasure()
    for levels, mask in cases:
        for one in (f, mae, structure):
            one.step(pred=levels, gt=mask)
    found = f.get_results()
    p, r = found["pr"]["p"], found["pr"]["r"]
    best = np.divide(1.3 * p * r, 0.3 * p + r, out=np.zeros(256), where=p + r > 0).max()
    values = (
        best,
        found["fm"]["curve"].max(),
        found["fm"]["adp"],
        mae.get_results()["mae"],
        structure.get_results()["sm"],
    )
    return dict(zip(MEASURES, values, strict=True))


@pytest.mark.parametrize("number", range(20))
def test_one_map_is_measured_as_pysodmetrics_does(number):
    assert measured([case(number)]) == pytest.approx(oracle([case(number)]), abs=1e-9, nan_ok=False)


def test_a_set_is_measured_as_pysodmetrics_does():
    cases = [case(i) for i in range(40)]
    assert measured(cases) == pytest.approx(oracle(cases), abs=1e-9, nan_ok=False)


FROZEN = {
    "plain": (0.226350425, 0.226350425, 0.019877676, 0.492864514, 0.332952864),
    "one level": (0.186602871, 0.186602871, 0.0, 0.361372549, 0.440453543),
    "no object": (0.0, 0.0, 0.0, 0.5088812, 0.4911188),
    "all object": (1.0, 1.0, 0.11738149, 0.515853322, 0.484146678),
    "dark": (0.516859587, 0.516859587, 0.516859587, 0.451428571, 0.274285714),
    "light": (0.18064207, 0.18064207, 0.18064207, 0.855, 0.0725),
    "few levels": (0.254507245, 0.254507245, 0.184907151, 0.507638073, 0.283297848),
    "grey mask": (0.582633053, 0.582633053, 0.174496644, 0.500881727, 0.320899253),
    "a pixel": (0.001345338, 0.001345338, 0.0, 0.502051561, 0.322555295),
    "perfect": (1.0, 1.0, 1.0, 0.0, 1.0),
    "all": (0.368715762, 0.340338854, 0.219416462, 0.469597152, 0.402221),
}
"""What pysodmetrics 1.6.2 gives for one map of each kind, and for all of them."""


@pytest.mark.parametrize("kind", [*KINDS, "all"])
def test_measures_are_the_numbers_that_pysodmetrics_gave(kind):
    cases = [case(i) for i in range(len(KINDS)) if kind in ("all", KINDS[i])]
    assert measured(cases) == pytest.approx(dict(zip(MEASURES, FROZEN[kind], strict=True)), abs=1e-6)


def test_f_by_hand():
    """Half of the object is found at level 200, and as much beside it; all of it at 100."""
    levels = np.array([[200, 200, 100, 0], [200, 200, 100, 0]], np.uint8)
    mask = np.array([[0, 1, 1, 0], [0, 1, 1, 0]], np.uint8)
    found = measure(levels, mask)
    at_half, at_all = (1.3 * 0.5 * 0.5 / (0.3 * 0.5 + 0.5), 1.3 * (2 / 3) / (0.3 * (2 / 3) + 1))
    evaluator = SaliencyEvaluator(Path("set"), ["a"])
    evaluator.add(levels, mask, "a")
    assert evaluator.compute()["max_f"] == pytest.approx(max(at_half, at_all))
    assert found.adaptive_f == pytest.approx(at_half)  # twice the mean is above 1, and only 200 is stretched to that
    assert found.mae == pytest.approx((1 + 0 + 0.5 + 0) / 4)
    assert found.precision[255 - 127] == pytest.approx(2 / 3)  # 100 of 200 is 127.5, which is cut
    assert found.precision[255 - 128] == 0.5
    assert (found.precision[255], found.recall[255]) == (0.5, 1)


def test_maps_are_stretched_unless_they_have_one_level():
    assert stretched(np.array([[10, 20], [30, 10]], np.uint8)).tolist() == [[0, 0.5], [1, 0]]
    assert stretched(np.full((2, 2), 51, np.uint8)).tolist() == [[0.2, 0.2]] * 2


def test_a_mask_at_the_edge_has_a_measure_where_pysodmetrics_has_none():
    levels, mask = np.full((5, 6), 30, np.uint8), np.zeros((5, 6), np.uint8)
    levels[2:, 2:], mask[:, 5] = 200, 1
    assert 0.3 < measure(levels, mask).s_measure < 0.5


def test_processes_share_a_set_and_each_picture_counts_once():
    cases = {f"p{i}": case(i) for i in range(6)}
    whole, first, second = (SaliencyEvaluator(Path("set"), [*cases]) for _ in range(3))
    for i, (name, (levels, mask)) in enumerate(cases.items()):
        whole.add(levels, mask > 128, name)
        (second if i % 3 else first).add(levels, mask > 128, name)
    first.merge([second.given])
    assert first.compute() == whole.compute()
    assert first.results() == whole.results()
    assert [row["image_id"] for row in whole.results()] == [*cases]
    with pytest.raises(ValueError, match="'p1' was evaluated by two processes"):
        first.merge([second.given])
    with pytest.raises(ValueError, match="'p0' was evaluated before"):
        first.add(*case(0), "p0")
    with pytest.raises(KeyError, match="'p9' is not in set"):
        first.add(*case(0), "p9")


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="expected levels"):
        measure(np.zeros((2, 2)), np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="expected levels"):
        measure(np.zeros((2, 3), np.uint8), np.zeros((2, 2), np.uint8))
    with pytest.raises(UserError, match="no picture was evaluated"):
        SaliencyEvaluator(Path("set"), ["a"]).compute()
