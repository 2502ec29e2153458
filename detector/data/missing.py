"""Where the pictures of a data set are, when not one of them is where its records say."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from detector.data.dataset import CocoDetection
from detector.data.partners import Partners
from detector.data.suffixes import SUFFIXES
from detector.text import none_of, printable

TRIED = 20  # pictures of a set that are looked for elsewhere
FOLDERS = 50  # folders beside, and as many below, that are looked into, at most
DEPTH = 6  # leading folders of a file name that are dropped, at most


class Place(NamedTuple):
    """Another folder, and how many leading folders of a file name are dropped there."""

    folder: Path
    dropped: int = 0

    def holds(self, name: str) -> bool:
        """Whether the picture of this file name is there."""
        return os.path.isfile(self.folder.joinpath(*_parts(name)[self.dropped :]))


def lost_text(dataset: CocoDetection) -> str:
    """One line about a data set of which no picture was found: the folder that was looked at, and where they are.

    Tried are folders above it, where file names hold the folder's own name; folders beside and below; and file names
    without their leading folders, in all of these.
    """
    folder, number = dataset.folder, len(dataset)
    step = -(-number // TRIED)
    names = [dataset.file_name(item) for item in range(0, number, step)]
    missed = _shown(os.path.join(folder, names[0]))
    none = none_of(number, "picture|pictures")
    text = f"{dataset.name}: {none} is in {_shown(folder)} (the first would be {missed})"
    # What finds most counts, of equal finds the first: it asks for the smallest change.
    place, found = max(((p, sum(map(p.holds, names))) for p in _places(Path(folder), names)), key=lambda pair: pair[1])
    if not found and (other := _other_names(Path(folder), names)):
        return f"{text}: {other}"
    if not found:
        return f"{text}, nor in a folder above, beside or below it: name the folder that they are in"
    share = "" if found == len(names) else f"; so it is with {found} of {len(names)} that were tried"
    leading = list(dict.fromkeys("/".join(_parts(name)[: place.dropped]) + "/" for name in names))
    dropped = _shown(leading[0]) + (", .." if len(leading) > 1 else "")
    if not place.dropped and dataset.index.kind == "coco":
        remedy = f"name {_shown(place.folder)} as the folder of pictures, where they are"
    elif not place.dropped:
        remedy = f"they are in {_shown(place.folder)}: move them, or the folder"
    else:
        where = "there" if place.folder == Path(folder) else f"in {_shown(place.folder)}"
        remedy = f"they are {where} without the leading {dropped} of their file names: take it away"
    return f"{text}: {remedy}{share}"


def _other_names(folder: Path, names: list[str]) -> str:
    """Where pictures of a folder have names that a tool made of those in the records, or the other way round."""
    with suppress(OSError):
        partners = Partners(name for name in os.listdir(folder) if os.path.splitext(name)[1].lower() in SUFFIXES)
        for name in names:
            if partner := partners.of(name):
                return f"they are there {partner.what()}"
    return ""


def _places(folder: Path, names: list[str]) -> Iterator[Place]:
    depth = min(max(len(_parts(name)) for name in names) - 1, DEPTH)
    above = list(folder.absolute().parents)[: depth + 1]
    around = [*above, *_folders(folder.absolute().parent), *_folders(folder)]
    yield from (Place(place) for place in around)
    for dropped in range(1, depth + 1):
        yield from (Place(place, dropped) for place in (folder, *around))


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir())[:FOLDERS]
    except OSError:
        return []


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _shown(path: object) -> str:
    return printable(str(path))
