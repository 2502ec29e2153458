"""Shares of a data set that are hardly meant: pictures without an object, objects that nothing is learnt of."""

from collections.abc import Sequence

import numpy as np

from detector.data.packed import PackedIndex, shown
from detector.data.problems import Finding, declare
from detector.text import agreeing, counted

CROWDS = declare(
    "many-crowds",
    "warning",
    "sets mark many objects as crowds",
    "Write DATASETS.CROWDS objects where they are single objects, e.g. such that were drawn as masks.",
)
DIFFICULT = declare(
    "many-difficult",
    "warning",
    "sets mark many objects as difficult",
    "Write DATASETS.TRAIN_DIFFICULT yes to train on them; tests leave them out in any case.",
)
WITHOUT = declare(
    "many-without-objects",
    "warning",
    "sets have no object in most of their pictures",
    "Finish the labels, or find out where they are: objects without a box are taught as background.",
)

_MANY_REPEATED = 0.05  # share of the objects; COCO's is below 0.001
_SOME_REPEATED = 5  # of them
_LOOK = 100_000  # objects in which repeated ones are sought
_MANY_CROWDS = 0.1  # share of the objects; COCO's is 0.012
_SOME_CROWDS = 5  # of a class that has no other objects
_MANY_DIFFICULT = 0.4  # share of the objects; that of VOC 2007 is 0.2
_MOST_WITHOUT = 0.5  # share of the pictures; COCO's is 0.01
_ENOUGH = 10  # pictures, to say so


def many_crowds(index: PackedIndex) -> list[Finding]:
    """Whether a large share of the objects are crowds, which are neither trained on nor looked for."""
    number = int(index.crowd.sum())
    if number <= _MANY_CROWDS * len(index.crowd):
        return []
    share = 100 * number / len(index.crowd)
    text = (
        f"{index.path}: {number} of {counted(len(index.crowd), 'object|objects')} ({share:.0f} %) "
        f"{agreeing(number, 'has|have')} iscrowd 1, in COCO itself 1 %: "
        "they are not trained on, and whether they are found counts for nothing; where they are single objects, as "
        "CVAT exports those drawn as masks, write DATASETS.CROWDS objects"
    )
    return [Finding(CROWDS, text)]


def crowd_classes(index: PackedIndex) -> list[str]:
    """The classes with several crowd regions and without any other object."""
    crowds = np.bincount(index.labels[index.crowd], minlength=len(index.classes))
    others = np.bincount(index.labels[~index.crowd], minlength=len(index.classes))
    return [index.classes[label] for label in np.flatnonzero((crowds >= _SOME_CROWDS) & (others == 0)).tolist()]


def many_difficult(index: PackedIndex) -> list[Finding]:
    """Whether a large share of the objects are difficult, which by default are neither trained on nor looked for."""
    number = int(index.difficult.sum())
    if number <= _MANY_DIFFICULT * len(index.difficult):
        return []
    share = 100 * number / len(index.difficult)
    text = (
        f"{index.path}: {number} of {counted(len(index.difficult), 'object|objects')} ({share:.0f} %) "
        f"{agreeing(number, 'is|are')} difficult, in VOC itself 20 %: "
        "whether they are found counts for nothing, and only DATASETS.TRAIN_DIFFICULT yes trains on them"
    )
    return [Finding(DIFFICULT, text)]


def many_without(index: PackedIndex) -> list[Finding]:
    """Whether most pictures are without any annotation, though some have them."""
    number = int((np.diff(index.offsets) == 0).sum())
    if len(index) < _ENOUGH or number <= _MOST_WITHOUT * len(index) or number == len(index):
        return []
    text = (
        f"{index.path}: {number} of {counted(len(index), 'picture|pictures')} ({100 * number / len(index):.0f} %) "
        "have no object: is the "
        "labelling finished, and do the annotations name the right pictures? What is not labelled counts as background"
    )
    return [Finding(WITHOUT, text)]


def many_repeated(index: PackedIndex) -> str:
    """A sentence on objects that stand several times in their picture, if they are many; else an empty one.

    Of a large set the first part is looked at, so that a training does not wait for it.
    """
    rows = slice(0, _LOOK)
    images = np.searchsorted(index.offsets, np.arange(len(index.labels[rows])), side="right")
    mixed = images.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + index.labels[rows].astype(np.uint64)
    for column in np.ascontiguousarray(index.boxes_xywh[rows].T + 0.0).view(np.uint64):  # -0.0 is 0.0
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) + column
    mixed.sort()
    number = int((mixed[1:] == mixed[:-1]).sum())
    if number <= max(_SOME_REPEATED, _MANY_REPEATED * len(mixed)):
        return ""
    part = "the first " if len(mixed) < len(index.labels) else ""
    return (
        f"{index.path}: {number} of {part}{counted(len(mixed), 'object|objects')} repeat another one of the same "
        "picture, class and box exactly: they count several times in training and tests; keep one of each"
    )


def only_in_test(train: Sequence[PackedIndex], test: Sequence[PackedIndex]) -> str:
    """A clause on the classes that have objects in the test and none in the training; empty where there are none.

    Crowd regions are no objects.
    """
    trained, tested = (
        dict.fromkeys(index.classes[i] for index in part for i in np.unique(index.labels[~index.crowd]).tolist())
        for part in (train, test)
    )
    only = [name for name in tested if name not in trained]
    if not only or not trained:
        return ""
    alike = {name.strip().casefold(): name for name in trained}
    near = next(((name, alike[form]) for name in only if (form := name.strip().casefold()) in alike), None)
    hint = f"; is {near[0]!r} the {near[1]!r} of the training? Then give them one name" if near else ""
    return (
        f"{counted(len(only), 'class|classes has|have')} objects in the test and none in the training, so that "
        f"nothing is learnt of what is measured: {shown(only)}{hint}"
    )
