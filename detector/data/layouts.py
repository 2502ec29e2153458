"""What data sets a folder holds: those that the readers take from it, in their own layouts."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from detector.data.formats.voc_layout import ALL, ANNOTATIONS, alike, lists_of
from detector.data.formats.yolo_folder import NAMES, NO_SPLIT, UNCLAIMED, Layout, find_layout, find_pictures, yaml_of
from detector.data.json_files import INCOMPLETE, OTHER, JsonFile, best_folder, look_into
from detector.data.problems import Finding, Problems, declare
from detector.data.suffixes import SUFFIXES
from detector.errors import FileAccessError, UserError

PASSED_OVER = declare(
    "file-passed-over",
    "note",
    "JSON files of the folder are passed over",
    "Name them, as IMAGE_FOLDER:FILE.json, if they are what is to be examined.",
)

_MANY = 500  # folders that are looked at
_DEPTH = 4  # folders within each other
_TRIED = 20  # label files, or annotation files, of a folder that are looked into
_OPENED = 1000  # of them, with those that are empty
_JSONS = 100  # JSON files of a folder that are looked into
_HEAD = 4096  # bytes of a file that tell its kind
_LINE = re.compile(rb"\S+(?:\s+[-+.,\deE]+){4,}\s*")
_PARTS = ("labels", "images", "train", "val", "valid", "validation", "test")
_DIVISIONS = (("train", "val", "test"), ("trainval", "test"))  # splits without a picture in common, the finest first


class Found(NamedTuple):
    """The data sets of a folder. entries: as in DATASETS; findings: on what is passed over.

    sure: False where their readers cannot take them as they are, and say why.
    """

    entries: list[str]
    findings: list[Finding]
    sure: bool = True


@dataclass
class _Place:
    """A folder and what lies in it. files: names; inner: the folders in it that are looked at."""

    path: Path
    files: list[str] = field(default_factory=list)
    inner: list["_Place"] = field(default_factory=list)

    def all(self) -> Iterator["_Place"]:
        """It and those in it, at every depth."""
        yield self
        for one in self.inner:
            yield from one.all()

    def ending(self, suffix: str) -> list[Path]:
        """Its files with a suffix, in any case of the letters."""
        return [self.path / name for name in self.files if name.lower().endswith(suffix)]

    @cached_property
    def has_pictures(self) -> bool:
        """Whether pictures lie directly in it."""
        return any(os.path.splitext(name)[1].lower() in SUFFIXES for name in self.files)

    @cached_property
    def has_xml(self) -> bool:
        """Whether annotation files in VOC's format lie directly in it."""
        files = self.ending(".xml")
        heads = list(_heads(files))
        return any(b"annotation" in head.replace(b"\0", b"").lower() for head in heads) or bool(files and not heads)

    @cached_property
    def has_labels(self) -> bool:
        """Whether label files in YOLO's format lie directly in it."""
        heads = _heads(self.ending(".txt"))
        return any(_LINE.fullmatch(head.removeprefix(b"\xef\xbb\xbf").strip().split(b"\n")[0]) for head in heads)


def find_data_sets(folder: Path) -> Found:
    """The data sets in a folder, and in those in it: YOLO exports, folders in VOC's layout, COCO files.

    Of a set with splits there is an entry for each of those that share no picture. A split of YOLO's that is not there
    is a finding, unless it is that of the training.
    """
    top = _scan(folder)
    entries: list[str] = []
    findings: list[Finding] = []
    doubtful: list[Path] = []
    claimed: dict[Path, str] = {}
    for place in _in_breadth(top):
        if _within(place.path, claimed):
            continue
        try:
            found, homes, sure = _yolo(place, findings), [place.path], True
            if found is None:
                doubtful.append(place.path)
            if not found:
                found, homes = _voc(place)
        except OSError:  # it went meanwhile
            continue
        if found:
            claimed |= dict.fromkeys(homes, found[0])
            entries += found
    inside, passed_over, incomplete = _coco(top, claimed)
    claimed |= {place: entry for entry, place in inside.items()}
    entries += sorted(inside)
    scattered = _scattered(top, claimed)
    claimed |= {Path(entry[4:-4]): entry for entry in scattered}
    entries += scattered
    sure = bool(entries or incomplete)
    entries = entries or incomplete
    for home in doubtful:  # whose reader says what it lacks
        if not _within(home, claimed) and not any(one.is_relative_to(home) for one in claimed):
            claimed[home] = f"yolo:{home}:{ALL}"
            entries.append(claimed[home])
    if not entries and any(place.has_xml for place in top.all()):
        entries = [f"voc:{folder}:{ALL}"]
    return Found(entries, [*findings, *passed_over], sure)


