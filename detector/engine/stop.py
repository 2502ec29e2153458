"""Ctrl-C and SIGTERM while something is trained: what has begun is finished and kept, then the process ends."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Stopped(KeyboardInterrupt):
    """A training that was asked to stop; prints as what became of it. status: of the process, 130 or 143."""

    def __init__(self, number: int, text: str = "") -> None:
        self.number = number
        self.status = 128 + number
        self.signal = SIGNALS[signal.Signals(number)]
        super().__init__(text or f"stopped by {self.signal} before the first step: nothing was written")


class _Listener:
    """What is known of the signals of this process.

    wanted: the first one that came, 0 for none; held: how many blocks are to be finished before it counts.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self.wanted = 0
        self.held = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a worker that was forked a moment ago: it ends with its parent
            return
        if self.wanted:  # the second one: at once, as if nobody listened
            signal.signal(number, signal.SIG_DFL)
            os.kill(self.process, number)
            return
        self.wanted = number
        if not self.held:
            raise Stopped(number)
        # Not by print: the signal may have come while something was being printed.
        name = SIGNALS[signal.Signals(number)]
        os.write(2, f"\n{name}: what has begun is finished and kept; once more ends at once\n".encode())


_listener: _Listener | None = None


@contextmanager
def listening() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise `Stopped` in this block, after the blocks of `held` that they come in.

    A second one ends the process at once. Outside of the main thread, which is where Python handles signals, and for
    signals that the process was started to ignore, nothing changes. May be nested.
    """
    global _listener
    if _listener is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _listener = _Listener()
    before = {number: signal.getsignal(number) for number in SIGNALS}
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
    if not listener.held:
        stop_if_asked()


def stop_if_asked() -> None:
    """Raise `Stopped` if a signal has come: for places within `held` where nothing is lost."""
    if _listener is not None and _listener.wanted:
        raise Stopped(_listener.wanted)
