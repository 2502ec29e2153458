"""The records of a COCO file, as they should be."""

import math
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from detector.data.packed import LARGEST

LAYOUT = (
    "images need id, file_name, height and width; annotations need id, image_id, category_id and "
    "bbox [x, y, width, height]; categories need id and name"
)
LONGEST_NAME, LONGEST_ID = 1024, 256
"""Characters; such texts stand in arrays that give each the space of the longest one."""

_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]  # what a numpy array of ids holds
_Name = Annotated[str, Meta(max_length=LONGEST_NAME)]
_Id = _Int64 | Annotated[str, Meta(max_length=LONGEST_ID)]
_Flag = Annotated[int, Meta(ge=0, le=1)]
_Side = Annotated[int, Meta(ge=1, le=LARGEST)]
_Extent = Annotated[float, Meta(gt=0)]  # of others the segmentation is looked at


class Image(msgspec.Struct, gc=False):
    """One of `images`."""

    id: _Id
    file_name: _Name
    height: _Side
    width: _Side


class Annotation(msgspec.Struct, gc=False):
    """One of `annotations`, with numbers as ids. score: of predictions, which these are not meant to be."""

    id: _Int64
    image_id: _Int64
    category_id: _Int64
    bbox: tuple[float, float, _Extent, _Extent]
    area: float | None = math.nan
    iscrowd: _Flag | bool = 0
    score: Any = None


class TextAnnotation(Annotation, gc=False):
    """One of `annotations`, whose ids may be texts."""

    id: _Id  # type: ignore[assignment]
    image_id: _Id  # type: ignore[assignment]
    category_id: _Id  # type: ignore[assignment]


class Category(msgspec.Struct, gc=False):
    """One of `categories`."""

    id: _Id
    name: str


DECODERS: dict[str, list[msgspec.json.Decoder]] = {
    "images": [msgspec.json.Decoder(list[Image])],
    "annotations": [msgspec.json.Decoder(list[Annotation]), msgspec.json.Decoder(list[TextAnnotation])],
    "categories": [msgspec.json.Decoder(list[Category])],
}
"""Of the lists in a file, the strictest first."""
