"""Detections read from a file in COCO's results format, as ours and those of other frameworks are."""

import codecs
import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from detector.data.packed import PackedIndex
from detector.data.problems import SHOWN
from detector.errors import FileAccessError, MissingFileError, UserError
from detector.evaluation.base import Found
from detector.text import agreeing, counted

_log = logging.getLogger("detector")


class _Row(msgspec.Struct, gc=False):
    image_id: int | float | str
    category_id: int | float | str
    bbox: tuple[float, float, float, float]
    score: float


def read_results(path: str | Path, index: PackedIndex) -> Found:
    """The detections of a results.json, in the order of the images of an index.

    Ids may be numbers or texts. Detections of categories that the index does not have are left out, which is said.
    Raises ValueError or OSError naming the file and what is wrong: no such file, no list of detections, one of an image
    that the index does not have, or none of its categories.
    """
    path = Path(path)
    try:
        data = path.read_bytes().removeprefix(codecs.BOM_UTF8)  # editors on Windows begin a file with it
        rows = msgspec.json.decode(data, type=list[_Row])
    except FileNotFoundError:
        raise MissingFileError(f"{path}: there is no such file of detections") from None
    except OSError as error:
        raise FileAccessError(f"{path}: {error.strerror or error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} holds no detections in COCO's results format, a list of objects with image_id, category_id, bbox "
            f"[x, y, width, height] and score: {error}"
        ) from None
    images, labels = _places(index.image_ids.tolist()), _places(index.category_ids)
    image = np.fromiter((images.get(_key(row.image_id), -1) for row in rows), np.int64, len(rows))
    label = np.fromiter((labels.get(_key(row.category_id), -1) for row in rows), np.int64, len(rows))
    if (strange := np.flatnonzero(image < 0)).size:
        raise UserError(
            f"{path}: detection {strange[0] + 1} is of image {rows[strange[0]].image_id!r}, which {index.path} does "
            f"not have ({counted(len(strange), 'such detection|detections')}); are they of another test set?"
        )
    known = label >= 0
    if len(rows) and not known.any():
        raise UserError(
            f"{path}: no detection is of a class of {index.path}; the first is of category {rows[0].category_id!r}, "
            f"there are {', '.join(map(str, index.category_ids[:SHOWN]))}{', ..' * (len(index.category_ids) > SHOWN)}"
        )
    if not known.all():  # COCO's evaluation passes over them too
        _log.warning(
            "%s: %d of %s %s of categories that %s does not have, and %s for nothing",
            *(path, lost := int((~known).sum()), counted(len(rows), "detection|detections"), agreeing(lost, "is|are")),
            *(index.path, agreeing(lost, "counts|count")),
        )
        rows = [row for row, of_class in zip(rows, known.tolist(), strict=True) if of_class]
        image, label = image[known], label[known]
    order = np.argsort(image, kind="stable")
    xywh = np.array([row.bbox for row in rows], np.float64).reshape(-1, 4)
    scores = np.array([row.score for row in rows], np.float64)
    return Found(image[order], xywh[order], label[order], scores[order])


def _places(ids: Sequence[int | str]) -> dict[str, int]:
    """Place of each id, which other programs may write as a number, a text or a float."""
    return {str(id_): place for place, id_ in enumerate(ids)}


def _key(id_: int | float | str) -> str:
    return str(int(id_)) if isinstance(id_, float) and id_.is_integer() else str(id_)
