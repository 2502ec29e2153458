"""Records of a COCO file that are not quite COCO's: taken where their meaning is plain, else explained."""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from detector.data.formats.ids import NO_ID, whole_number
from detector.data.formats.pieces import Piece
from detector.data.formats.records import LAYOUT, LONGEST_ID, LONGEST_NAME, Category, Image, TextAnnotation
from detector.data.formats.segmentation import box_around
from detector.data.packed import LARGEST
from detector.data.problems import Finding, Problems, declare
from detector.errors import cut
from detector.text import counted

FIELD = declare(
    "field-type",
    "error",
    "records lack a field, or have one of the wrong type",
    "Write the field as COCO does, or leave the record out.",
)
FLOAT = declare("whole-float", "note", "fields hold whole numbers as floats", "They are taken as whole numbers.")
SCORED = declare(
    "labels-with-scores",
    "warning",
    "sets have a score in every annotation, as predictions have",
    "Look at some: a training on predictions learns their mistakes.",
)
TEXT = declare(
    "number-as-text",
    "note",
    "fields hold numbers as texts",
    "They are taken as numbers; other readers of the file may not do that.",
)
NAME = declare("class-name-number", "note", "classes have a number as their name", "The number is taken as a text.")
OF_SHAPE = declare(
    "box-of-segmentation",
    "warning",
    "sets have annotations with a segmentation and no box, or one without an area",
    "The box around the segmentation counts; write it into bbox for other readers of the file.",
)
CROWD = declare(
    "crowd-number",
    "note",
    "fields iscrowd hold numbers other than 0 and 1",
    "They count as 1, so that these are crowd regions; write 0 where they are single objects.",
)

_ALIASES = {
    "image_id": ("item_id", "imageid", "image", "picture_id", "img_id"),
    "category_id": ("categoryid", "category", "class_id", "class", "label_id", "label"),
    "bbox": ("box", "bounding_box", "boundingbox", "rect", "xywh"),
    "file_name": ("filename", "path", "file", "image", "name", "url"),
    "id": ("annotation_id", "ann_id", "uuid", "uid"),
    "name": ("label", "title", "class", "class_name", "supercategory"),
}


class _FaultError(Exception):
    """field; what is wrong with it; the remedy, or "" for the layout."""


class _Fields(msgspec.Struct, gc=False):
    id: Any = msgspec.UNSET
    file_name: Any = msgspec.UNSET
    height: Any = msgspec.UNSET
    width: Any = msgspec.UNSET
    image_id: Any = msgspec.UNSET
    category_id: Any = msgspec.UNSET
    bbox: Any = msgspec.UNSET
    segmentation: msgspec.Raw = msgspec.Raw(b"null")
    area: Any = None
    iscrowd: Any = 0
    score: Any = None
    name: Any = msgspec.UNSET


class _Taken(msgspec.Struct):
    """Records with a value that was taken: the first one and its value, the last one, and how many."""

    place: int
    value: object
    last: int = -1
    count: int = 0


