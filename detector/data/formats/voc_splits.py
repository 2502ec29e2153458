"""The splits of a folder in VOC's layout: lists of pictures, however they write the names, and lists of classes."""

import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from detector.data.formats.voc_layout import (
    ALL,
    DIVISION,
    LISTS,
    SHELVES,
    Place,
    alike,
    last_part,
    lists_of,
    parts_of,
    without_suffix,
)
from detector.data.formats.voc_xml import read_bytes
from detector.errors import MissingFileError, UserError
from detector.text import counted, forms

CLASS_FILE = "classes.txt"
LABEL_MAP = "labelmap.txt"
"""The list of classes that CVAT and Datumaro write: "name:colour:parts:actions"."""

_HELD_BACK = 0.15  # share of the pictures in val, and as many in test
_SEED = 0
FLAG = re.compile(r"(.*\S)\s+(?:-1|0|1)")  # VOC's lists of one class
_PAIR = re.compile(r"(\S+\.\w+)\s+\S+\.xml", re.I)
_NUMBERED = re.compile(r"(\S+)(?:\s+\d+){2,}")


def pick_list(folder: Path, split: str) -> Path | None:
    """The list of a split; None where the folder has no lists, or for "all" without one of its own.

    Raises FileNotFoundError for a split that is not there.
    """
    lists = lists_of(folder)
    for name in alike(split, lists):
        return lists[name]
    if split == ALL:
        return None
    if lists:
        path = next(iter(lists.values())).parent / f"{split}.txt"
        raise MissingFileError(f"{path}: there is no such split; there are {', '.join([*lists, ALL])}")
    if not alike(split, DIVISION):
        raise MissingFileError(
            f"{folder / LISTS / split}.txt: there is no such split; a folder without lists is divided into "
            f"{', '.join(DIVISION)}, and has {ALL}"
        )
    return None


def divided(place: Place, split: str, names: Sequence[str]) -> list[str]:
    """The names of a split of a folder without lists.

    Raises ValueError where there are too few.
    """
    if split == ALL:
        return sorted(names)
    parts = parts_of(place)
    if split == "trainval" and (train := alike("train", parts)) and (val := alike("val", parts)):
        roots = tuple(f"{parts[name].relative_to(place.annotations).as_posix()}/" for name in (*train, *val))
        return [name for name in sorted(names) if name.startswith(roots)]
    found = divide(names)[alike(split, DIVISION)[0]]
    if not found:
        raise UserError(
            f"{place.home}: {counted(len(names), 'picture|pictures is|are')} too few to be divided; write split {ALL!r}"
        )
    return found


def divide(names: Iterable[str]) -> dict[str, list[str]]:
    """Splits of a folder that has no lists: test and val have 15 % each (at least one picture), train the rest.

    The order of sha256 of "0:name" decides; so a run on another day or machine divides alike, and pictures that are
    added later move few others. Each split is sorted; fewer than three names are all in train.
    """
    order = sorted(names, key=lambda name: sha256(f"{_SEED}:{name}".encode()).digest())
    held_back = max(1, round(_HELD_BACK * len(order))) if len(order) > 2 else 0
    test, val, train = order[:held_back], order[held_back : 2 * held_back], order[2 * held_back :]
    return {"train": sorted(train), "val": sorted(val), "trainval": sorted(train + val), "test": sorted(test)}


class Names:
    """The names of a place's files, and what lists mean by theirs. home: the name of the folder."""

    def __init__(self, names: Iterable[str], home: str = "") -> None:
        self._names = set(names)
        self._above = SHELVES | {home}
        self._ends: dict[str, str | None] = {}
        for name in self._names:
            end = last_part(name)
            self._ends[end] = None if end in self._ends else name

    def meant(self, lines: Sequence[str]) -> list[str | None]:
        """The names that the lines of a list stand for; None where there is none, or several come into question.

        A line may be quoted, have a suffix, backslashes, or folders above it up to that of the pictures; it may lack
        the folders where its last part is enough. In a list of one class each line ends in a flag; others name the
        annotation file, or numbers, behind the picture.
        """
        flagged = all(FLAG.fullmatch(line) for line in lines)
        return [next(filter(None, (self._meant(form, flagged) for form in forms(line))), None) for line in lines]

    def _meant(self, line: str, flagged: bool) -> str | None:
        if line in self._names:
            return line
        if flagged and (name := line.rsplit(None, 1)[0]) in self._names:
            return name
        texts = [line]
        for form in (*([FLAG] if flagged else []), _PAIR, _NUMBERED):
            if found := form.fullmatch(line):
                texts.append(found[1])
        bases = [(plain(text), without_suffix(plain(text))) for text in texts]
        for name in (name for pair in bases for name in pair):
            if name in self._names:
                return name
        for _, base in bases:
            parts = base.split("/")
            absolute = base.startswith("/") or parts[0].endswith(":")
            for i in range(1, len(parts)):  # "VOC2007/JPEGImages/a"
                if (absolute or parts[i - 1] in self._above) and (name := "/".join(parts[i:])) in self._names:
                    return name
            base = parts[-1] if absolute or (parts[-2:-1] and parts[-2] in self._above) else base
            if only := self._ends.get(base):
                return only
        return None


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that hold anything. Raises ValueError naming the file when it is no text."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start + 1} is not UTF-8; write one name a line, as text") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def listed_classes(place: Place) -> tuple[list[str], Path] | None:
    """The classes that somebody listed, in the order of their labels, and where; None where nobody did."""
    root = place.annotations
    for folder in dict.fromkeys((root, root if root == place.home else root.parent, place.home)):
        for name in (CLASS_FILE, LABEL_MAP):
            path = folder / name
            if not path.is_file():
                continue
            names = read_lines(path)
            if name == LABEL_MAP:
                names = [line.rsplit(":", 3)[0] for line in names if not line.startswith("#")]
                names = [name for name in names if name != "background"]
            if len(set(names)) < len(names) or not names:
                raise UserError(f"{path}: write the name of each class once, one a line")
            return names, path
    return None


def plain(text: str) -> str:
    """A name as somebody wrote it, without quotes and with slashes."""
    for quote in "\"'":
        if len(text) > 1 and text[0] == text[-1] == quote:
            text = text[1:-1]
    text = text.replace("\\", "/").strip()
    return text.removeprefix("./")
