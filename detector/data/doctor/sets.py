"""The data sets that are examined together: read, and their pictures looked at."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from detector.data.catalog import load_dataset
from detector.data.doctor import seen
from detector.data.doctor.part import Part, Role
from detector.data.doctor.pictures import outside
from detector.data.packed import check_same_classes
from detector.data.problems import Finding, Problems, declare
from detector.errors import UserError

UNREADABLE = declare(
    "set-unreadable", "error", "data sets cannot be read at all", "Do what the message says, and check again."
)
TWICE = declare(
    "set-named-twice",
    "warning",
    "data sets are named twice",
    "Name another one: a test on what was trained on says nothing of new pictures.",
)
LISTS_DIFFER = declare(
    "class-lists-differ",
    "error",
    "data sets list other classes than the first one, so they cannot be used together",
    "Give all files the same list of classes, with the same ids.",
)

Pictures = Literal["all", "headers", "none"]
"""How closely pictures are looked at: read and decoded; header and end; not at all."""


def read_sets(entries: Sequence[tuple[str, Role]], root: str | Path) -> tuple[list[Part], list[Finding]]:
    """Reads data sets, and collects what the readers find. A set that cannot be read is a finding.

    entries: as in DATASETS, each with what it is used for.
    """
    parts: list[Part] = []
    found: list[Finding] = []
    roles: dict[str, Role] = {}
    for entry, role in entries:
        if entry in roles:
            used = " and ".join(dict.fromkeys(f"for {one}" for one in (roles[entry], role) if one)) or "twice"
            found.append(Finding(TWICE, f"{entry} is named {used}", record=entry))
            continue
        roles[entry] = role
        problems = Problems(everything=True)
        try:
            parts.append(Part(entry, load_dataset(entry, root, problems), role))
        except (UserError, OSError) as error:
            found.append(Finding(UNREADABLE, str(error), record=entry))
        found += problems.findings
    return parts, [*found, *_other_lists(parts)]


def _other_lists(parts: Sequence[Part]) -> list[Finding]:
    """Files of COCO's format, whose list of classes is fixed, that differ from the first of them."""
    fixed = [part for part in parts if part.index.kind == "coco"]
    found = []
    for part in fixed[1:]:
        try:
            check_same_classes(fixed[0].index, part.index)
        except UserError as error:
            found.append(Finding(LISTS_DIFFER, str(error), record=part.entry))
    return found


def without_crowds(part: Part) -> Part:
    """The data set with its crowd regions as objects."""
    index, number = part.index, int(part.index.crowd.sum())
    source = replace(part.source, index=replace(index, crowd=np.zeros_like(index.crowd)))
    return replace(part, source=source, uncrowded=number) if number else part


def with_pictures(parts: Sequence[Part], pictures: Pictures, allow_outside: bool = False) -> list[Part]:
    """The data sets with what is seen of their pictures; those outside of the folder are not opened.

    allow_outside: unless that is wished.
    """
    if pictures == "none":
        return list(parts)
    return [
        replace(
            part,
            seen=seen.look(part.source.folder, part.index, pictures == "all", None if allow_outside else outside(part)),
        )
        for part in parts
    ]
