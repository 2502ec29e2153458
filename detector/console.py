"""What a person sees: progress bars, and log lines between them; in a terminal, a notebook or a file of text."""

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Protocol, TextIO

from tqdm import tqdm

from detector.errors import FileAccessError
from detector.launch import launch
from detector.text import printable

QUIET = 30.0
"""Seconds between the lines that stand for a bar where there is no terminal."""

EARLY = 3.0
"""Seconds before the first of them where they stand beside what a command prints, which has no log."""

MINUTE = 60.0
"""Seconds that a share has left at least where it says so: what a plan does not count, it ends with."""

_SHARE = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} passed{left}{postfix}"
"""The bar of what is counted in nothing that a person counts in; see `_share`."""

log = logging.getLogger("detector")

_printing = ContextVar("printing", default=False)


class Progress(Protocol):
    """What the callers of `progress` use of a bar; it is also a context, which closes it."""

    def __iter__(self) -> Iterator[Any]: ...

    def __enter__(self) -> "Progress": ...

    def __exit__(self, *error: object) -> None: ...

    def update(self, n: int = 1) -> object:
        """Count n more."""

    def set_postfix_str(self, s: str, refresh: bool = True) -> None:
        """What stands behind the numbers."""

    def close(self) -> None:
        """Leave it as it is."""


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook, whose cells show bars although they are no terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def watched() -> bool:
    """Whether a bar can be redrawn in its place: standard error is a terminal, or the cell of a notebook.

    A terminal without columns or rows, as a container's may be, shows no bar; nor does any but the first of several
    processes.
    """
    if launch().rank:
        return False
    if in_notebook():
        return True
    try:
        return _is_open(sys.stderr) and sys.stderr.isatty() and min(os.get_terminal_size(sys.stderr.fileno())) > 0
    except OSError:
        return False


def _is_open(stream: TextIO | None) -> bool:
    """Whether it can be written to: a program without a console has none."""
    return stream is not None and not stream.closed


def progress(
    items: Iterable[Any] | None = None,
    *,
    desc: str,
    unit: str,
    total: int | None = None,
    initial: int = 0,
    leave: bool = True,
    delay: float = 0,
) -> Progress:
    """Every progress bar of the package: on standard error where it is watched, else a log line every QUIET seconds.

    items: what is counted as it is iterated over, else the caller counts with `update`; total: how many, None for
    len(items), or for not known; unit: of what, "B" for bytes, "%" for what is shown as a share of the total alone;
    leave: whether it stays when it is done; delay: seconds before it appears.
    """
    if not watched():
        return _Lines(items, desc, unit, total, initial)
    # Cells of a notebook know no way up: there a bar within another one takes its line.
    bar, line = (_notebook_bar(), 0) if in_notebook() else (tqdm, None)
    return (_share(bar) if unit == "%" else bar)(
        items, desc=desc, unit=unit, total=total, initial=initial, leave=leave, delay=delay,
        unit_scale=unit == "B", dynamic_ncols=True, position=line, bar_format=_SHARE if unit == "%" else None,
    )  # fmt: skip


