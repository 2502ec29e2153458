"""What is wrong with the pictures: one of them, or two that are the same."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from detector.data.catalog import Source
from detector.data.doctor.alike import alike
from detector.data.doctor.part import Part, apart
from detector.data.doctor.seen import MISSING
from detector.data.formats.voc_layout import files_below
from detector.data.names import leads_out
from detector.data.partners import Partners
from detector.data.plausible import SHARED, named_twice
from detector.data.problems import Finding, declare
from detector.data.suffixes import SUFFIXES
from detector.text import agreeing, counted

OUTSIDE = declare(
    "picture-outside-folder",
    "error",
    "pictures lie outside the folder of the pictures",
    "Name files relative to it, or write DATASETS.ALLOW_OUTSIDE True if you trust the annotations.",
)
TWICE = declare(
    "picture-twice",
    "warning",
    "pictures are copies of another one in their data set",
    "Keep one of each: copies count twice in training, and with other boxes they contradict each other.",
)
SAME_SET = declare(
    "sets-the-same",
    "error",
    "data sets have the same pictures as another one",
    "Name other pictures: measures on pictures that were trained on say little.",
)
LEAK = SHARED
"""Copies of a picture are as bad as the picture itself."""

ALIKE = declare(
    "picture-alike",
    "note",
    "pictures look like another one in their data set",
    "Look at some: frames of a video and augmented copies belong into the same split.",
)
LEAK_ALIKE = declare(
    "picture-alike-in-two-sets",
    "warning",
    "pictures look like one in another data set",
    "Look at some: copies that were saved anew, or neighbouring frames, make the test too easy.",
)

UNNAMED = declare(
    "pictures-not-named",
    "note",
    "folders have pictures most of which no record of the examined data sets names",
    "Nothing, if another data set has them; else label them, or find out where their records are.",
)


def faults(parts: Sequence[Part]) -> list[Finding]:
    """Pictures that are missing or cannot be used, and those that viewers show otherwise."""
    found = []
    for part in parts:
        told = part.seen.faults if part.seen else {}
        missing, named = any(kind == MISSING for kind, _ in told.values()), set(part.index.file_names.tolist())
        partners = Partners(file for file in (_below(part.source.folder) if missing else ()) if file not in named)
        for image, (kind, said) in sorted(told.items()):
            partner = partners.of(str(part.index.file_names[image])) if kind == MISSING else None
            found.append(part.on_image(kind, image, f"{said}; it may be there {partner.what()}" if partner else said))
    return found


def _below(folder: Path) -> list[str]:
    """The pictures at every depth in a folder; none in one that is not there, or that only others may read."""
    with suppress(OSError):
        return [name for name in files_below(folder) if os.path.splitext(name)[1].lower() in SUFFIXES]
    return []


def outside(part: Part) -> np.ndarray:
    """[N] bool: pictures whose names lead out of the folder."""
    return np.array([leads_out(name) for name in part.index.file_names.tolist()], bool)


def outside_folder(parts: Sequence[Part]) -> list[Finding]:
    """Pictures whose names lead out of the folder."""
    return [
        part.on_image(OUTSIDE, image, f"{str(part.index.file_names[image])!r} leads out of {part.source.folder}")
        for part in parts
        for image in np.flatnonzero(outside(part)).tolist()
    ]


def not_named(parts: Sequence[Part]) -> list[Finding]:
    """Folders of COCO files, most of whose pictures none of the data sets names; other formats' are read whole."""
    known = {path for part in parts for path in _paths(part)}
    found = []
    for folder, part in {os.path.realpath(one.source.folder): one for one in parts if one.index.kind == "coco"}.items():
        every = _below(Path(folder))
        rest = [name for name in every if os.path.normpath(os.path.join(folder, name)) not in known]
        if 2 * len(rest) > len(every):  # a smaller rest is that of a split which is not examined
            number = f"{len(rest)} of its {counted(len(every), 'picture|pictures')} {agreeing(len(rest), 'is|are')}"
            text = f"{part.source.folder}: {number} named by no record of {part.index.path}, e.g. {rest[0]}"
            found.append(Finding(UNNAMED, text, record=str(part.index.path)))
    return found


