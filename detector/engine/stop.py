"""Ctrl-C, SIGTERM and SIGHUP in a training: what has begun is finished and kept, then the process ends."""

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

from detector.console import in_notebook
from detector.distributed import largest, world_size
from detector.errors import UserError

T = TypeVar("T")

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
if hasattr(signal, "SIGHUP"):
    SIGNALS[signal.SIGHUP] = "SIGHUP (the terminal was closed)"


COPY = 1.0
"""Seconds in which a second signal is a copy: terminals and those who start a program may both send it."""


class Stopped(KeyboardInterrupt):
    """A training that was asked to stop; prints as what became of it. status: of the process: 130, 143 or 129."""

    def __init__(self, number: int, text: str = "") -> None:
        self.number = number
        self.status = 128 + number
        self.signal = SIGNALS[signal.Signals(number)]
        super().__init__(text or f"stopped by {self.signal}")


class _Listener:
    """What is known of the signals of this process.

    wanted: the first one that came, 0 for none; held: how many blocks are to be finished before it counts.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self.wanted = 0
        self.since = 0.0
        self.before: dict[int, Any] = {}
        self.held = 0

    def _again(self, number: int, frame: FrameType | None) -> None:
        """The second signal: at once, as if nobody listened. Not the copy of the first one that some programs send."""
        if time.monotonic() - self.since < COPY:
            return
        before = self.before.get(number)
        if in_notebook() and callable(before):  # whose process holds more than this training
            before(number, frame)
            return
        signal.signal(number, signal.SIG_DFL)
        os.kill(self.process, number)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a worker that was forked a moment ago: it ends with its parent
            return
        if self.wanted:
            self._again(number, frame)
            return
        self.wanted, self.since = number, time.monotonic()
        if not self.held and world_size() == 1:
            raise Stopped(number)
        # Not by print: the signal may have come while something was being printed.
        name = SIGNALS[signal.Signals(number)]
        with suppress(OSError):  # a terminal that was closed
            os.write(2, f"\n{name}: what has begun is finished and kept; once more ends at once\n".encode())


_listener: _Listener | None = None


@contextmanager
def listening() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP raise `Stopped` in this block, after the blocks of `held` that they come in.

    Where several processes train together, they raise it in all of them, at the next `stop_if_asked`.

    A second one ends the process at once. Outside of the main thread, which is where Python handles signals, and for
    signals that the process was started to ignore, nothing changes. May be nested.
    """
    global _listener
    if _listener is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _listener = _Listener()
    before = _listener.before = {int(number): signal.getsignal(number) for number in SIGNALS}
    heard = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    try:
        for number in heard:
            signal.signal(number, _listener)
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])
        _listener = None


@contextmanager
def held() -> Iterator[None]:
    """A block that is finished before `Stopped` is raised; an error of its own comes first."""
    listener = _listener
    if listener is None:
        yield
        return
    listener.held += 1
    try:
        yield
    finally:
        listener.held -= 1
    if not listener.held and world_size() == 1:
        stop_if_asked()


def asked_to_stop() -> Stopped | None:
    """What a signal that came in this training asks for."""
    return Stopped(_listener.wanted) if _listener is not None and _listener.wanted else None


@contextmanager
def beginning(what: str = "nothing was written") -> Iterator[None]:
    """A block before the first step: `Stopped` says so, and that `what`."""
    try:
        yield
    except Stopped as stopped:
        text = f"stopped by {stopped.signal} before the first step: {what}"
        raise Stopped(stopped.number, text) from None
    except UserError as error:
        error.at_the_beginning = True  # where several processes make the same mistakes
        raise


def stoppable(items: Iterable[T], loader: Any) -> Iterator[T]:  # noqa: ANN401 - a length is needed among several only
    """Items with a `stop_if_asked` before each, in all processes together.

    loader: whose items they are, and whose length counts them; other processes may have more.
    """
    rounds = largest([len(loader)])[0] if world_size() > 1 else 0
    for item in items:
        stop_if_asked()
        rounds -= 1
        yield item
    for _ in range(rounds):
        stop_if_asked()  # at the places of the others


def stop_if_asked() -> None:
    """Raise `Stopped` if a signal has come: for places within `held` where nothing is lost.

    Several processes do so together, after the same step or batch: each of them has to come by the same places.
    """
    (wanted,) = largest([_listener.wanted if _listener is not None else 0])
    if wanted:
        raise Stopped(wanted)
