"""What is wrong with a data set: the table of kinds, and what readers and checks found of each."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from detector.errors import UserError
from detector.text import agreeing

T = TypeVar("T")

_log = logging.getLogger("detector")

SHOWN = 5
"""Examples of a kind that a message names."""

Severity = Literal["error", "warning", "note"]
Box = tuple[float, float, float, float]


class Kind(NamedTuple):
    """A kind of problem.

    severity: an error stops a training or makes its measures worthless, a warning is likely to be a mistake, or is left
    out by a training that says so, a note is worth to be known;
    what: a clause that follows a number, e.g. "boxes have a width or height of zero or less"; remedy: a sentence.
    """

    severity: Severity
    what: str
    remedy: str


KINDS: dict[str, Kind] = {}
"""Every kind by its id, lower-case words with hyphens; filled by the files that look for them."""


_CLAUSES: dict[str, str] = {}


def declare(id_: str, severity: Severity, what: str, remedy: str) -> str:
    """Files a kind in the table under its id, which is returned. Raises ValueError for one that is there.

    what: may have pairs of words, as box|boxes has|have, of which `clause` chooses; the table has the plural.
    """
    if id_ in KINDS:
        raise UserError(f"kind of problem {id_!r} is declared twice")
    KINDS[id_], _CLAUSES[id_] = Kind(severity, agreeing(2, what), remedy), what
    return id_


def clause(kind: str, number: int) -> str:
    """What a kind is, said of so many things."""
    return agreeing(number, _CLAUSES[kind])


class Finding(NamedTuple):
    """One example of a kind.

    text: a sentence that names file, record and value; picture: its file; record: as in `PackedIndex.record`, or of an
    annotation; box: x, y, width, height as in the file, pixels.
    """

    kind: str
    text: str
    picture: str = ""
    record: str = ""
    box: Box | None = None


class Problems:
    """What a reader found in one data set.

    everything: for the doctor. Then `error` keeps the finding and the reader goes on without that record, and all
    examples are kept. Else, for the loader, the first error is raised as a UserError, and of what can be read in spite
    of it a line each is kept in `lines`, to be logged; those in `usual` are no warnings.
    """

    def __init__(self, everything: bool = False) -> None:
        self.everything = everything
        self.findings: list[Finding] = []
        self.lines: list[str] = []
        self.usual: set[str] = set()
        self.lasting = True

    def error(self, finding: Finding) -> None:
        """A record that cannot be used. Raises ValueError with the finding's text unless everything is wanted."""
        if not self.everything:
            raise UserError(finding.text)
        self.findings.append(finding)

    def several(self, line: str, rows: Sequence[int], example: Callable[[int], Finding], usual: bool = False) -> None:
        """Records that a reader takes, mends or leaves out: `line`, one sentence for all, and an example a row.

        usual: whether they are in many data sets, and meant. Nothing happens without rows.
        """
        if len(rows):
            self.lines.append(line)
            self.usual |= {line} if usual else set()
            if self.everything:
                self.findings += [example(int(row)) for row in rows]

    def note(self, kind: str, line: str, examples: Sequence[Finding] = (), usual: bool = False) -> None:
        """What was said of the whole data set; without examples the line itself is the finding. usual: as above."""
        self.lines.append(line)
        self.usual |= {line} if usual else set()
        if self.everything:
            self.findings += examples or [Finding(kind, line)]


_noted: set[str] = set()


def logged(read: Callable[[Problems], T]) -> T:
    """What a reader reads; each line that it has to say goes to the log, one that is usual once in a process."""
    problems = Problems()
    result = read(problems)
    for line in problems.lines:
        if line not in problems.usual:
            _log.warning("%s", line)
        elif line not in _noted:
            _log.info("%s", line)
            _noted.add(line)
    return result


def named(path: Path, count: int, what: str, ids: Sequence[object], word: str = "annotation ids") -> str:
    """The line of a kind: file, number, clause and the first ids."""
    first = ", ".join(str(value) for value in ids[:SHOWN])
    return f"{path}: {count} {what} ({word}: {first}{', ..' if len(ids) > SHOWN else ''})"
