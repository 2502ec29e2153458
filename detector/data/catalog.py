"""Names of data sets, and where their pictures and annotations lie."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from detector.data.index import PackedIndex, load_index
from detector.data.shapes import ensure_shapes
from detector.registry import Registry


class Location(NamedTuple):
    """Where a data set lies: the folder of its pictures and its annotation file."""

    folder: Path
    annotations: Path


@dataclass(frozen=True, eq=False)
class Source:
    """A data set that was found and read. name: the catalog's name, or the annotation file's stem."""

    name: str
    folder: Path
    index: PackedIndex


DATASETS: Registry[Callable[[Path], Location]] = Registry("dataset")
"""Catalog name -> function of the root folder."""


def _coco(images: str, annotations: str, root: Path) -> Location:
    return Location(root / "coco" / images, root / "coco" / "annotations" / annotations)


def _shapes(part: str, root: Path) -> Location:
    folder = ensure_shapes(root / "shapes")
    return Location(folder / part, folder / "annotations" / f"{part}.json")


for _name, _images, _annotations in (
    ("coco_2014_train", "train2014", "instances_train2014.json"),
    ("coco_2014_val", "val2014", "instances_val2014.json"),
    ("coco_2014_minival", "val2014", "instances_minival2014.json"),
    ("coco_2014_valminusminival", "val2014", "instances_valminusminival2014.json"),
    ("coco_2017_train", "train2017", "instances_train2017.json"),
    ("coco_2017_val", "val2017", "instances_val2017.json"),
):
    DATASETS.register(_name)(partial(_coco, _images, _annotations))
for _part in ("train", "val"):
    DATASETS.register(f"shapes_{_part}")(partial(_shapes, _part))


def load_dataset(entry: str, root: str | Path) -> Source:
    """Finds and reads a data set.

    entry: a name of the catalog, or "IMAGE_FOLDER:ANNOTATIONS.json" with paths relative to the working directory or,
    failing that, to root. The generated set "shapes" is written under root when it is first asked for.
    Raises KeyError with the nearest names for an unknown name, FileNotFoundError when folder or file is missing.
    """
    root = Path(root)
    pair = split_entry(entry)
    if pair is None:
        try:
            locate = DATASETS[entry]
        except KeyError as error:
            raise KeyError(f"{error.args[0]}; own data: IMAGE_FOLDER:ANNOTATIONS.json") from None
        name, found = entry, locate(root)
    else:
        found = Location(*(_resolve(part, root) for part in pair))
        name = found.annotations.stem
    if not found.folder.is_dir():
        raise FileNotFoundError(
            f"dataset {entry!r}: its folder of pictures is expected at {found.folder}; {_hint(root)}"
        )
    if not found.annotations.is_file():
        raise FileNotFoundError(
            f"dataset {entry!r}: its annotation file is expected at {found.annotations}; {_hint(root)}"
        )
    return Source(name, found.folder, load_index(found.annotations))


def split_entry(entry: str) -> tuple[str, str] | None:
    r"""The two paths of "IMAGE_FOLDER:ANNOTATIONS.json"; None for a name without a colon.

    The colon of a Windows drive ("C:\pictures:D:\annotations.json") separates nothing.
    """
    drives = {match.end(1) for match in re.finditer(r"(?:^|(?<=:))([A-Za-z])(?=:[\\/])", entry)}
    colons = [i for i, letter in enumerate(entry) if letter == ":"]
    separators = [i for i in colons if i not in drives] or colons
    return (entry[: separators[-1]], entry[separators[-1] + 1 :]) if separators else None


def _resolve(part: str, root: Path) -> Path:
    path = Path(part).expanduser()
    under_root = root / path
    return under_root if under_root.exists() and not path.exists() else path


def _hint(root: Path) -> str:
    return f"put it there, or set DATASETS.ROOT (now {root}) or the entry to where it is (see datasets/README.md)"
