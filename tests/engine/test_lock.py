"""One run in a folder at a time, whatever becomes of its process."""

import errno
import os
import re
import signal
import subprocess
import sys

import pytest
from helpers import environment

from detector.engine.lock import NAME, locked
from detector.errors import UserError

fcntl = pytest.importorskip("fcntl")

# Holds the folder with a child that lives on, as a loader worker may, and says both numbers.
HOLDER = """
import os, sys, time
from pathlib import Path
from detector.engine.lock import locked
with locked(Path(sys.argv[1])):
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    print(os.getpid(), child, flush=True)
    sys.stdin.read()
os.kill(child, 9)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds tmp_path, and the number of its child."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    number, child = map(int, process.stdout.readline().split())
    assert number == process.pid
    yield process, child
    for pid in (process.pid, child):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_second_run_is_told_who_holds_the_folder(holder, tmp_path):
    process, _ = holder
    want = (
        rf"OUTPUT_DIR {re.escape(str(tmp_path))} is in use by another run: process {process.pid} on \S+ since 20.* UTC;"
    )
    for _ in range(2):  # a refused one changes nothing
        with pytest.raises(UserError, match=want), locked(tmp_path):
            pass
    process.communicate("")
    assert not (tmp_path / NAME).exists()
    with locked(tmp_path):
        pass


def test_a_killed_run_lets_go_though_its_worker_lives_on(holder, tmp_path):
    process, child = holder
    process.kill()
    process.wait()
    os.kill(child, 0)  # alive
    assert (tmp_path / NAME).exists()
    with locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / NAME).read_text()
    assert not (tmp_path / NAME).exists()


def test_two_runs_of_one_process_are_refused_too_and_the_first_keeps_its_lock(tmp_path):
    with locked(tmp_path):
        with pytest.raises(UserError, match=f"process {os.getpid()}, which is this one"), locked(tmp_path):
            pass
        told = subprocess.run(
            [sys.executable, "-c", HOLDER, str(tmp_path)], env=environment(), capture_output=True, text=True
        )
        assert f"is in use by another run: process {os.getpid()} on" in told.stderr
    with locked(tmp_path):
        pass


def test_a_lock_that_was_deleted_meanwhile_is_no_lock(tmp_path, monkeypatch):
    """Its holder let go between our opening the file and locking it."""
    real, calls = fcntl.lockf, []

    def lockf(number, *how):
        calls.append(number)
        if len(calls) == 1:
            (tmp_path / NAME).unlink()
        return real(number, *how)

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with locked(tmp_path):
        assert len(calls) == 2
        assert (tmp_path / NAME).exists()


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, caplog):
    def lockf(*given):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with locked(tmp_path):
        pass
    assert caplog.messages == [
        f"{tmp_path}: the file system has no locks (No locks available): nothing keeps a second run out of this folder"
    ]


def test_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / NAME).symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=r"\.lock is a link, which is not followed"), locked(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "mine"
