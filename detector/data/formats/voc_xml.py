"""One annotation file of Pascal VOC: its texts, and the size and the objects that they mean."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

from detector.data.packed import LARGEST
from detector.data.problems import Box, declare
from detector.errors import FileAccessError, UserError, cut

MAX_BYTES = 1 << 24
"""The largest annotation file, list of a split or list of classes."""

MAX_DEPTH = 64
"""How deep the elements of an annotation file may nest; VOC's are 4 deep."""

EMPTY = declare(
    "voc-empty-object",
    "warning",
    "object|objects has|have neither a class nor a box",
    "Delete these <object> elements.",
)
WORD = declare(
    "voc-difficult-word",
    "note",
    "object|objects has|have a <difficult> that is neither 0 nor 1",
    "Words for no and Unspecified count as 0, words for yes and numbers but 0 as 1; write that number.",
)
COMMA = declare(
    "voc-decimal-comma",
    "warning",
    "object|objects has|have numbers with a decimal comma",
    "Write them with a decimal point.",
)
SHAPE = declare(
    "voc-shape",
    "note",
    "object|objects is|are polygons or turned boxes without a <bndbox>",
    "The upright boxes around them count; export boxes where others are meant.",
)
THIN = declare(
    "voc-one-pixel",
    "warning",
    "box|boxes begins|begin and ends|end in the same column or row, and so is|are one pixel wide or high",
    "Draw them anew, unless such objects are meant.",
)

_EDGES = ("xmin", "ymin", "xmax", "ymax")
_TURNED = ("cx", "cy", "w", "h", "angle")
_IMAGE_FIELDS = {"filename", "size/width", "size/height"}
_OBJECT_FIELDS = {
    *("object/name", "object/difficult"),
    *(f"object/bndbox/{edge}" for edge in _EDGES),
    *(f"object/robndbox/{side}" for side in _TURNED),
}
_POINT = re.compile(r"object/polygon/(?:(?:pt|point)/)?([xy])\d*")
_DECIMAL_COMMA = re.compile(r"([+-]?\d+),(\d+)")
_THOUSANDS = re.compile(r"[1-9]\d{0,2},\d{3}")
_AMPERSAND = re.compile(rb"&(?!#?\w+;)")
_STRICT = {"object", "bndbox"}
_NO = {"", "unspecified", "unknown", "undefined", "none", "null", "false", "no", "f", "n", "off"}
_YES = {"true", "yes", "t", "y", "on"}
_NO_SIZE = {"", "none", "null", "nan", "unspecified", "unknown", "undefined"}


class _RefusedError(Exception):
    """What a file or an object may not hold."""


@dataclass
class Thing:
    """The texts of one <object>, by their place under the root; boxes: how many; x, y: of its polygon's points."""

    texts: dict[str, str] = field(default_factory=dict)
    boxes: int = 0
    x: list[str] = field(default_factory=list)
    y: list[str] = field(default_factory=list)


@dataclass
class Annotation:
    """What one XML file says: texts by their place under the root, e.g. "size/width", and its objects."""

    path: Path
    image: dict[str, str] = field(default_factory=dict)
    objects: list[Thing] = field(default_factory=list)


class Object(NamedTuple):
    """One object. number: its place in the file, from 1; box: x, y, width, height, pixels from 0."""

    number: int
    name: str
    box: Box
    difficult: bool


class Read(NamedTuple):
    """The objects of a file; faults: number and text of those that cannot be used.

    taken: kind, number and text of those that were read otherwise than they are written, or passed over.
    """

    objects: list[Object]
    faults: list[tuple[int, str]]
    taken: list[tuple[str, int, str]]


