"""Signals in a training: when they count, and what they leave."""

import os
import signal

import pytest

from detector.engine import stop as stopping
from detector.engine.stop import Stopped, asked_to_stop, beginning, held, listening, stop_if_asked

EACH = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
BOTH = pytest.mark.parametrize(("number", "status"), EACH)


@pytest.fixture(autouse=True)
def heard():
    """The signals as a terminal has them: nohup has SIGHUP ignored, which a training then respects."""
    before = {number: signal.getsignal(number) for number, _ in EACH}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number=signal.SIGINT):
    os.kill(os.getpid(), number)


def stopped(block):
    """What a block raises; it notes its progress in a list, which comes second."""
    done = []
    with pytest.raises(Stopped) as caught:
        block(done)
    return caught.value, done


@BOTH
def test_a_signal_counts_at_once_outside_of_held(number, status):
    def block(done):
        with listening(), beginning():
            send(number)
            done.append("went on")

    before = signal.getsignal(number)
    stop, done = stopped(block)
    assert (stop.number, stop.status, done) == (number, status, [])
    assert "before the first step: nothing was written" in str(stop)
    assert signal.getsignal(number) is before
    assert isinstance(stop, KeyboardInterrupt)


@BOTH
def test_a_signal_waits_for_the_end_of_held(number, status, capfd):
    def block(done):
        with listening():
            with held():
                with held():
                    send(number)
                    done.append("inner")
                done.append("outer")
            done.append("went on")

    stop, done = stopped(block)
    assert (stop.status, done) == (status, ["inner", "outer"])
    assert "once more ends at once" in capfd.readouterr().err


def test_a_place_within_held_where_nothing_is_lost():
    def block(done):
        with listening(), held():
            stop_if_asked()
            send()
            done.append("begun")
            stop_if_asked()
            done.append("went on")

    assert stopped(block)[1] == ["begun"]
    stop_if_asked()  # over: a new training begins without it


def test_an_error_of_the_block_comes_first():
    def block():
        with listening(), held():
            send()
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        block()


def test_the_second_listener_leaves_the_first_one_at_work():
    def block(done):
        with listening():
            with listening():
                done.append("inner")
            send()
            done.append("went on")

    assert stopped(block)[1] == ["inner"]


def test_signals_that_were_ignored_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with listening():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            send()
            assert asked_to_stop() is None
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("later", "ends"), [(True, True), (False, False)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_the_process_unless_it_is_a_copy(number, later, ends):
    child = os.fork()
    if not child:
        stopping.COPY = 0 if later else 60
        try:
            with listening(), held():
                send(number)
                send(number)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (-number if ends else 0)


def test_in_a_notebook_the_second_one_is_an_interrupt(monkeypatch):
    monkeypatch.setattr(stopping, "COPY", 0)
    monkeypatch.setattr(stopping, "in_notebook", lambda: True)

    def block():
        with listening(), held():
            send()
            send()

    with pytest.raises(KeyboardInterrupt) as caught:
        block()
    assert not isinstance(caught.value, Stopped)


def test_a_terminal_that_is_gone_changes_nothing(monkeypatch):
    def gone(*_):
        raise OSError(5, "Input/output error")

    def block(done):
        with listening(), held():
            monkeypatch.setattr(stopping.os, "write", gone)
            send(signal.SIGHUP)
            assert asked_to_stop().status == 129
            done.append("finished")

    assert stopped(block)[1] == ["finished"]


def test_a_child_leaves_signals_to_its_parent():
    with listening():
        child = os.fork()
        if not child:
            try:
                send()
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
