"""The one way to an annotation file in COCO's format: decoded once, then mapped into memory."""

import hashlib
import logging
import os
from dataclasses import fields
from functools import cache, partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from detector.data.formats import coco
from detector.data.mapped import MappedFile, open_arrays, write_arrays
from detector.data.packed import PackedIndex, check_same_classes
from detector.data.problems import Problems, logged
from detector.files import cache_folder, keep_newest

__all__ = ["PackedIndex", "check_same_classes", "load_index"]

SMALL = 1 << 20
"""Bytes of an annotation file that is decoded each time, as that takes some milliseconds."""

KEPT = 20
"""Indexes under the cache folder that are kept; one of COCO's size takes 70 MB."""

_ENDS = 1 << 20  # bytes at either end of an annotation file that its digest covers
_VALUES = ("classes", "category_ids", "kind", "listed")  # fields of an index that are no arrays

_Stamp = tuple[int, int, str, str]

_log = logging.getLogger("detector")


class _Kept(msgspec.Struct):
    """What stands beside the arrays: what file and reader were known by, fields of the index, lines of the log."""

    stamp: _Stamp
    fields: dict[str, Any]
    lines: list[str]


def load_index(path: str | Path, folder: Path | None = None, problems: Problems | None = None) -> PackedIndex:
    """Reads an annotation file in COCO format, see `formats.coco.read`. folder: of the pictures.

    The index of a file of more than `SMALL` bytes is kept, as `.NAME.index` beside it or, where that cannot be written,
    under the cache folder. The next time it is mapped into memory, if the file still has the same length, time and
    digest of its first and last MiB, and no reader has changed; one that is stale or damaged is written anew.
    problems: what is found goes there; without it, a line of the log is written for each kind.
    """
    path = Path(path)
    if problems is None:
        return logged(partial(load_index, path, folder))
    if problems.everything or not path.is_file() or path.stat().st_size <= SMALL:
        return coco.read(path, folder, problems)
    stamp = _stamp(path)
    for place in _places(path):
        found = open_arrays(place)
        if found is not None and (both := _index(path, found, stamp)):
            problems.lines += both[1]
            return both[0]
    index = coco.read(path, folder, problems)
    if not problems.lasting:
        return index
    return _keep(index, stamp, problems.lines) or index


def _stamp(path: Path) -> _Stamp:
    """What a file and its reader are known by.

    Bytes, time in ns, digest of the first and the last MiB, as that of 500 MB takes a third of a second; and `_reader`.
    """
    with path.open("rb") as file:
        state = os.fstat(file.fileno())
        digest = hashlib.sha256(file.read(_ENDS))
        file.seek(max(state.st_size - _ENDS, 0))
        digest.update(file.read(_ENDS))
    return state.st_size, state.st_mtime_ns, digest.hexdigest(), _reader()


@cache
def _reader() -> str:
    """The digest of the code that makes an index: what another build read may differ."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted([*here.glob("*.py"), *(here / "formats").glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _places(path: Path) -> list[Path]:
    """Where the index of an annotation file may be kept."""
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:24]
    return [path.with_name(f".{path.name}.index"), _folder() / f"{name}.index"]


def _folder() -> Path:
    return cache_folder() / "indexes"


def _keep(index: PackedIndex, stamp: _Stamp, lines: list[str]) -> PackedIndex | None:
    """Write an index and map what was written; None where no place takes it."""
    arrays = {name: value for name, value in vars(index).items() if isinstance(value, np.ndarray)}
    kept = _Kept(stamp, {name: getattr(index, name) for name in _VALUES}, lines)
    for place in _places(index.path):
        try:
            write_arrays(place, arrays, kept)
            if place.parent == _folder():
                keep_newest(place.parent, "*.index", KEPT)
        except OSError:
            continue
        found = open_arrays(place)
        both = found and _index(index.path, found, stamp)
        return both[0] if both else None
    _log.info("%s: its index cannot be kept for the next time, neither beside it nor in %s", index.path, cache_folder())
    return None


def _index(path: Path, found: MappedFile, stamp: _Stamp) -> tuple[PackedIndex, list[str]] | None:
    """The index in a mapped file and the lines that were said of it; None where it is not of this annotation file."""
    try:
        kept = msgspec.convert(found.values, _Kept)
    except msgspec.ValidationError:
        return None
    rest: dict[str, Any] = {**found.arrays, **kept.fields}
    names = {one.name for one in fields(PackedIndex)} - {"path", "folder", "mapped", "measured"}
    if kept.stamp != stamp or names != rest.keys():
        return None
    return PackedIndex(path=path, mapped=found, **rest), kept.lines
