"""What a format cannot hold of an index: sentences that say so, and names that fit on a line."""

import unicodedata
from collections.abc import Sequence

import numpy as np

from detector.data.packed import PackedIndex

_UNFIT = ("Cc", "Cs", "Zl", "Zp")  # Unicode: control characters, surrogates, line and paragraph separators


def one_line(text: str, instead: str) -> str:
    """The text with `instead` in place of each character that breaks a line or has no encoding."""
    if text.isprintable():
        return text
    return "".join(instead if unicodedata.category(c) in _UNFIT else c for c in text)


def counted(rows: np.ndarray, what: str) -> list[str]:
    """A sentence that begins with the number of true values; none where there are none."""
    return [f"{int(rows.sum())} {what}"] if rows.any() else []


def lost_ids(index: PackedIndex, natural: Sequence[int]) -> list[str]:
    """What a format that knows classes by name, and pictures by file, loses of a COCO file.

    natural: [C] the ids that classes have there.
    """
    if index.kind != "coco":
        return []
    losses = [f"{len(index)} pictures and {len(index.labels)} boxes lose their ids: a picture is known by its name"]
    if number := sum(a != b for a, b in zip(index.category_ids, natural, strict=True)):
        losses.append(f"{number} classes lose their ids: their order alone is kept")
    other = ~np.isclose(index.areas, index.boxes_xywh[:, 2:].prod(1), rtol=1e-6)
    return [*losses, *counted(other, "areas that are not the box's, such as those of masks, are not kept")]