def _notebook_bar() -> type:
    """The bar of a notebook; where ipywidgets is missing that of a terminal, which cells show too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would be a complaint about ipywidgets in every first cell
        from tqdm.auto import tqdm as bar
    return bar


def _share(bar: type) -> type:
    """A bar that knows {left}: ", 01:30 left", nothing where that is less than a minute or not known."""

    class Share(bar):  # type: ignore[misc]
        @property
        def format_dict(self) -> dict[str, Any]:
            said = super().format_dict
            seconds = _left(said["n"], said["total"], said["initial"], said["elapsed"])
            return {**said, "left": f", {tqdm.format_interval(seconds)} left" if seconds >= MINUTE else ""}

    return Share


def _left(done: int, total: int | None, initial: int, passed: float) -> float:
    """Seconds that the rest takes at the pace so far; 0 where that is not known."""
    return passed / (done - initial) * (total - done) if total and done > initial else 0.0


class _Lines:
    """Log lines in place of a bar, none for what is over sooner."""

    def __init__(self, items: Iterable[Any] | None, desc: str, unit: str, total: int | None, initial: int) -> None:
        self.items, self.desc, self.unit, self.text = items, desc, unit, ""
        self.total = len(items) if total is None and hasattr(items, "__len__") else total  # type: ignore[arg-type]
        self.done = self.initial = initial
        self.start = self.said = time.monotonic()
        self.wait = EARLY if _printing.get() else QUIET

    def __iter__(self) -> Iterator[Any]:
        for item in self.items or ():
            yield item
            self.update()

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def update(self, n: int = 1) -> None:
        self.done += n
        now = time.monotonic()
        if now - self.said < self.wait:
            return
        self.said, self.wait = now, QUIET
        passed, counts = now - self.start, f"{self._count(self.done)} {self.unit}"
        times = [f"{duration(passed)} passed"]
        if self.total:
            left = _left(self.done, self.total, self.initial, passed)
            counts = f"{self._count(self.done)}/{self._count(self.total)} {self.unit}"
            if self.unit == "%":
                counts = f"{100 * self.done / self.total:.0f} %"
            if self.unit != "%" or left >= MINUTE:
                times += [f"{duration(left)} left"]
        _say(", ".join([f"{self.desc}: {counts}", *times, *[self.text] * bool(self.text)]))

    def set_postfix_str(self, s: str, refresh: bool = True) -> None:
        self.text = s

    def close(self) -> None:
        pass

    def _count(self, number: int) -> str:
        return tqdm.format_sizeof(number) if self.unit == "B" else str(number)


@contextmanager
def printing() -> Iterator[None]:
    """A command that has no log, as what it prints may go into a file: lines of progress are on standard error."""
    token = _printing.set(True)
    try:
        yield
    finally:
        _printing.reset(token)


def _say(text: str) -> None:
    """A line in the log, or on standard error."""
    if _printing.get() and not launch().rank and _is_open(sys.stderr):
        with suppress(OSError):
            print(text, file=sys.stderr, flush=True)
    else:
        log.info("%s", text)


def duration(seconds: float) -> str:
    """Whole seconds as 0:45, 12:30 or 3:59:10; "?" for what is no number."""
    if not 0 <= seconds < float("inf"):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class _Handler(logging.Handler):
    """Log lines on what standard output is at the time, above the bars; with the time of day where no bar is."""

    timed = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")
    plain = logging.Formatter("%(levelname)s %(message)s")

    lost = False

    def emit(self, record: logging.LogRecord) -> None:
        """Raises UserError, once, when nobody reads any more: a reader like `head` has seen enough."""
        if _is_open(sys.stdout) and not self.lost:
            line = (self.plain if watched() else self.timed).format(record)
            try:
                tqdm.write(printable(line, keep="\n\t"), file=sys.stdout)
                sys.stdout.flush()  # into a file too: it is read while the program runs
            except OSError as error:
                self.lost = True
                raise FileAccessError(f"standard output cannot be written: {error.strerror or error}") from None


def setup_logging() -> logging.Logger:
    """The logger "detector", writing to standard output between progress bars; once per process.

    Of several processes the first one speaks for all; the others say what is wrong with them.
    """
    if not log.handlers:
        log.addHandler(_Handler())
        log.setLevel(logging.ERROR if launch().rank else logging.INFO)
        log.propagate = False
    return log


@contextmanager
def hushed() -> Iterator[None]:
    """A block whose log is that of errors alone: for what was told before and comes again."""
    level = log.level
    log.setLevel(max(level, logging.ERROR))
    try:
        yield
    finally:
        log.setLevel(level)


def show_log() -> None:
    """`setup_logging` for those who call a function in place of a command, unless they set up logging themselves.

    A notebook's own handlers do not count: they are not the user's.
    """
    if not log.handlers and log.level == logging.NOTSET and (in_notebook() or not log.hasHandlers()):
        setup_logging()
