"""What report.json says beside its numbers."""

import math

import numpy as np

from detector.evaluation.evidence import Evidence
from detector.evaluation.matching import AREAS
from detector.evaluation.seeds import Training, Verdict
from detector.evaluation.significance import Difference, Resampled
from detector.report.document import Model, _difference, _measures, few_images

EMPTY = np.zeros(0)


def model(*objects):
    """A model tested on 60 images. objects: (class, image, range of areas)."""
    keys = sorted({c * 60 + image for c, image, _ in objects})
    held = np.zeros((len(AREAS), len(keys)), bool)
    for c, image, area in objects:
        held[[0, [*AREAS].index(area)], keys.index(c * 60 + image)] = True
    basis = Evidence(EMPTY, 60, np.array(keys), held, EMPTY, EMPTY)
    return Model([Training(0, Resampled(EMPTY, EMPTY, EMPTY, basis))], {})


def test_no_interval_goes_beyond_what_is_possible():
    """Two seeds that lie far apart: Student's t with one degree of freedom has 12.7 standard errors."""
    images = Difference(0.067, 0.1, (-0.2, 0.3), (-0.2, 0.3), 0.6)
    wide = Verdict(0.067, 0.15, (-1.951, 2.085), (math.nan, math.nan), 0.7, images, None)
    assert _difference([wide] * 12, [])["ARl"]["interval95"] == [-1.0, 1.0]
    assert _measures([wide] * 12, [])["ARl"]["interval95"] == [0.0, 1.0]
    near = wide._replace(interval=(-0.3, 0.4))
    assert _difference([near] * 12, [])["AP"]["interval95"] == [-0.3, 0.4]
    assert _measures([near] * 12, [])["AP"]["interval95"] == [0.0, 0.4]
    none = _difference([wide._replace(interval=(math.nan, math.nan))] * 12, [])["AP"]["interval95"]
    assert all(map(math.isnan, none))


def test_classes_of_few_images_are_named_with_the_measures_that_hang_on_them():
    many = [(c, image, "medium") for c in range(2) for image in range(20)]
    large = [(0, image, "large") for image in range(30)]
    assert few_images({"a": model(*many, *large)}, ["cat", "dog"]) == []
    (note,) = few_images({"a": model(*many, *large, (1, 3, "large"))}, ["cat", "dog"])
    assert note.startswith(
        "Fewer than six images hold large objects of dog (1). APl, ARl: one such image moves them far"
    )
    (note,) = few_images({"a": model(*many, *[(2, image, "small") for image in range(5)])}, ["cat", "dog", "owl"])
    assert note.startswith("Fewer than six images hold objects of owl (5). All measures: ")


def test_of_many_classes_of_few_images_three_are_named():
    (note,) = few_images({"a": model(*[(c, c, "large") for c in range(9)])}, [f"class {c}" for c in range(9)])
    assert "objects of class 0 (1), class 1 (1), class 2 (1) and 6 more classes." in note
    unknown = Model([Training(0, Resampled(EMPTY, EMPTY, EMPTY))], {})
    assert few_images({"a": unknown}, ["cat"]) == []
