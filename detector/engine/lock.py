"""One run in a folder at a time: a lock of the operating system, which dies with its process."""

import errno
import logging
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from detector.errors import FileAccessError, InUseError
from detector.text import printable

log = logging.getLogger("detector")

NAME = ".lock"
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_FAR = 1 << 30  # Windows keeps others from reading what is locked, so that lies behind the text
_own: set[tuple[int, int]] = set()
"""Device and number of the files that this process holds: to itself the system's lock never says no."""


@contextmanager
def locked(folder: Path, name: str = NAME) -> Iterator[None]:
    """Hold the file `name` in a folder; it goes with this context, or with the process, however that ends.

    A POSIX record lock belongs to a process and no child inherits it: loader workers that outlive a killed run do not
    keep it, as they would an flock. What the file says (process, host, time) is for messages alone. A file system
    without locks is a warning. Raises InUseError naming who holds the folder.
    """
    path = folder / name
    number, place = _take(path)
    _own.add(place)
    try:
        yield
    finally:
        with suppress(OSError):
            if os.path.samestat(os.fstat(number), path.stat()):  # the folder may be another one by now
                path.unlink()  # while it is held; `_take` notices
        _own.discard(place)
        os.close(number)


def in_use(folder: Path) -> bool:
    """Whether a run holds a folder just now."""
    if not (folder / NAME).exists():
        return False
    try:
        with locked(folder):
            return False
    except InUseError:
        return True


def _take(path: Path) -> tuple[int, tuple[int, int]]:
    """An open and locked file that is still the one of this name, and where it lies."""
    while True:
        if path.is_symlink():
            raise FileAccessError(f"{path} is a link, which is not followed; delete it")
        with suppress(FileNotFoundError):
            found = path.stat()
            if (found.st_dev, found.st_ino) in _own:  # to open and close it would drop the lock
                raise InUseError(_refusal(path, f"process {os.getpid()}, which is this one"))
        number = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            _lock(path, number)
            mine = os.fstat(number)
            if path.exists() and os.path.samestat(mine, path.stat()):
                os.ftruncate(number, 0)
                os.write(number, f"{_who()}\n".encode())
                return number, (mine.st_dev, mine.st_ino)
        except BaseException:
            os.close(number)
            raise
        os.close(number)  # its holder let go and deleted it meanwhile


def _lock(path: Path, number: int) -> None:
    """Lock an open file. Raises InUseError where another process has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(number, _FAR, os.SEEK_SET)
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
            os.lseek(number, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            said = os.read(number, 200).decode("utf-8", "replace").strip()
            raise InUseError(_refusal(path, printable(said) or "another process")) from None
        log.warning(
            "%s: the file system has no locks (%s): nothing keeps a second run out of this folder",
            *(path.parent, error.strerror or error),
        )


def _who() -> str:
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"process {os.getpid()} on {platform.node()} since {now}"


def _refusal(path: Path, who: str) -> str:
    return (
        f"OUTPUT_DIR {path.parent} is in use by another run: {who}; wait for its end, or write OUTPUT_DIR "
        "another/folder"
    )