def _scan(folder: Path) -> _Place:
    """The folder and those in it, but for hidden ones; the upper ones first, where they are many."""
    top, real = _Place(folder), os.path.realpath(folder)
    level, seen = [top], 0
    for depth in range(_DEPTH + 1):
        following = []
        for place in level:
            try:
                with os.scandir(place.path) as found:
                    inside = sorted(found, key=lambda one: one.name)
                    names = [one.name for one in inside if depth < _DEPTH and one.is_dir() and _is_open(one, real)]
                    place.files = [one.name for one in inside if not one.is_dir() and not one.name.startswith(".")]
            except OSError as error:
                if place is top:
                    raise FileAccessError(f"{folder} cannot be read: {error.strerror}") from None
                continue
            names = [name for name in names if not name.startswith((".", "__MACOSX"))]
            place.inner = [_Place(place.path / name) for name in names[: max(_MANY - seen, 0)]]
            seen += len(place.inner)
            following += place.inner
        level = following
    return top


def _is_open(one: os.DirEntry[str], top: str) -> bool:
    """Whether a folder may be looked into: links into the tree, or to a folder above it, would go in circles."""
    if one.is_symlink():
        real = os.path.realpath(one.path)
        if real == top or real.startswith(os.path.join(top, "")) or top.startswith(os.path.join(real, "")):
            return False
    return os.access(one.path, os.R_OK | os.X_OK)


def _in_breadth(top: _Place) -> Iterator[_Place]:
    level = [top]
    while level:
        yield from level
        level = [one for place in level for one in place.inner]


def _within(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _heads(paths: Sequence[Path]) -> Iterator[bytes]:
    """The beginnings of the first files that hold anything."""
    tried = 0
    for path in paths[:_OPENED]:
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD)
        except OSError:
            continue
        if head.strip():
            yield head
            tried += 1
        if tried == _TRIED:
            return


# ---------------------------------------------------------------------------- YOLO


def _yolo(place: _Place, findings: list[Finding]) -> list[str] | None:
    """The splits of a folder in YOLO's layout, none of another one; None where it has labels that cannot be read."""
    try:
        file = yaml_of(place.path)
        labelled = file is not None or _labelled(place)
        layout = find_layout(place.path) if labelled else None
    except UserError:  # of a config, for instance
        if any((place.path / name).is_file() for name in NAMES):
            return [f"yolo:{place.path}:{ALL}"]
        return None if _labelled(place) else []
    if layout is None or (not layout.splits and not _labelled(place)):
        return []
    return _splits(place.path, layout, findings)


def _labelled(place: _Place) -> bool:
    """Whether label files lie where the reader looks for them; anywhere below a list of classes."""
    if place.has_labels and place.has_pictures:
        return True
    listed = any(name in ("classes.txt", "obj.names") or name.endswith(".names") for name in place.files)
    labels = [one for one in place.inner if one.path.name.lower() == "labels"]
    if listed and labels and not any(one.ending(".xml") for one in labels[0].all()):
        return True
    spots = [one for one in place.inner if listed or one.path.name.lower() in _PARTS or one.path.name[:4] == "obj_"]
    return any(one.has_labels for spot in spots for one in spot.all())


def _splits(home: Path, layout: Layout, findings: list[Finding]) -> list[str]:
    """The entries of the splits whose pictures are there, and of train; a finding for each of the others."""
    lost = {split: text for split in layout.splits if (text := _lost(layout, split))}
    if not lost.keys() - {"train"} or len(lost) == len(layout.splits):
        lost = {}
    findings += [Finding(NO_SPLIT, text, record=str(layout.path)) for split, text in lost.items() if split != "train"]
    problems = Problems(everything=True)
    with suppress(UserError):  # which whoever reads the split says
        find_pictures(layout, ALL, problems)
    findings += [one for one in problems.findings if one.kind == UNCLAIMED]
    return [f"yolo:{home}:{split}" for split in layout.splits or (ALL,) if split not in lost or split == "train"]