def read_annotation(path: Path) -> Annotation:
    """The texts of one file. Nothing in it is expanded or fetched: a file with a document type is refused.

    Raises ValueError naming the file when it is no XML or no annotation of VOC.
    """
    one, thing = Annotation(path), Thing()
    stack: list[str] = []
    text: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if not stack and name != "annotation":
            raise UserError(f"{path}: its outermost element is <{name}>; an annotation of VOC begins with <annotation>")
        if len(stack) >= MAX_DEPTH:
            raise _RefusedError(f"its elements nest more than {MAX_DEPTH} deep, which no annotation of VOC does")
        stack.append(name)
        text.clear()
        if name.lower() in _STRICT:
            _check_place(stack[1:])

    def end(name: str) -> None:
        nonlocal thing
        place = "/".join(stack[1:])
        stack.pop()
        if place in _OBJECT_FIELDS:
            thing.texts[place.removeprefix("object/")] = "".join(text).strip()
        elif place in _IMAGE_FIELDS:
            one.image[place] = "".join(text).strip()
        elif place == "object/bndbox":
            thing.boxes += 1
        elif place == "object":
            one.objects.append(thing)
            thing = Thing()
        elif place.startswith("object/polygon/") and (point := _POINT.fullmatch(place)):
            (thing.x if point[1] == "x" else thing.y).append("".join(text).strip())
        text.clear()

    def document_type(*declaration: object) -> None:
        raise _RefusedError("delete its <!DOCTYPE ..>: such declarations define entities and are never read")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text.append
    parser.StartDoctypeDeclHandler = document_type
    try:
        data = read_bytes(path)
    except OSError as error:
        raise FileAccessError(f"{path}: {error.strerror}; fetch it again, or delete it") from None
    try:
        parser.Parse(data, True)
    except _RefusedError as error:
        raise UserError(f"{path}: {error}") from None
    except UserError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise UserError(f"{path}: not an XML file: {error}; {_remedy(str(error), data)}") from None
    return one


def _remedy(error: str, data: bytes) -> str:
    """What to do with a file that is no XML."""
    if "encoding" in error:
        return "save it as UTF-8, and name that encoding in its first line"
    if bare := _AMPERSAND.search(data):
        return f"write &amp; for the & in line {data.count(10, 0, bare.start()) + 1}"
    return "mend that place or write the file anew"


def _check_place(parts: Sequence[str]) -> None:
    """Refuse what looks like an object and would not be read as one, so that the picture would be background."""
    name, above = parts[-1], parts[:-1]
    if name.lower() == "object" and (name, *above) != ("object",):
        where = f"in <{above[-1]}>" if above else "so spelled"
        raise _RefusedError(
            f"it has an <{name}> {where}; VOC's <object> stands in <annotation> itself, in small letters"
        )
    if name.lower() == "bndbox" and parts[0] != "object":
        raise _RefusedError(f"it has a <{name}> in <{'/'.join(above) or 'annotation'}>; a box belongs in an <object>")