_fields = msgspec.json.Decoder(_Fields)
_values = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Mending:
    """Takes the records that the strict decoders refuse, and counts what was not as it should be.

    lost: for each list the ids of records that were left out; image_ids: of annotations among them, by their place.
    """

    def __init__(self, path: Path, problems: Problems) -> None:
        self.path, self.problems = path, problems
        self.lost: dict[str, set[Any]] = {"images": set(), "annotations": set(), "categories": set()}
        self.image_ids: dict[int, Any] = {}
        self.taken: dict[tuple[str, str, str], _Taken] = {}
        self.key, self.place = "", 0
        self.scored: bool | None = None

    def look(self, key: str, records: Sequence[Any]) -> None:
        """Sees whether all annotations have a score; of records that are as they should be, or made so."""
        if key == "annotations" and len(records):
            self.scored = self.scored is not False and all(record.score is not None for record in records)

    def records(self, piece: Piece) -> tuple[list[Any], list[int]]:
        """The records of a piece, and the places in the file's list of those that were left out.

        Raises ValueError for the first that cannot be taken, unless everything is wanted.
        """
        make = {"images": self._image, "annotations": self._annotation, "categories": self._category}[piece.key]
        made, dropped = [], []
        for place, raw in enumerate(piece.raw, piece.first):
            self.key, self.place = piece.key, place
            try:
                made.append(make(_decode(raw)))
            except _FaultError as fault:
                self._tell(raw, *fault.args)
                dropped.append(place)
        return made, dropped

    def tell(self) -> None:
        """One line for each field that was taken though it is not of COCO's type, and one for scores."""
        if self.scored:
            self.problems.note(
                SCORED, f"{self.path}: all `annotations` have a score: are they predictions? They count as labels"
            )
        words = {FLOAT: "whole numbers as floats", TEXT: "numbers as texts", NAME: "numbers"}
        words[CROWD] = "numbers other than 0 and 1"
        for (kind, key, field), taken in self.taken.items():
            if kind == OF_SHAPE:
                some = counted(taken.count, f"of `{key}` has|have a segmentation and no {field} with an area")
                self.problems.note(
                    kind, f"{self.path}: {some} (the first: {key}[{taken.place}]); the box around it is taken"
                )
                continue
            where = f"{key}[{taken.place}].{field} is {cut(taken.value)}"
            fate = "taken as 1, so that these are crowd regions" if kind == CROWD else "taken"
            line = f"{self.path}: {taken.count} of `{key}` hold {words[kind]} in {field} (the first: {where}); {fate}"
            self.problems.note(kind, line)

    # ------------------------------------------------------------------------ records

    def _image(self, row: _Fields) -> Image:
        return Image(
            id=self._id("id", row.id),
            file_name=self._text("file_name", row.file_name, LONGEST_NAME),
            height=self._side("height", row.height),
            width=self._side("width", row.width),
        )

    def _annotation(self, row: _Fields) -> TextAnnotation:
        box = self._shape(row) or self._there("bbox", row.bbox)
        if not isinstance(box, list):
            _wrong("bbox", "`array`", box)
        if any(isinstance(one, list | dict) for one in box):
            _wrong("bbox", "`array` of numbers", box)
        if len(box) != 4:
            raise _FaultError("bbox", "Expected `array` of length 4", f"it has {len(box)}: {cut(box)}")
        return TextAnnotation(
            id=NO_ID if row.id is msgspec.UNSET or row.id is None else self._id("id", row.id),
            image_id=self._id("image_id", row.image_id),
            category_id=self._id("category_id", row.category_id),
            bbox=tuple(self._number("bbox", value, f"[{i}]") for i, value in enumerate(box)),  # type: ignore[arg-type]
            area=math.nan if row.area is None else self._number("area", row.area),
            iscrowd=0 if row.iscrowd is None else self._flag("iscrowd", row.iscrowd),
            score=row.score,
        )

    def _shape(self, row: _Fields) -> list[float] | None:
        """The box around the segmentation, where there is no box or one without an area; None without either."""
        said = row.bbox
        sides = said[2:] if isinstance(said, list) and len(said) == 4 else None
        if said and (sides is None or not all(isinstance(side, int | float) for side in sides) or min(sides) > 0):
            return None
        if (box := box_around(row.segmentation)) is None:
            return None
        self._take(OF_SHAPE, "bbox", None if said is msgspec.UNSET else said)
        return [*box]

    def _category(self, row: _Fields) -> Category:
        name = self._there("name", row.name)
        if isinstance(name, int | float) and not isinstance(name, bool):
            self._take(NAME, "name", name)
            name = str(int(name) if isinstance(name, float) and name.is_integer() else name)
        return Category(id=self._id("id", row.id), name=self._text("name", name, 1 << 20))

    # ------------------------------------------------------------------------ fields

    def _there(self, field: str, value: object) -> object:
        if value is msgspec.UNSET:
            raise _FaultError(field, f"Object missing required field `{field}`")
        if value is None:
            raise _FaultError(field, f"{field} is null")
        return value

    def _id(self, field: str, value: object) -> int | str:
        value = self._there(field, value)
        if isinstance(value, str):
            return self._text(field, value, LONGEST_ID)
        return self._whole(field, value)

    def _text(self, field: str, value: object, longest: int) -> str:
        value = self._there(field, value)
        if not isinstance(value, str):
            _wrong(field, "`str`", value)
        if len(value) > longest:
            raise _FaultError(field, f"Expected `str` of length <= {longest}")
        return value

    def _whole(self, field: str, value: object) -> int:
        if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
            self._take(FLOAT, field, value)
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            _wrong(field, "`int`", value)
        if not -(2**63) <= value < 2**63:
            raise _FaultError(field, "Expected `int` of 64 bits", f"it is {cut(value)}")
        return value

    def _side(self, field: str, value: object) -> int:
        """A height or width, 0 or less where it is to be measured."""
        if value is msgspec.UNSET or value is None or value == "":
            return 0
        if isinstance(value, str):
            number = whole_number(value.strip())
            if number is None:
                _wrong(field, "`int`", value)
            self._take(TEXT, field, value)
        else:
            number = self._whole(field, value)
        if number > LARGEST:
            raise _FaultError(field, f"Expected `int` <= {LARGEST}", f"it is {cut(value)}")
        return number

    def _number(self, field: str, value: object, index: str = "") -> float:
        if isinstance(value, str):
            try:
                number = float(value)
            except ValueError:
                number = math.nan
            if math.isfinite(number):
                self._take(TEXT, field, value)
                return number
        if not isinstance(value, int | float) or isinstance(value, bool):
            _wrong(field, "`float`", value, index)
        try:
            return float(value)
        except OverflowError:
            raise _FaultError(f"{field}{index}", "Expected a `float` that a computer holds") from None

    def _flag(self, field: str, value: object) -> int:
        if isinstance(value, bool):
            return int(value)
        if isinstance(value, str):
            word = value.strip().lower()
            number = {"false": 0, "true": 1}.get(word, whole_number(word))
            if number is not None:
                self._take(TEXT, field, value)
        else:
            number = self._whole(field, value)
        if number is None:
            _wrong(field, "`int`", value)
        if number not in (0, 1):
            self._take(CROWD, field, value)
        return int(bool(number))

    def _take(self, kind: str, field: str, value: object) -> None:
        where = kind, self.key, field
        taken = self.taken.setdefault(where, _Taken(self.place, value))
        taken.count += taken.last != self.place  # a box has four numbers
        taken.last = self.place

    # ------------------------------------------------------------------------ what cannot be taken

    def _tell(self, raw: msgspec.Raw, field: str, what: str, remedy: str = "") -> None:
        place = f"{self.key}[{self.place}]"
        missing = "missing" in what
        try:
            record = _values.decode(raw)
        except msgspec.ValidationError:  # it is no object
            record = {}
        at = place if missing or not field else f"{place}.{field}"
        text = f"{self.path}: {what} - at `$.{at}`"
        if missing or what.endswith("null"):
            keys = ", ".join(cut(key)[1:-1] for key in list(record)[:20]) or "nothing"
            text += f"; the record has {keys}"
            remedy = _remedy(self.key, field, record)
        if field.startswith("bbox") and not remedy.startswith("rename"):
            remedy = _box_remedy(record) or remedy
        text += f"; {remedy}; {LAYOUT}" if remedy else f"; {LAYOUT}"
        self.lost[self.key] |= {one for one in [_simple(record.get("id"))] if one is not None}
        if self.key == "annotations":
            self.image_ids[self.place] = _simple(record.get("image_id"))
        picture = _simple(record.get("file_name"))
        self.problems.error(Finding(FIELD, text, picture if isinstance(picture, str) else "", f"{self.path}: {place}"))


