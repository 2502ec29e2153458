"""Downloads that end: a stall, a flood or a broken connection is an error, and what arrived is kept for another try."""

import email.utils
import hashlib
import http.client
import logging
import os
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from detector.console import progress
from detector.errors import UserError
from detector.weights.address import shown, split_user

CHUNK = 1 << 20
TIMEOUT = 30.0  # seconds without a byte
SLOWEST = 1024  # bytes in that time: a server that sends one now and then has stalled as well
MOST = 16 << 30  # bytes of a file whose size is not declared
OLD = 7 * 24 * 3600  # seconds after which a part is left over for good

logger = logging.getLogger(__name__)


class CutOffError(UserError):
    """The connection stalled or ended before the file did; what arrived is kept."""


def download(
    url: str,
    path: Path,
    check: Callable[[Path], str],
    *,
    verified: bool = False,
    timeout: float = TIMEOUT,
    most: int = MOST,
) -> None:
    """Fetch an address into a file, which is there once it is whole.

    Until then it is `part_of(url, path)`, from whose end another try goes on where the server can and says that its
    file is the same, or where `verified` says that `check` compares a digest. check: what is wrong with a file, or "".
    timeout: seconds without an answer or a byte, after which the download ends; most: bytes at which it does.
    Raises OSError, HTTPException or ValueError with the reason.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    logger.info("downloading %s to %s", shown(url), path)
    part = part_of(url, path)
    _clean(path, part)
    file, keep = _hold(part), False
    shared = file is not None
    if file is None:  # another process is at it
        part = path.with_name(f"{path.name}.{uuid4().hex}.part")
        file = part.open("xb+")
    try:
        with file:
            begun = file.seek(0, os.SEEK_END)
            _receive(url, file, part, verified, timeout, most)
            reason = check(part)
            if reason and begun:  # the beginning may be of another file
                file.truncate(0)
                _receive(url, file, part, verified, timeout, most)
                reason = check(part)
            if reason:
                raise UserError(f"what arrived {reason}")
            if os.name != "nt":  # which renames no open file
                part.replace(path)
        if os.name == "nt":
            part.replace(path)
    except UserError as error:
        keep = shared and isinstance(error, CutOffError)
        raise
    except (OSError, http.client.HTTPException, KeyboardInterrupt):
        keep = shared
        raise
    finally:
        if part.exists() and not (keep and part.stat().st_size):
            part.unlink()


def part_of(url: str, path: Path) -> Path:
    """The file that holds what arrived so far; it depends on the address, as mirrors may hold other files."""
    return path.with_name(f"{path.name}.{hashlib.sha256(url.encode()).hexdigest()[:12]}.part")


def _clean(path: Path, own: Path) -> None:
    """Remove what killed downloads left beside a file."""
    for left in path.parent.iterdir():
        if not (left.name.startswith(f"{path.name}.") and left.name.endswith(".part")) or left == own:
            continue
        alone = len(left.suffixes[-2]) == 1 + len(uuid4().hex)  # of one process; else of another address, to go on with
        with suppress(FileNotFoundError):
            age = time.time() - (left.stat().st_mtime if alone else left.stat().st_ctime)
            if age > (2 * TIMEOUT if alone else OLD):
                left.unlink()


def _hold(part: Path) -> BinaryIO | None:
    """The part file, locked against other processes until it is closed; None where another one holds it."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(part, flags, 0o666), "rb+")
    try:
        _lock(file)
        if os.path.samestat(os.stat(part), os.fstat(file.fileno())):  # else it became the whole file meanwhile
            return file
    except OSError:
        pass
    file.close()
    return None


