"""What an exported file says of itself, so that it is enough to predict and to be evaluated with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from detector.config.reading import parse
from detector.errors import UserError
from detector.ops.flat import Padded
from detector.structures import NO_CLASS

KEY = "detector"
"""Of the entry of a file's metadata that holds the facts as JSON."""

SECOND = '{"second_stage":true}'
"""What the second file of two has there: the facts are in the first."""


class LeftOut(msgspec.Struct, frozen=True):
    """Layers that stay in float32. error: what int8 in them alone does to detections, 0..1; lost: AP before that."""

    layers: str
    error: float
    lost: float


class Loss(msgspec.Struct, frozen=True):
    """What int8 costs on a data set: float32's and int8's AP, their difference and its paired interval; fractions."""

    data: str
    images: int
    float32: float
    int8: float
    lost: float
    low: float | None
    high: float | None


class Int8(msgspec.Struct, frozen=True):
    """How a file's int8 came about, and what it costs and brings.

    pictures: it was calibrated with; layers, left_out: groups in int8 and in float32; error: of detections in pictures
    that were held out, 0..1; losses: of each test set, none where nobody measured; seconds, bytes: as a share of those
    of the file in float32.
    """

    pictures: int
    layers: list[str]
    left_out: list[LeftOut]
    error: float
    losses: list[Loss]
    seconds: float
    bytes: float


class Second(msgspec.Struct, frozen=True):
    """The file of the second stage: its inputs and outputs, and the SHA-256 of what it holds."""

    inputs: list[str]
    outputs: list[str]
    digest: str


class Facts(msgspec.Struct, frozen=True):
    """names, category_ids [C]: of the outputs; resize: the sides that a picture gets before it is padded.

    order, mean, std: of the pixels that the network wants, which the graph takes care of; limit: detections that an
    image has at most; scores: the lowest that the graph lets through; digest: of the checkpoint's tensors; weight:
    that file's name; step: of its training; config: the whole one, as YAML.
    """

    version: int
    names: list[str]
    category_ids: list[int]
    resize: "Resizing"
    order: str
    mean: list[float]
    std: list[float]
    limit: int
    scores: float
    digest: str
    weight: str
    step: int | None
    config: str
    thresholds: list[float] | None = None
    """[C] lowest scores of each class, of its best F1; None where nobody has measured them."""
    outputs: list[str] = msgspec.field(default_factory=lambda: list(Padded._fields))
    """Names of what the graph gives; others are those of the network alone, of which a selection has to follow."""
    strides: list[int] = []
    """Pixels per cell of the levels that stand in a row in outputs of the network alone, fine to coarse."""
    int8: Int8 | None = None
    """Of a file whose network is computed in int8."""

    selection: dict[str, Any] = {}
    """By what `ops.arrays.select` makes detections of the outputs of the network alone; empty: only torch can."""
    second: Second | None = None
    """Of a file beside which there is a second one, see `second_path`."""

    @property
    def split(self) -> bool:
        """Whether the graph ends where the network does."""
        return bool(self.strides)


class Resizing(msgspec.Struct, frozen=True):
    """How large a picture goes in. square: both sides, 0: its short side becomes `short`, its long one at most `long`.

    divisibility: of the padded sides; all in pixels.
    """

    square: int
    short: int
    long: int
    divisibility: int


def second_path(path: Path) -> Path:
    """Where the file of the second stage lies: NAME.roi_heads.onnx of NAME.onnx."""
    return path.with_name(f"{path.stem}.roi_heads{path.suffix}")


def facts_text(facts: Facts) -> str:
    """The facts as JSON."""
    return msgspec.json.encode(facts).decode()


def read_facts(text: str | None, path: object) -> Facts:
    """The facts that a file carries. Raises ValueError naming the file where it has none, or others."""
    if not text:
        raise UserError(f"{path} was not written by `detector export`: it does not say what its outputs mean")
    if text == SECOND:
        raise UserError(f"{path} is the second of two files: name the first, {name_of_first(Path(str(path)))}")
    try:
        facts = msgspec.json.decode(text, type=Facts)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise UserError(f"{path}: what it says of itself cannot be read ({error}); export it anew") from None
    if facts.version != 1:
        raise UserError(f"{path} was exported by another version; export it anew")
    if fault := next(_faults(facts), ""):
        raise UserError(f"{path} is damaged: {fault}; export it anew")
    parse(facts.config, f"{path}, its config")
    return facts


def name_of_first(path: Path) -> str:
    """What the file beside a second one is called, as far as its name tells."""
    return f"{path.stem.removesuffix('.roi_heads')}{path.suffix}" if ".roi_heads" in path.name else f"NAME{path.suffix}"


def _faults(facts: Facts) -> Iterator[str]:
    """What cannot be in the facts that `detector export` writes."""
    number, resize = len(facts.names), facts.resize
    named = [pair for pair in zip(facts.names, facts.category_ids, strict=False) if pair[0] not in NO_CLASS]
    if not number:
        yield "it has no classes"
    if len(facts.category_ids) != number:
        yield f"it has {number} names and {len(facts.category_ids)} category_ids"
    if len(set(named)) < len(named):
        yield "two of its names are the same, with the same category_ids"
    if facts.thresholds is not None and len(facts.thresholds) != number:
        yield f"it has {number} names and {len(facts.thresholds)} thresholds"
    if not all(0 <= one <= 1 for one in facts.thresholds or ()):
        yield "its thresholds are not in 0..1"
    if resize.divisibility < 1:
        yield f"divisibility {resize.divisibility} is less than 1"
    if resize.square < 0 or (resize.square == 0 and min(resize.short, resize.long) < 1):
        yield f"its pictures have sides of {resize.square or min(resize.short, resize.long)} pixels"
    whole = facts.outputs == list(Padded._fields)
    if whole == facts.split:
        yield f"its outputs are {', '.join(facts.outputs)}, and it has {'' if facts.split else 'no '}strides"
    if any(stride < 1 for stride in facts.strides):
        yield "its strides are less than 1"
    if facts.selection and whole:
        yield "it has a selection, and outputs that need none"
    if facts.second is not None and facts.selection.get("kind") != "faster_rcnn":
        yield "it has a second file, and its selection needs none"
    if facts.second is None and facts.selection.get("kind") == "faster_rcnn":
        yield "it has no second file, and its selection needs one"
