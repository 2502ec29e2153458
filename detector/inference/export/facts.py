"""What an exported file says of itself, so that it is enough to predict and to be evaluated with."""

from typing import Any

import msgspec

from detector.errors import UserError
from detector.ops.flat import Padded

KEY = "detector"
"""Of the entry of a file's metadata that holds the facts as JSON."""


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
    """Pixels per cell of the levels that stand in a row in each output of the network alone, fine to coarse."""

    selection: dict[str, Any] = {}
    """By what `ops.arrays.select` makes detections of the outputs of the network alone; empty: only torch can."""

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


def facts_text(facts: Facts) -> str:
    """The facts as JSON."""
    return msgspec.json.encode(facts).decode()


def read_facts(text: str | None, path: object) -> Facts:
    """The facts that a file carries. Raises ValueError naming the file where it has none, or others."""
    if not text:
        raise UserError(f"{path} was not written by `detector export`: it does not say what its outputs mean")
    try:
        facts = msgspec.json.decode(text, type=Facts)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise UserError(f"{path}: what it says of itself cannot be read ({error}); export it anew") from None
    if facts.version != 1 or len(facts.names) != len(facts.category_ids):
        raise UserError(f"{path} was exported by another version; export it anew")
    return facts
