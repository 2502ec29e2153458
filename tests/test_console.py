"""Bars where somebody watches, lines where nobody does."""

import io
import logging
import os
import re
import select
import struct
import sys
import types
import warnings
from contextlib import ExitStack

import pytest
from helpers import ROOT

from detector import console
from detector.commands.base import run
from detector.console import duration, in_notebook, progress, setup_logging, show_log, watched

log = logging.getLogger("detector")


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    own = Clock()
    monkeypatch.setattr(console, "time", own)
    return own


@pytest.fixture
def said(caplog):
    """The log lines so far."""
    caplog.set_level(logging.INFO, "detector")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
def notebook(monkeypatch):
    """A process that looks like the kernel of a notebook."""
    shell = types.SimpleNamespace(kernel=object(), config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    for name in ("tqdm.auto", "tqdm.autonotebook", "tqdm.notebook"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def terminal(monkeypatch):
    """terminal(columns): puts standard error on a terminal that is so wide; gives what reads what was shown there."""
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    with ExitStack() as opened:

        def start(columns):
            master, slave = os.openpty()
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
            opened.callback(os.close, master)
            monkeypatch.setattr(sys, "stderr", opened.enter_context(os.fdopen(slave, "w")))

            def shown():
                text = b""
                while select.select([master], [], [], 0.1)[0]:
                    text += os.read(master, 1 << 16)
                return text.decode()

            return shown

        yield start


def test_a_file_of_text_gets_no_bar_and_what_is_quick_no_line(said, capsys):
    assert list(progress(range(5), desc="evaluate", unit="batch")) == [0, 1, 2, 3, 4]
    with progress(total=3, desc="predict", unit="image") as bar:
        bar.update(3)
    assert not said()
    assert capsys.readouterr().err == ""


def test_what_takes_long_gets_a_line_every_thirty_seconds(said, clock):
    for _ in (bar := progress(range(10), desc="evaluate", unit="batch")):
        clock.now += 12
        bar.set_postfix_str("top-1 50.00", refresh=False)
    assert said() == [
        "evaluate: 3/10 batch, 0:36 passed, 1:24 left, top-1 50.00",
        "evaluate: 6/10 batch, 1:12 passed, 0:48 left, top-1 50.00",
        "evaluate: 9/10 batch, 1:48 passed, 0:12 left, top-1 50.00",
    ]


def test_a_command_without_a_log_says_on_standard_error_how_far_it_is(said, clock, capsys):
    def count():
        for _ in progress(range(10), desc="count", unit="network"):
            clock.now += 4
        print("a table")

    run(count, log=False)
    shown = capsys.readouterr()
    assert shown.out == "a table\n"
    assert shown.err.splitlines() == [
        "count: 1/10 network, 0:04 passed, 0:36 left",
        "count: 9/10 network, 0:36 passed, 0:04 left",
    ]
    assert not said()
    count()
    assert said() == ["count: 8/10 network, 0:32 passed, 0:08 left"]


def test_bytes_and_unknown_ends(said, clock):
    for total in (4_000_000, None):
        bar = progress(total=total, desc="a.pth", unit="B")
        clock.now += 30
        bar.update(1_000_000)
    assert said() == ["a.pth: 1.00M/4.00M B, 0:30 passed, 1:30 left", "a.pth: 1.00M B, 0:30 passed"]


def test_a_share_is_one_number(said, clock):
    bar = progress(total=1105, desc="trainings", unit="%")
    clock.now += 34
    bar.set_postfix_str("fcos resnet18, seed 0 (training 1 of 4)")
    bar.update(28)
    assert said() == ["trainings: 3 %, 0:34 passed, 21:48 left, fcos resnet18, seed 0 (training 1 of 4)"]


def test_the_bar_of_a_share_has_no_counts(terminal):
    shown = terminal(100)
    bar = progress(total=1105, desc="trainings", unit="%")
    bar.set_postfix_str("fcos a")
    bar.update(1105)
    bar.close()
    text = shown()
    assert "trainings: 100%|" in text
    assert "1105" not in text
    assert " passed, fcos a" in text


def test_of_a_share_less_than_a_minute_is_not_said(said, clock):
    bar = progress(total=101, desc="trainings", unit="%")
    for now, done in ((140.0, 20), (240.0, 80)):
        clock.now = now
        bar.update(done)
    clock.now = 700.0
    bar.update(0)
    lines = ["20 %, 0:40 passed, 2:42 left", "99 %, 2:20 passed", "99 %, 10:00 passed"]
    assert said() == [f"trainings: {line}" for line in lines]


def test_the_bar_of_a_share_says_what_is_left_from_a_minute_on(terminal):
    shown = terminal(100)
    bar = progress(total=1000, desc="trainings", unit="%")
    bar.start_t -= 100
    bar.update(600)
    bar.refresh()
    assert re.search(r" 60%\|.* 01:4\d passed, 01:0\d left", shown())
    bar.update(390)
    bar.close()
    assert re.search(r" 99%\|[^,]* 01:4\d passed *\r?\n?$", shown())


def test_a_terminal_has_a_bar(terminal, caplog):
    shown = terminal(100)
    caplog.set_level(logging.INFO, "detector")
    for _ in progress([1, 2], desc="evaluate", unit="batch"):
        pass
    text = shown()
    assert re.search(r"\revaluate: 100%\|█+\| 2/2 \[.*batch/s\]", text)
    assert not caplog.records


def test_a_terminal_without_columns_and_a_closed_stream_have_lines(terminal, monkeypatch):
    terminal(0)
    assert not watched()
    terminal(80)
    assert watched()
    sys.stderr.close()
    assert not watched()
    monkeypatch.setattr(sys, "stderr", None)
    assert not watched()


@pytest.mark.parametrize(("rank", "bars"), [("0", 1), ("1", 0)])
def test_of_processes_on_a_terminal_the_first_one_alone_has_a_bar(terminal, monkeypatch, rank, bars):
    shown = terminal(80)
    torchrun = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for name, value in {**torchrun, "TORCHELASTIC_RUN_ID": "none"}.items():
        monkeypatch.setenv(name, value)
    with progress(total=2, desc="train", unit="step") as bar:
        bar.update(2)
    assert shown().count("2/2") == bars


def test_a_notebook_has_a_bar_and_no_complaint_about_widgets(notebook, capsys):
    assert in_notebook()
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        outer = progress(total=2, desc="train", unit="step")
        assert list(progress([7], desc="evaluate", unit="batch")) == [7]
        outer.close()
    assert not complaints
    shown = capsys.readouterr().err
    assert "\rtrain:   0%" in shown
    assert "evaluate: 100%" in shown
    assert "\x1b[A" not in shown  # cells know no way up


@pytest.mark.parametrize("shell", [None, types.SimpleNamespace()])
def test_a_shell_is_no_notebook(monkeypatch, shell):
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert not in_notebook()


def test_log_lines_go_to_standard_output_as_it_is_then(monkeypatch, terminal):
    log.handlers.clear()
    setup_logging()
    setup_logging()
    one, two = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", one)
    log.info("first\nwith a table")
    monkeypatch.setattr(sys, "stdout", two)
    log.warning("second")
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO first\nwith a table\n", one.getvalue())
    assert re.fullmatch(r"\d\d:\d\d:\d\d WARNING second\n", two.getvalue())
    terminal(80)
    log.info("third")
    assert two.getvalue().endswith("\nINFO third\n")
    monkeypatch.setattr(sys, "stdout", None)
    log.info("to nobody")


@pytest.fixture
def bare_root(monkeypatch):
    """No handlers but those that a test adds."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])


def test_a_function_shows_its_log_unless_the_user_has_set_one_up(bare_root, monkeypatch):
    log.setLevel(logging.NOTSET)
    root = logging.getLogger().handlers
    root.append(logging.NullHandler())
    show_log()
    assert not log.handlers
    root.clear()
    log.setLevel(logging.WARNING)
    show_log()
    assert not log.handlers
    log.setLevel(logging.NOTSET)
    show_log()
    assert (len(log.handlers), log.level, log.propagate) == (1, logging.INFO, False)


def test_a_notebook_shows_the_log_whatever_handlers_its_kernel_has(bare_root, notebook):
    log.setLevel(logging.NOTSET)
    logging.getLogger().handlers.append(logging.NullHandler())
    show_log()
    assert len(log.handlers) == 1


def test_durations():
    given = (0, 44.6, 750, 3600 * 26 + 61, float("nan"), float("inf"), -1)
    assert list(map(duration, given)) == ["0:00", "0:45", "12:30", "26:01:01", "?", "?", "?"]


def test_every_bar_of_the_package_is_made_here():
    users = {path.name for path in (ROOT / "detector").rglob("*.py") if "tqdm" in path.read_text(encoding="utf-8")}
    assert users == {"console.py"}
