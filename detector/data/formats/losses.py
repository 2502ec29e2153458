"""What a format cannot hold of an index: sentences that say so, and names that fit on a line."""

import unicodedata
from collections.abc import Sequence

import numpy as np

from detector.data.packed import PackedIndex
from detector.text import counted

_UNFIT = ("Cc", "Cs", "Zl", "Zp")  # Unicode: control characters, surrogates, line and paragraph separators


def one_line(text: str, instead: str) -> str:
    """The text with `instead` in place of each character that breaks a line or has no encoding."""
    if text.isprintable():
        return text
    return "".join(instead if unicodedata.category(c) in _UNFIT else c for c in text)


def those(rows: np.ndarray, what: str) -> list[str]:
    """A sentence that begins with the number of true values; none where there are none. what: as for `counted`."""
    return [counted(int(rows.sum()), what)] if rows.any() else []


def lost_ids(index: PackedIndex, natural: Sequence[int], instead: str) -> list[str]:
    """What a format that knows classes by name, and pictures by file, loses of a COCO file.

    natural: [C] the ids that classes have there; instead: what stands for them.
    """
    if index.kind != "coco":
        return []
    pictures = counted(len(index), "picture|pictures")
    losses = [
        f"{pictures} and {counted(len(index.labels), 'box|boxes')} lose their ids: a picture is known by its name"
    ]
    if number := sum(a != b for a, b in zip(index.category_ids, natural, strict=True)):
        losses.append(f"{counted(number, 'class|classes loses|lose its|their id|ids')}: {instead}")
    other = ~np.isclose(index.areas, index.boxes_xywh[:, 2:].prod(1), rtol=1e-6)
    return [
        *losses,
        *those(other, "area|areas that is|are not the box's, such as that|those of masks, is|are not kept"),
    ]