def read_bytes(path: Path) -> bytes:
    """What a file holds. Raises ValueError naming it when it is larger than any annotation, OSError."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UserError(f"{path}: more than {MAX_BYTES} bytes, which no annotation of VOC needs; is it another file?")
    return data


def read_size(one: Annotation) -> tuple[int, int]:
    """(height, width), pixels; 0, 0 where the file does not say it. Raises ValueError naming it for anything else."""
    texts = [one.image.get(f"size/{side}", "") for side in ("height", "width")]
    if any(text.lower() in _NO_SIZE for text in texts):
        return 0, 0
    try:
        height, width = (int(_decimal(text, 0)[0]) for text in texts)
    except (ValueError, OverflowError):
        said = " x ".join(text[:20] for text in texts)
        raise UserError(f"{one.path}: its size is {said}; height and width are whole numbers") from None
    if max(height, width) > LARGEST:
        raise UserError(f"{one.path}: its size is {height} x {width}, beyond {LARGEST}: such a picture there is not")
    return (height, width) if height > 0 and width > 0 else (0, 0)


def class_names(one: Annotation) -> list[str]:
    """The names of all objects that have one."""
    return [name for thing in one.objects if (name := thing.texts.get("name"))]


def read_objects(one: Annotation, size: tuple[int, int]) -> Read:
    """The objects of a file, for a picture of this size (height, width; 0, 0 where that is not known).

    A <bndbox> counts its pixels from 1 and includes the last one, as in VOC: its edges are xmin - 1, ymin - 1, xmax,
    ymax. One that begins and ends in one column, or row, is one pixel wide, or high; a single point has no area.
    Without it a <polygon> or a <robndbox> counts as the upright box around it.
    """
    read = Read([], [], [])
    for number, thing in enumerate(one.objects, start=1):
        if not (any(thing.texts.values()) or thing.x or thing.y):
            read.taken.append((EMPTY, number, "it has neither a class nor a box"))
            continue
        try:
            found, taken = _read_object(number, thing, size)
        except _RefusedError as error:
            read.faults.append((number, f"object {number} ({cut(thing.texts.get('name', ''))}): {error}"))
            continue
        read.objects.append(found)
        read.taken.extend((kind, number, text) for kind, text in taken.items())
    return read


def _read_object(number: int, thing: Thing, size: tuple[int, int]) -> tuple[Object, dict[str, str]]:
    """An object, and what is to be said of how it was read: kind -> text."""
    texts = thing.texts
    taken: dict[str, str] = {}
    if not texts.get("name"):
        raise _RefusedError("it has no <name>")
    if thing.boxes > 1:
        raise _RefusedError(f"it has {thing.boxes} <bndbox>; write an <object> for each")
    edges = [texts.get(f"bndbox/{edge}", "") for edge in _EDGES]
    turned = [texts.get(f"robndbox/{side}", "") for side in _TURNED]
    names: tuple[str, ...] = _EDGES
    if all(edges) or not (thing.x or all(turned)):
        lacking = [edge for edge, text in zip(_EDGES, edges, strict=True) if not text]
        if lacking:
            raise _RefusedError(f"it has no <bndbox>, <{lacking[0]}>")
        values = edges
    elif thing.x:
        if len(thing.x) != len(thing.y):
            raise _RefusedError(f"its polygon has {len(thing.x)} x and {len(thing.y)} y")
        names = tuple(f"{axis}{i}" for axis in "xy" for i in range(1, len(thing.x) + 1))
        values = [*thing.x, *thing.y]
    else:
        names, values = _TURNED, turned
    numbers = []
    for name, text in zip(names, values, strict=True):
        limit = 0 if name == "angle" else size["y" not in name]
        value, comma = _finite(name, text, limit)
        numbers.append(value)
        if comma:
            taken[COMMA] = f"{name} is {cut(text)}"
    if names is _EDGES:
        left, top, right, bottom = numbers
        thin = (left == right) != (top == bottom)
        point = left == right and top == bottom
        # The last pixel is included; where it lies before the first, or there is but a point, there is no area.
        width, height = (d + (d >= 0 and not point) for d in (right - left, bottom - top))
        box = (left - 1, top - 1, width, height)
        if thin and width > 0 and height > 0:
            taken[THIN] = f"its xmin, ymin, xmax, ymax are {', '.join(values)}"
    else:
        taken[SHAPE] = f"it is a {'robndbox' if names is _TURNED else 'polygon'}"
        box = _around_turned(numbers) if names is _TURNED else _around(numbers)
    flag = texts.get("difficult", "")
    if flag not in ("", "0", "1"):
        taken[WORD] = f"its <difficult> is {cut(flag)}"
    return Object(number, texts["name"], box, _is_yes(flag)), taken


def _around(numbers: list[float]) -> Box:
    """The box around a polygon's points, whose x come first: they are places in the picture, not pixels."""
    x, y = numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]
    return min(x), min(y), max(x) - min(x), max(y) - min(y)


def _around_turned(numbers: list[float]) -> Box:
    """The upright box around a box with its centre at x, y, turned by an angle in radians."""
    x, y, w, h, angle = numbers
    if abs(angle) > 2 * math.pi:
        raise _RefusedError(f"its angle is {angle:g}; it is in radians, at most 6.28")
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    width, height = w * cos + h * sin, w * sin + h * cos
    return x - width / 2, y - height / 2, width, height


def _finite(name: str, text: str, limit: int) -> tuple[float, bool]:
    """A number and whether it was written with a decimal comma."""
    try:
        value, comma = _decimal(text, limit)
    except ValueError:
        value, comma = math.nan, False
    if not math.isfinite(value):
        if _DECIMAL_COMMA.fullmatch(text):
            raise _RefusedError(
                f"{name} is {cut(text)}, which may mean a thousand or a fraction; write a decimal point"
            )
        raise _RefusedError(f"{name} is {cut(text)}, which is no number")
    if abs(value) > LARGEST:
        raise _RefusedError(f"{name} is {cut(text)}, beyond {LARGEST}: such a picture there is not")
    return value, comma


def _decimal(text: str, limit: int) -> tuple[float, bool]:
    """A number, perhaps with a decimal comma, and whether it has one.

    limit: the picture's side; "1,234" is taken where 1234 lies beyond that. Raises ValueError for anything else.
    """
    parts = _DECIMAL_COMMA.fullmatch(text)
    if parts is None:
        return float(text), False
    if _THOUSANDS.fullmatch(text) and not 0 < limit < int(parts[1] + parts[2]):
        raise ValueError(text)
    return float(f"{parts[1]}.{parts[2]}"), True


def _is_yes(flag: str) -> bool:
    word = flag.lower()
    if word in _NO or word in _YES:
        return word in _YES
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _RefusedError(f"difficult is {cut(flag)}; it has to be 0 or 1")
    return number != 0