def _decode(raw: msgspec.Raw) -> _Fields:
    try:
        return _fields.decode(raw)
    except msgspec.ValidationError as error:
        what, _, field = str(error).partition(" - at `$")
        raise _FaultError(field.strip(".`"), what) from None


def _simple(raw: msgspec.Raw | None) -> int | str | None:
    """A value that is a whole number or a text, else None."""
    try:
        return None if raw is None else msgspec.json.decode(raw, type=int | str)
    except msgspec.DecodeError:
        return None


def _wrong(field: str, expected: str, value: object, index: str = "") -> NoReturn:
    kinds = {bool: "bool", int: "int", float: "float", str: "str", list: "array", dict: "object", type(None): "null"}
    raise _FaultError(f"{field}{index}", f"Expected {expected}, got `{kinds[type(value)]}`", f"it is {cut(value)}")


def _remedy(key: str, field: str, record: Mapping[str, msgspec.Raw]) -> str:
    near = near_key(field, [name for name, value in record.items() if bytes(value) != b"null" and name != field])
    if near:
        return f"rename `{near}` to `{field}` where that is what it means"
    return {
        "bbox": "write bbox [x, y, width, height] of the object, or leave the record out",
        "image_id": "write the id of its picture in `images`, or leave the record out",
        "category_id": "write the id of its class in `categories`, or leave the record out",
        "file_name": "write the name of its file, relative to the folder of pictures, or leave the record out",
        "name": "write the name of the class",
    }.get(field, f"give each of `{key}` an id of its own")


def _box_remedy(record: Mapping[str, msgspec.Raw]) -> str:
    """What to write where a box is in another form, or where a segmentation says where the object is; else ""."""
    box, shape = (bytes(record.get(name) or b"null").strip() for name in ("bbox", "segmentation"))
    if box[:1] == b"{":
        return "write its numbers as a list, [x, y, width, height]"
    if box[:1] == b'"' and len(box) > 2:
        return "write a list of numbers without quotes around it"
    if box[:1] == b"[" and box[1:].strip()[:1] in (b"[", b"{"):
        return "write its four numbers in one list"
    if box[1:-1].strip() and box != b"null":
        return ""
    if shape[:1] == b"[" and shape[1:-1].strip():
        return "write bbox [x, y, width, height] of the object, the box around the polygons of its segmentation"
    mask = "write bbox [x, y, width, height] of the object, the box around the mask of its segmentation"
    return mask if shape[:1] == b"{" else ""


def near_key(field: str, keys: list[str]) -> str:
    """The key of a record that may be what is missing: another name for it, or nearly the same; "" for none."""
    plain: Callable[[str], str] = lambda key: key.lower().replace("-", "_").replace(" ", "_")  # noqa: E731
    own = {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "file_name", "height", "width", "segmentation"}
    for name in (field, field.replace("_", ""), *_ALIASES.get(field, ())):
        for key in keys:
            if plain(key) == name and key not in own - {name}:
                return key
    close = difflib.get_close_matches(field, [key for key in keys if key not in own], 1, 0.7)
    return close[0] if close else ""
