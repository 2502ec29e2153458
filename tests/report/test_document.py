"""What report.json says beside its numbers."""

import numpy as np

from detector.evaluation.evidence import Evidence
from detector.evaluation.matching import AREAS
from detector.evaluation.seeds import Training
from detector.evaluation.significance import Resampled
from detector.report.document import Model, few_images

EMPTY = np.zeros(0)


def model(*objects):
    """A model tested on 60 images. objects: (class, image, range of areas)."""
    keys = sorted({c * 60 + image for c, image, _ in objects})
    held = np.zeros((len(AREAS), len(keys)), bool)
    for c, image, area in objects:
        held[[0, [*AREAS].index(area)], keys.index(c * 60 + image)] = True
    basis = Evidence(EMPTY, 60, np.array(keys), held, EMPTY, EMPTY)
    return Model([Training(0, Resampled(EMPTY, EMPTY, EMPTY, basis))], {})


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