def _lost(layout: Layout, split: str) -> str:
    """Why a split has no picture at all; "" where it has some, or a list of some."""
    try:
        find_pictures(layout, split, Problems(everything=True))
    except UserError as error:
        return str(error)
    return ""


# ---------------------------------------------------------------------------- VOC


def _voc(place: _Place) -> tuple[list[str], list[Path]]:
    """The splits of a folder in VOC's layout that share no picture, and the folders that they take up; none else."""
    with_xml = {one.path.name: one for one in place.inner if any(inner.has_xml for inner in one.all())}
    home = next((with_xml[name] for name in ANNOTATIONS if name in with_xml), None)
    lists = list(lists_of(place.path))
    if home is not None or (place.has_xml and place.has_pictures):
        names = lists or [one.path.name for one in (home.inner if home else ()) if any(p.has_xml for p in one.all())]
        return [f"voc:{place.path}:{split}" for split in _division(names) or [ALL]], [place.path]
    parts = {name: one for name, one in with_xml.items() if any(inner.has_pictures for inner in one.all())}
    if lists and parts:
        return [f"voc:{place.path}:{split}" for split in _division(lists) or [ALL]], [place.path]
    splits = _division(parts)
    return [f"voc:{place.path}:{split}" for split in splits], [place.path / split for split in splits]


def _division(names: Iterable[str]) -> list[str]:
    """Those of the splits that share no picture, by the names that they have here."""
    names = list(names)
    for words in _DIVISIONS:
        if alike(words[0], names):
            return [name for word in words for name in alike(word, names)]
    return []


def _scattered(top: _Place, claimed: Iterable[Path]) -> list[str]:
    """Entries for the lowest folders that hold both pictures and annotation files in VOC's format, in whatever folders.

    claimed: folders of other data sets.
    """
    found: list[str] = []

    def visit(place: _Place) -> bool:
        """Whether annotation files below still wait for their pictures."""
        if _within(place.path, claimed):
            return False
        waiting = any([visit(one) for one in place.inner]) or place.has_xml
        if waiting and any(one.has_pictures and not _within(one.path, claimed) for one in place.all()):
            found.append(f"voc:{place.path}:{ALL}")
            return False
        return waiting

    visit(top)
    return found


# ---------------------------------------------------------------------------- COCO


def _coco(top: _Place, claimed: dict[Path, str]) -> tuple[dict[str, Path], list[Finding], list[str]]:
    """Entries with their folders of pictures; findings on files that are passed over; and entries for want of others.

    Of several files for the same pictures the one with instances counts, or the first: COCO's others describe them in
    other ways.
    """
    places = [place.path for place in top.all()]
    files = [look_into(path) for place in top.all() for path in place.ending(".json")[:_JSONS]]
    entries: dict[str, Path] = {}
    incomplete: dict[str, JsonFile] = {}
    taken: dict[object, str] = {}
    findings: list[Finding] = []

    def pass_over(file: JsonFile, why: str) -> None:
        findings.append(Finding(PASSED_OVER, f"{file.path} is passed over: {why}", record=str(file.path)))

    for file in sorted(files, key=lambda file: (file.rank, not file.path.name.startswith("instances"), file.path)):
        inside = _within(file.path, claimed)
        if file.rank == OTHER:
            if not inside:
                pass_over(file, file.why)
            continue
        place = best_folder(file, places)
        entry = f"{place}:{file.path}"
        spot = file.path if inside else place
        owner = next((other for folder, other in claimed.items() if spot.is_relative_to(folder)), None)
        key = (place, file.key) if file.key else file.path
        if owner or key in taken:
            pass_over(file, f"{owner or taken[key]} has the same pictures" if not inside else f"it lies in {owner}")
        elif file.rank == INCOMPLETE:
            incomplete[entry] = file
        else:
            entries[entry] = place
            taken[key] = entry
    if entries or claimed:
        for file in incomplete.values():
            pass_over(file, file.why)
        incomplete = {}
    return entries, findings, sorted(incomplete)
