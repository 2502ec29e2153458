"""A data set under examination, beside others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np

from detector.data.catalog import Source
from detector.data.doctor.seen import Seen
from detector.data.packed import PackedIndex
from detector.data.problems import Box, Finding

Role = Literal["train", "test", ""]


@dataclass(frozen=True, eq=False)
class Part:
    """One of the data sets that are examined together. N images, M annotations.

    entry: as in DATASETS; role: what a config uses it for, "" where nothing says so; seen: of its pictures, None where
    they were not looked at; uncrowded: crowd regions that are objects here, by DATASETS.CROWDS; told: what its reader
    found.
    """

    entry: str
    source: Source
    role: Role = ""
    seen: Seen | None = None
    uncrowded: int = 0
    told: tuple[Finding, ...] = ()

    @property
    def index(self) -> PackedIndex:
        """Its annotations."""
        return self.source.index

    @cached_property
    def image_of(self) -> np.ndarray:
        """[M] int64: the place of the image of each annotation."""
        return self.index.image_of()

    @cached_property
    def objects(self) -> np.ndarray:
        """[M] bool: objects with a box of their own; no crowd region, and nothing that the reader left out."""
        return self.index.usable & ~self.index.crowd

    def path(self, image: int) -> Path:
        """The file of a picture."""
        return self.source.folder / str(self.index.file_names[image])

    def on_image(self, kind: str, image: int, said: str) -> Finding:
        """A finding on an image: its record, then what is said of it."""
        record = self.index.record(image)
        return Finding(kind, f"{record}: {said}", str(self.index.file_names[image]), record)

    def on_box(self, kind: str, row: int, said: str) -> Finding:
        """A finding on an annotation: its record and box, then what is said of it."""
        record, box = self.record(row), self.box(row)
        picture = str(self.index.file_names[self.image_of[row]])
        return Finding(kind, f"{record}: its box {list(box)} {said}", picture, record, box)

    def record(self, row: int) -> str:
        """The record of an annotation, for messages."""
        index, id_ = self.index, self.index.annotation_ids[row].item()
        if index.kind == "yolo":  # its path is that of the YAML file
            return f"{index.record(int(self.image_of[row]))}:{str(id_).rpartition(':')[2]}"
        return (
            f"{index.path / id_}"
            if index.kind != "coco" and isinstance(id_, str)
            else f"{index.path}: annotation id {id_!r}"
        )

    def box(self, row: int) -> Box:
        """x, y, width, height of an annotation as in the file."""
        x, y, width, height = (round(float(value), 6) for value in self.index.boxes_xywh[row])
        return x, y, width, height

    def name(self, row: int) -> str:
        """The class of an annotation."""
        return self.index.classes[int(self.index.labels[row])]


def apart(parts: Sequence[Part]) -> Iterator[tuple[int, int]]:
    """The places of two data sets that must not share pictures: any two, unless a config uses both for the same."""
    for one, other in combinations(range(len(parts)), 2):
        if not parts[one].role or parts[one].role != parts[other].role:
            yield one, other


def short_names(parts: Sequence[Part]) -> list[str]:
    """The names of data sets, with a number where others have the same; they all differ."""
    names = [_short_name(part) for part in parts]
    taken, found = set(names), []
    for place, name in enumerate(names, start=1):
        new, tail = name, str(place)
        while names.count(name) > 1 and (new := f"{name}_{tail}") in taken:
            tail += "_"
        taken.add(new)
        found.append(new)
    return found


def _short_name(part: Part) -> str:
    """Roboflow calls the file of each split `_annotations.coco.json`; the folder then says more."""
    path = part.index.path
    return path.parent.name if path.name.startswith("_annotations") and path.parent.name else part.source.name
