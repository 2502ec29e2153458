"""Detections read from a file in COCO's results format, as ours and those of other frameworks are."""

from pathlib import Path

import msgspec
import numpy as np

from detector.data.packed import PackedIndex
from detector.errors import FileAccessError, MissingFileError, UserError
from detector.evaluation.base import Found


class _Row(msgspec.Struct, gc=False):
    image_id: int | str
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float


def read_results(path: str | Path, index: PackedIndex) -> Found:
    """The detections of a results.json, in the order of the images of an index.

    Raises ValueError or OSError naming the file and what is wrong: no such file, no list of detections, or one of an
    image or a category that the index does not have.
    """
    path = Path(path)
    try:
        rows = msgspec.json.decode(path.read_bytes(), type=list[_Row])
    except FileNotFoundError:
        raise MissingFileError(f"{path}: there is no such file of detections") from None
    except OSError as error:
        raise FileAccessError(f"{path}: {error.strerror or error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} holds no detections in COCO's results format, a list of objects with image_id, category_id, bbox "
            f"[x, y, width, height] and score: {error}"
        ) from None
    images = {image_id: i for i, image_id in enumerate(index.image_ids.tolist())}
    labels = {category: k for k, category in enumerate(index.category_ids)}
    image = np.fromiter((images.get(row.image_id, -1) for row in rows), np.int64, len(rows))
    label = np.fromiter((labels.get(row.category_id, -1) for row in rows), np.int64, len(rows))
    if (strange := np.flatnonzero((image < 0) | (label < 0))).size:
        row = rows[strange[0]]
        what = f"image {row.image_id!r}" if image[strange[0]] < 0 else f"category {row.category_id}"
        raise UserError(
            f"{path}: detection {strange[0] + 1} is of {what}, which {index.path} does not have ({len(strange)} such "
            "detections); are they of another test set?"
        )
    order = np.argsort(image, kind="stable")
    xywh = np.array([row.bbox for row in rows], np.float64).reshape(-1, 4)
    scores = np.array([row.score for row in rows], np.float64)
    return Found(image[order], xywh[order], label[order], scores[order])