class _Pictures:
    """The pictures of all data sets under consecutive places; several records of one file are one place.

    part, image: of a place; same: places whose files have the same bytes have the same number.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.part, self.image = list[int](), list[int]()
        keys: list[object] = []
        for number, part in enumerate(parts):
            paths: dict[str, int] = {}
            for image, path in enumerate(_paths(part)):
                paths.setdefault(path, image)
            for path, image in paths.items():
                digest = part.seen.digests[image].tobytes() if part.seen else b""
                self.part.append(number)
                self.image.append(image)
                keys.append(digest if any(digest) else path)
        numbers: dict[object, int] = {}
        self.same = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)

    def finding(self, kind: str, place: int, verb: str, other: int) -> Finding:
        """Of the picture at one place: what it does to that at another; with their sets where these are two."""
        one, two = self.part[place], self.part[other]
        there = str(self.parts[two].path(self.image[other]))
        said = f"{self.name(place)} {verb} {there}"
        if one != two:
            said = f"{self.name(place)} of {self.parts[one].entry} {verb} {there} of {self.parts[two].entry}"
        return self.parts[one].on_image(kind, self.image[place], said)

    def name(self, place: int) -> str:
        """The file, relative to its folder."""
        return str(self.parts[self.part[place]].index.file_names[self.image[place]])


def copies(parts: Sequence[Part]) -> list[Finding]:
    """Pictures that are there twice, by their bytes, or by their names where they were not read."""
    pictures, found = _Pictures(parts), []
    first: dict[tuple[int, int], int] = {}  # number, part -> place
    for place, (number, part) in enumerate(zip(pictures.same.tolist(), pictures.part, strict=True)):
        if (number, part) in first:
            found.append(pictures.finding(TWICE, place, "has the same bytes as", first[number, part]))
        first.setdefault((number, part), place)
    for one, other in apart(parts):
        if set_ := _whole(parts, one, other):
            found.append(set_)
            continue
        for (number, part), place in first.items():
            if part == other and (number, one) in first:
                found.append(pictures.finding(LEAK, place, "is the same picture as", first[number, one]))
    return found


def _whole(parts: Sequence[Part], one: int, other: int) -> Finding | None:
    """A finding for two data sets that name the same files, as where two splits name one folder."""
    ours, theirs = (set(_paths(parts[place])) for place in (one, other))
    if ours != theirs or len(ours) < 2:
        return None
    first, second = parts[one], parts[other]
    text = (
        f"{second.entry} has the same {counted(len(ours), 'picture|pictures')} as {first.entry}, in "
        f"{second.source.folder}: is that the folder, list or file that was meant?"
    )
    return Finding(SAME_SET, text, record=second.entry)


def _paths(part: Part) -> list[str]:
    folder = os.path.realpath(part.source.folder)
    return [os.path.normpath(os.path.join(folder, name)) for name in part.index.file_names.tolist()]


def several_records(parts: Sequence[Part]) -> list[Finding]:
    """Pictures that several records name: of one data set, or of several that a config uses for the same."""
    groups: dict[object, list[Source]] = {}
    for place, part in enumerate(parts):
        groups.setdefault(part.role or place, []).append(part.source)
    return [finding for sources in groups.values() for finding in named_twice(sources)]


def look_alikes(parts: Sequence[Part]) -> list[Finding]:
    """Pictures that look alike and are no copies; of each the first that it looks like, in its set and elsewhere."""
    seen = [part.seen for part in parts if part.seen]
    if len(seen) < len(parts):
        return []
    pictures, across = _Pictures(parts), set(apart(parts))
    starts = np.cumsum([0, *(len(one.hashes) for one in seen)])
    places = np.array([starts[p] + i for p, i in zip(pictures.part, pictures.image, strict=True)], np.int64)
    hashes, thumbs, decoded = (
        np.concatenate([getattr(one, field) for one in seen])[places] for field in ("hashes", "thumbs", "decoded")
    )
    known = np.flatnonzero(decoded)
    found, told = [], set()
    for one, other in known[alike(hashes[known], thumbs[known])].tolist():
        if pictures.same[one] == pictures.same[other]:
            continue
        pair = pictures.part[one], pictures.part[other]
        kind = ALIKE if pair[0] == pair[1] else LEAK_ALIKE if pair in across else ""
        if kind and (kind, other) not in told:
            told.add((kind, other))
            found.append(pictures.finding(kind, other, "looks like", one))
    return found
