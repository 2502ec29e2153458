"""Pieces of an HTML page: text that cannot be taken for markup, cells, tables that sort, drawn intervals."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from detector.text import printable


def text(value: object, keep: str = "") -> str:
    """Any text from data as it may stand in a page, between tags or in a quoted attribute; keep: as in `printable`."""
    return escape(printable(str(value), keep))


def number(shown: str) -> str:
    """A number with a minus sign instead of a hyphen, which is as wide as a plus."""
    return shown.replace("-", "\u2212") if shown != "-" else "\u2013"


def prose(line: str) -> str:
    """A sentence, escaped, with the minus signs of its numbers."""
    return re.sub(r"(?<=[ (])-(?=\d)", "\u2212", text(line))


def clipped(value: str, longest: int = 60) -> str:
    """A name from data, escaped; of a very long one the beginning, and the whole where a pointer rests on it."""
    if len(value) <= longest:
        return text(value)
    return f'<span title="{text(value)}">{text(value[: longest - 1])}\u2026</span>'


class Cell(NamedTuple):
    """A cell of a table. html: what it shows, escaped; key: what it is sorted by, "" for nothing, None for its text."""

    html: str
    key: float | str | None = None
    kind: str = ""
    heads: bool = False

    def __str__(self) -> str:
        """The element."""
        tag = 'th scope="row"' if self.heads else "td"
        kind = f' class="{self.kind}"' if self.kind else ""
        key = "" if self.key is None else f' data-v="{self.key}"'
        return f"<{tag}{kind}{key}>{self.html}</{tag[:2]}>"


def heading(value: str, before: str = "", below: str = "") -> Cell:
    """The name that a row begins with, and what stands before and, smaller, below it, escaped."""
    return Cell(before + clipped(value) + (f"<small>{below}</small>" if below else ""), kind="name", heads=True)


def words(value: object) -> Cell:
    """A cell of text, aligned left."""
    return Cell(text(value), kind="text")


def amount(shown: str, value: float | None, kind: str = "", below: str = "") -> Cell:
    """A cell of a number, with something small below it; sorted by its value."""
    under = f"<small>{number(below)}</small>" if below else ""
    return Cell(number(text(shown)) + under, "" if value is None else value, kind)


def table(
    head: Sequence[str], rows: Iterable[Sequence[Cell]], *, label: str, left: Sequence[int] = (0,), kind: str = "sorts",
    box: str = "box",
) -> str:  # fmt: skip
    """A table in a box that scrolls where it has no room, also by the keyboard.

    head: titles, escaped; label: what the table holds, escaped; left: columns of text; kind, box: CSS.
    """
    kinds = [' class="text"' if place in left else "" for place in range(len(head))]
    titles = "".join(f'<th scope="col"{of}>{title}</th>' for of, title in zip(kinds, head, strict=True))
    body = "\n".join(f"<tr>{''.join(map(str, row))}</tr>" for row in rows)
    return (
        f'<div class="{box}" tabindex="0" role="region" aria-label="{label}"><table class="{kind}">'
        f"<thead><tr>{titles}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def drawn(value: float | None, bounds: tuple[float, float] | None, scale: tuple[float, float]) -> Cell:
    """A cell with an interval as a line, its value as a tick, and a line at 0.

    scale: the ends of its column; what lies beyond is cut off there.
    """
    low, high = scale
    if value is None or high <= low:
        return Cell("", kind="drawn")

    def at(x: float) -> str:
        return f"{min(100.0, max(0.0, 100 * (x - low) / (high - low))):.1f}"

    lines = f'<line class="zero" x1="{at(0)}" x2="{at(0)}" y2="10"/>'
    if bounds is not None:
        lines += f'<line x1="{at(bounds[0])}" x2="{at(bounds[1])}" y1="5" y2="5"/>'
    if low <= value <= high:
        lines += f'<line x1="{at(value)}" x2="{at(value)}" y1="3.7" y2="6.3"/>'
    svg = f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{lines}</svg>'
    return Cell(f'<span class="bar">{svg}</span>', kind="drawn")
