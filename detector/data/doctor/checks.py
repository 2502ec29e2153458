"""The table of checks."""

from collections.abc import Callable, Sequence

from detector.data.doctor import balance, boxes, classes, pictures, sets
from detector.data.doctor.part import Part
from detector.data.problems import Finding

CHECKS: list[Callable[[Sequence[Part]], list[Finding]]] = [
    pictures.faults,
    pictures.outside_folder,
    pictures.several_records,
    pictures.copies,
    pictures.look_alikes,
    pictures.not_named,
    sets.without_objects,
    boxes.other_units,
    balance.odd_shares,
    boxes.same_objects,
    boxes.whole_picture,
    boxes.one_pixel,
    boxes.crowds,
    classes.unused,
    classes.from_one,
    classes.single,
    classes.names_alike,
    classes.one_sided,
    balance.skew,
]
"""Functions of the data sets that are examined together; each is pure and returns what it finds."""
