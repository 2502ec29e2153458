"""The data sets that are examined together: read, and their pictures looked at."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from detector.data.catalog import load_dataset
from detector.data.doctor import seen
from detector.data.doctor.part import Part, Role
from detector.data.doctor.pictures import outside
from detector.data.label_files import first_wanted
from detector.data.packed import FLAT, OUTSIDE, beside
from detector.data.problems import KINDS, Finding, Problems, declare
from detector.errors import UserError
from detector.text import counted, none_of

UNREADABLE = declare(
    "set-unreadable", "error", "data sets cannot be read at all", "Do what the message says, and check again."
)
TWICE = declare(
    "set-named-twice",
    "warning",
    "data sets are named twice",
    "Name another one: a test on what was trained on says nothing of new pictures.",
)
EMPTY = declare(
    "set-without-objects",
    "error",
    "sets have no object at all",
    "Find out where their annotations are: nothing can be learnt of pictures alone.",
)
TEST_EMPTY = declare(
    "test-without-objects",
    "warning",
    "sets of a test have no object, so that nothing is measured on them",
    "Find out where their annotations are, unless they are kept back.",
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
            source = load_dataset(entry, root, problems)
            parts.append(Part(entry, source, role, told=tuple(problems.findings)))
        except (UserError, OSError) as error:
            found.append(Finding(UNREADABLE, str(error), record=entry))
        # What is said of a file as a whole is said once, also where it has several splits.
        found += [one for one in problems.findings if one.picture or one.record or one not in found]
    return parts, [*found, *_other_lists(parts)]


def _other_lists(parts: Sequence[Part]) -> list[Finding]:
    """Data sets that cannot be under the list of classes of the first that has one."""
    first = next((part for part in parts if part.index.listed), None)
    found = []
    for part in parts:
        if first is None or part is first:
            continue
        try:
            beside(first.index, part.index)
        except UserError as error:
            found.append(Finding(LISTS_DIFFER, str(error), record=part.entry))
    return found


def without_objects(parts: Sequence[Part]) -> list[Finding]:
    """Data sets in which nothing can be learnt, or measured."""
    found = []
    for part in parts:
        if part.objects.any():
            continue
        index, number = part.index, len(part.index.labels)
        if not len(index):
            why = "no picture is left, as was said" if part.told else "there is no picture"
        elif number:
            crowds = int(index.crowd.sum())
            marked = counted(crowds, "is|are marked as crowd|crowds")
            flat = counted(number - crowds, "has|have no area inside a picture")
            why = f"of its {counted(number, 'annotation|annotations')} {marked}, and {flat}"
        elif any(map(_of_a_box, part.told)):
            why = "none of its annotations can be used"
        elif index.kind == "yolo":
            why = first_wanted(Path(part.path(0)))
        else:
            why = "it has no annotations"
        kind = TEST_EMPTY if _is_test(part) else EMPTY
        found.append(
            Finding(
                kind, f"{part.entry}: {none_of(len(index), 'picture|pictures')} has an object: {why}", record=part.entry
            )
        )
    return found


def _of_a_box(finding: Finding) -> bool:
    """Whether a finding is of an annotation that cannot be used."""
    if KINDS[finding.kind].severity != "error" and finding.kind not in (FLAT, OUTSIDE):
        return False
    return finding.box is not None or re.search(r"annotations\[|:\d+$|#\d+$", finding.record) is not None


def _is_test(part: Part) -> bool:
    """Whether a data set is for tests, by the config or else by its name; such may have none in public."""
    last = re.split(r"[:/\\]", part.entry)[-1].lower()
    return part.role == "test" or (not part.role and re.search(r"(^|[^a-z])test", last) is not None)


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
