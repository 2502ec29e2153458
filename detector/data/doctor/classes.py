"""What is wrong with the classes: their names, and where they have objects."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from detector.data.doctor.part import Part
from detector.data.formats import yolo_lines
from detector.data.problems import Finding, declare
from detector.text import counted

UNUSED = declare(
    "class-unused",
    "warning",
    "classes have no object",
    "Take them out of the list, or find out where their objects are: a detector gets an output for each.",
)
CROWDS_ONLY = declare(
    "class-of-crowds",
    "warning",
    "classes have crowd regions only, which are not trained on",
    "Set iscrowd to 0, or write DATASETS.CROWDS objects, where they are single objects.",
)
FROM_ONE = declare(
    "classes-from-one",
    "error",
    "sets have classes that seem to start at 1, where YOLO's start at 0",
    "Subtract 1 from the class of every line; a name more in `names` would shift all.",
)
SINGLE = declare(
    "class-with-one-object", "warning", "classes have a single object", "Label more of them, or take the class out."
)
ALIKE = declare(
    "class-names-alike",
    "warning",
    "classes have nearly the name of another one",
    "Give all their objects one name, if they are the same.",
)
ONE_SIDED = declare(
    "class-missing-in-a-set",
    "warning",
    "classes have objects in some of the data sets and none in another one",
    "Divide the pictures anew: such classes are trained and not measured, or the other way round.",
)


def names(part: Part) -> list[str]:
    """The names of the classes of a data set; with its id where one before has the same."""
    index = part.index
    return [
        f"{name} (id {id_})" if name in index.classes[:label] else name
        for label, (name, id_) in enumerate(zip(index.classes, index.category_ids, strict=True))
    ]


def counts(parts: Sequence[Part]) -> dict[str, list[int]]:
    """Class -> its objects in each of the data sets, classes in the order of the first set that has them."""
    found: dict[str, list[int]] = {}
    for number, part in enumerate(parts):
        labels = part.index.labels[part.objects]
        for name, count in zip(names(part), np.bincount(labels, minlength=len(part.index.classes)), strict=True):
            found.setdefault(name, [0] * len(parts))[number] += int(count)
    return found


def _where(parts: Sequence[Part]) -> str:
    return ", ".join(dict.fromkeys(str(part.index.path) for part in parts))


def unused(parts: Sequence[Part]) -> list[Finding]:
    """Classes without an object in any of the data sets; apart from those that have crowd regions only."""
    some = [part for part in parts if part.objects.any()]  # of files without an object that is said, not of each class
    if not some:
        return []
    lacking = [name for name, numbers in counts(some).items() if not any(numbers)]
    crowds = _crowds(parts)
    found = []
    for name in lacking:
        record = f"class {name!r}"
        if name in crowds:
            text = f"{_where(some)}: all {crowds[name]} annotations of class {name!r} are crowd regions (iscrowd 1)"
            found.append(Finding(CROWDS_ONLY, text, record=record))
            continue
        text = f"{_where(some)}: class {name!r} has no object"
        if [name] == lacking and all(_is_first(name, part) for part in some):
            text += "; where it is the super-category that Roboflow writes first, it is no class: delete its record"
        found.append(Finding(UNUSED, text, record=record))
    return found


def _crowds(parts: Sequence[Part]) -> Counter[str]:
    """Class -> its crowd regions."""
    return Counter(
        name for part in parts for name in np.array(names(part), object)[part.index.labels[part.index.crowd]]
    )


def _is_first(name: str, part: Part) -> bool:
    """Whether it is the category 0 of a file of COCO, where others follow."""
    index = part.index
    return index.kind == "coco" and len(index.classes) > 1 and (index.category_ids[0], index.classes[0]) == (0, name)


def from_one(parts: Sequence[Part]) -> list[Finding]:
    """Label files of YOLO whose classes count from 1: the first class is in no line, and the one after the last is."""
    found = []
    for part in parts:
        index, number = part.index, len(part.index.classes)
        beyond = [one for one in part.told if one.kind == yolo_lines.CLASS]
        if not beyond or (index.labels == 0).any():
            continue
        if all(f"its class is {number}, but" in one.text for one in beyond):
            lines = counted(len(beyond), "line|lines has|have")
            text = (
                f"{index.path}: class 0, {index.classes[0]!r}, is in no line, and {lines} class {number}, one beyond "
                f"the last: do the classes start at 1? Then all names are shifted, e.g. {beyond[0].record}"
            )
            found.append(Finding(FROM_ONE, text, beyond[0].picture, beyond[0].record))
    return found


def single(parts: Sequence[Part]) -> list[Finding]:
    """Classes with one object in all data sets together: its record and box."""
    found = []
    for name, numbers in counts(parts).items():
        if sum(numbers) == 1:
            part = parts[numbers.index(1)]
            label = names(part).index(name)
            row = int(np.flatnonzero(part.objects & (part.index.labels == label))[0])
            found.append(part.on_box(SINGLE, row, f"is the only one of class {name!r}"))
    return found


def plain(name: str) -> str:
    """A name without what people write differently: case, spaces, hyphens and underscores, forms of a letter."""
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name).casefold())


def _forms(name: str) -> set[str]:
    """A plain name and its plural."""
    if name.endswith("ss") or len(name) < 3 or not name[-1].isalpha():  # "glasses" are not several of "glass"
        return {name}
    if re.search(r"[^aeiou]y$", name):
        return {name, f"{name[:-1]}ies"}
    return {name, f"{name}es" if re.search(r"(x|z|s|ch|sh)$", name) else f"{name}s"}


def names_alike(parts: Sequence[Part]) -> list[Finding]:
    """Names that differ by case, spaces or a plural only, or in nothing."""
    found, before, formed = [], dict[str, str](), dict[str, str]()
    for part in parts:
        for name in sorted(name for name, number in Counter(part.index.classes).items() if number > 1):
            ids = [id_ for id_, one in zip(part.index.category_ids, part.index.classes, strict=True) if one == name]
            text = f"{part.index.path}: {len(ids)} classes are called {name!r} (ids {', '.join(map(str, ids))})"
            found.append(Finding(ALIKE, text, record=f"class {name!r}"))
    for name in dict.fromkeys(name for part in parts for name in part.index.classes):
        forms = _forms(plain(name))
        other = next((before[form] for form in sorted(forms) if form in before), None)
        if other is None:
            other = formed.get(plain(name))
        if other is not None:
            there = [part for part in parts if {name, other} & set(part.index.classes)]
            text = f"{_where(there)}: class {name!r} has nearly the name of {other!r}"
            found.append(Finding(ALIKE, text, record=f"class {name!r}"))
        if before.setdefault(plain(name), name) == name:
            for form in _forms(plain(name)):
                formed.setdefault(form, name)
    return found


def one_sided(parts: Sequence[Part]) -> list[Finding]:
    """Classes with objects in some of the data sets only."""
    some = [part for part in parts if part.objects.any()]
    found = []
    for name, numbers in counts(some).items():
        lacking = [part.entry for part, number in zip(some, numbers, strict=True) if not number]
        if lacking and sum(numbers) > 1:  # one object cannot be everywhere
            there = ", ".join(f"{number} in {p.entry}" for p, number in zip(some, numbers, strict=True) if number)
            text = f"class {name!r} has no object in {', '.join(lacking)} ({there})"
            found.append(Finding(ONE_SIDED, text, record=f"class {name!r}"))
    return found