def _lock(file: BinaryIO) -> None:
    """Raises OSError where another process has locked the file. The lock ends with the file or the process."""
    try:
        import fcntl
    except ImportError:
        import msvcrt

        file.seek(1 << 40)  # as the system lets nobody read what is locked
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _receive(url: str, file: BinaryIO, part: Path, verified: bool, timeout: float, most: int) -> None:
    """Fill the file from where it ends, or from its beginning where the server cannot, or has another file now."""
    done = file.seek(0, os.SEEK_END)
    since = part.stat().st_mtime  # the server's, by `_date`
    try:
        response = _open(url, timeout, done, since, verified)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not done:  # nothing behind the end of what is there
            raise
        error.close()
        if error.headers.get("Content-Range") == f"bytes */{done}":
            return
        response = _open(url, timeout, 0, 0, verified)
    with response:
        if response.status != 206:
            done = 0
            file.seek(0)
            file.truncate()
        elif not str(response.headers.get("Content-Range")).startswith(f"bytes {done}-"):
            raise UserError("the server sends another part of the file than was asked for")
        length = response.headers.get("Content-Length") or ""
        if length and not length.isdecimal():
            raise UserError(f"the server declares a length of {length[:20]!r}")
        size = done + int(length) if length else 0
        free = shutil.disk_usage(part.parent).free
        if size > most:
            raise UserError(f"the server declares {size} bytes; at most {most} are fetched")
        if size - done > free:
            raise UserError(f"it has {size - done} bytes more, and {free} are free in {part.parent}")
        try:
            _copy(response, file, done, size, part.name.rsplit(".", 2)[0], timeout, most)
        finally:
            file.flush()
            _date(part, response.headers.get("Last-Modified"))


def _open(url: str, timeout: float, done: int, since: float, verified: bool) -> Any:  # noqa: ANN401
    bare, user = split_user(url)
    request = urllib.request.Request(bare, headers={"User-Agent": "detector"})
    if user:
        request.add_unredirected_header("Authorization", user)  # not for the host that it may point to
    if done and (since > 0 or verified):
        request.add_header("Range", f"bytes={done}-")
        if since > 0:
            request.add_header("If-Range", email.utils.formatdate(since, usegmt=True))
    return urllib.request.build_opener(_Http, _Https).open(request, timeout=timeout)


def _date(part: Path, modified: str | None) -> None:
    """Give what arrived the date of the server's file, by which another try asks for the rest of that one; 0: none."""
    try:
        date = email.utils.parsedate_to_datetime(modified or "").timestamp()
    except (TypeError, ValueError):
        date = 0
    os.utime(part, (date, date))


def _copy(source: Any, target: BinaryIO, done: int, size: int, name: str, timeout: float, most: int) -> None:  # noqa: ANN401
    arrived, until = 0, time.monotonic() + timeout
    with progress(total=size or None, initial=done, unit="B", desc=name) as bar:
        while True:
            try:
                chunk = source.read1(CHUNK)
            except TimeoutError:
                raise CutOffError(f"no byte arrived in {timeout:g} s, after {done} of them") from None
            if not chunk:
                break
            if done + len(chunk) > (size or most):
                raise UserError(f"more than {size or most} bytes arrive; is it another file?")
            target.write(chunk)
            bar.update(len(chunk))
            done, arrived = done + len(chunk), arrived + len(chunk)
            if arrived >= SLOWEST:
                arrived, until = 0, time.monotonic() + timeout
            elif time.monotonic() > until:
                raise CutOffError(f"it stalls: {arrived} bytes in {timeout:g} s, after {done - arrived} before")
    if size and done != size:
        raise CutOffError(f"the connection ended after {done} of {size} bytes")


class _Watched:
    """A connection whose answer has to begin in time, as a server may send its head a letter now and then."""

    def getresponse(self) -> Any:  # noqa: ANN401
        late = threading.Event()

        def stop() -> None:
            late.set()
            try:
                self.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]
            except (OSError, AttributeError):  # closed meanwhile
                pass

        timer = threading.Timer(self.timeout, stop)  # type: ignore[attr-defined]
        timer.daemon = True
        timer.start()
        try:
            response = super().getresponse()  # type: ignore[misc]
        except (OSError, http.client.HTTPException):
            if not late.is_set():
                raise
        finally:
            timer.cancel()
        if late.is_set():  # a head that is cut off may look like a whole one
            raise TimeoutError(f"no answer in {self.timeout:g} s")  # type: ignore[attr-defined]
        return response


class _HttpConnection(_Watched, http.client.HTTPConnection):
    pass


class _HttpsConnection(_Watched, http.client.HTTPSConnection):
    pass


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> Any:  # noqa: ANN401
        return self.do_open(_HttpConnection, request)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> Any:  # noqa: ANN401
        return self.do_open(_HttpsConnection, request)
