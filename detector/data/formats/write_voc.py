"""What an index holds, as a folder in the layout of Pascal VOC."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from detector.data.formats.losses import lost_ids, one_line, those
from detector.data.packed import PackedIndex
from detector.files import write_atomic
from detector.text import counted

IMAGES, ANNOTATIONS, LISTS, CLASS_FILE = "JPEGImages", "Annotations", "ImageSets/Main", "classes.txt"

DECIMALS = 6
"""Of an edge: what is nearer to a whole pixel is written as one."""


def held(index: PackedIndex) -> np.ndarray:
    """[M] bool: the annotations that the format holds, those with an area inside their picture."""
    return index.usable


def write(
    index: PackedIndex, folder: str | Path, split: str = "train", names: Sequence[str] | None = None
) -> list[str]:
    """Writes FOLDER/Annotations/NAME.xml of each picture in FOLDER/JPEGImages, its list and classes.txt.

    names [N]: of the pictures there, else the index's; no two may differ in their suffix only. Edges count their pixels
    from 1 and include the last one, as in VOC, so that a box is at least a pixel wide; they are whole numbers where the
    box's are, else decimals to a millionth of a pixel. A single pixel is written that much wider than one. Crowds
    become difficult objects. Returns a sentence for each thing that is not held.
    """
    folder = Path(folder)
    names = index.file_names.tolist() if names is None else names
    classes, renamed = plain_classes(index.classes)
    keep, difficult = held(index), index.difficult | index.crowd
    low = index.boxes_xywh[:, :2]
    high = np.maximum(low + index.boxes_xywh[:, 2:], low + 1)
    edges = np.round(np.concatenate([low + 1, high], 1), DECIMALS) + 0.0  # without a negative zero
    points = (edges[:, :2] == edges[:, 2:]).all(1)
    edges[points, 2] += 10**-DECIMALS  # four equal edges are a slip of the mouse to readers, ours included
    for i, name in enumerate(names):
        rows = np.arange(index.offsets[i], index.offsets[i + 1])[keep[index.rows(i)]]
        objects = [
            _object(classes[index.labels[row]], edges[row].tolist(), bool(difficult[row])) for row in rows.tolist()
        ]
        text = _file(name, *index.size(i), objects)
        write_atomic(folder / ANNOTATIONS / f"{_stem(name)}.xml", text.encode())
    write_atomic(folder / CLASS_FILE, "".join(f"{name}\n" for name in classes).encode())
    write_atomic(folder / LISTS / f"{split}.txt", "".join(f"{_stem(name)}\n" for name in names).encode())
    thin = keep & (index.boxes_xywh[:, 2:] < 1 - 10**-DECIMALS).any(1)
    return [
        *renamed,
        *lost_ids(index, range(1, len(classes) + 1), "names stand for them"),
        *those(index.crowd & keep, "crowd region|regions is|are marked as difficult: the format has no crowds"),
        *those(thin, "box|boxes is|are narrower than a pixel and is|are written one pixel wide"),
        *those(~keep, "box|boxes has|have no area inside its|their picture and is|are left out"),
    ]


def plain_classes(classes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names that can stand on a line of their own, each once; and a sentence where that changes some."""
    found: list[str] = []
    counts: Counter[str] = Counter()
    taken = set(classes)
    for name in classes:
        plain = one_line(name, " ").strip() or "unnamed"
        counts[plain] += 1
        new = plain
        while counts[plain] > 1 and (new := f"{plain}_{counts[plain]}") in taken:
            counts[plain] += 1
        found.append(new)
    changed = [f"{a!r} is {b!r}" for a, b in zip(classes, found, strict=True) if a != b]
    return found, [
        f"{counted(len(changed), 'class|classes has|have another name here')}: {', '.join(changed[:5])}"
    ] if changed else []


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _file(name: str, height: int, width: int, objects: Sequence[str]) -> str:
    folder, _, base = name.rpartition("/")
    return "\n".join(
        [
            "<annotation>",
            f"  <folder>{escape(folder or IMAGES)}</folder>",
            f"  <filename>{escape(base)}</filename>",
            f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
            "  <segmented>0</segmented>",
            *objects,
            "</annotation>",
            "",
        ]
    )


def _object(name: str, edges: Sequence[float], difficult: bool) -> str:
    box = "".join(
        f"<{edge}>{_number(value)}</{edge}>"
        for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True)
    )
    return (
        f"  <object><name>{escape(name)}</name><pose>Unspecified</pose><truncated>0</truncated>"
        f"<difficult>{int(difficult)}</difficult><bndbox>{box}</bndbox></object>"
    )


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else f"{value:.{DECIMALS}f}".rstrip("0")
