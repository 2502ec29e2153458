"""Files written whole: a crash leaves the old one or the new one. Paths as people write them; JSON of any text."""

import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

import msgspec

from detector.errors import FileAccessError
from detector.text import encodable

_ASIDE = re.compile(r"\.[0-9a-f]{16}\.tmp$")
_made: ContextVar[list[Path] | None] = ContextVar("made", default=None)
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)  # Windows has none, and makes links for administrators only


def user_path(text: str | Path) -> Path:
    """The path that a person wrote, with `~` and `~name` as home folders; an unknown name stays as it is."""
    return Path(os.path.expanduser(text))


def cache_folder() -> Path:
    """Where downloads, and what is known of pictures, are kept: $DETECTOR_CACHE, else ~/.cache/detector."""
    return user_path(os.environ.get("DETECTOR_CACHE") or "~/.cache/detector")


def output_folder(path: Path) -> Path:
    """The folder of --output, made if needed. Raises OSError with the flag and the remedy where that cannot be."""
    try:
        make_folder(path)
    except OSError as error:
        raise FileAccessError(
            f"--output {path}: no folder can be made there: {error.strerror}; name another one"
        ) from None
    return path


def make_folder(path: Path) -> None:
    """Make a folder before the work that fills it, where there is none; see `no_empty_folders`."""
    if (made := _made.get()) is not None:
        made.extend(_missing(path))
    path.mkdir(parents=True, exist_ok=True)


@contextmanager
def no_empty_folders() -> Iterator[None]:
    """Whatever fails meanwhile leaves no empty folder that `make_folder` made, nor one above it."""
    made: list[Path] = []
    token = _made.set(made)
    try:
        yield
    except BaseException:
        _remove_empty(made)
        raise
    finally:
        _made.reset(token)


@contextmanager
def no_empty_folder(path: Path) -> Iterator[None]:
    """Whatever fails meanwhile leaves no empty folder at `path`, nor above it, where there was none before."""
    new = _missing(path)
    try:
        yield
    except BaseException:
        _remove_empty(new)
        raise


def _missing(path: Path) -> list[Path]:
    """The path and the folders above it that are not there."""
    return [one for one in (path, *path.parents) if not one.exists()]


def _remove_empty(folders: list[Path]) -> None:
    for one in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):  # the lowest first
        with suppress(OSError):  # it is not there, or holds something
            one.rmdir()


def is_special(path: Path) -> bool:
    """Whether a path is a device, a pipe or a socket, in whose place no file may be put."""
    return path.exists() and not path.is_file() and not path.is_dir()


def write_json(path: str | Path, obj: object) -> None:
    """Write `obj` as indented JSON (NaN becomes null) with `write_atomic`; see `json_bytes`."""
    write_atomic(path, json_text(obj).encode())


def json_text(obj: object) -> str:
    """`obj` as indented JSON, which ends in a line's end; see `json_bytes`."""
    return msgspec.json.format(json_bytes(obj), indent=2).decode() + "\n"


def json_bytes(obj: object) -> bytes:
    r"""`obj` as JSON in UTF-8; a byte of a file name that is no UTF-8 stands as the four characters \xNN."""
    try:
        return msgspec.json.encode(obj)
    except UnicodeEncodeError:
        return msgspec.json.encode(_encodable(obj))


def _encodable(obj: object) -> object:
    if isinstance(obj, str):
        return encodable(obj)
    if isinstance(obj, dict):
        return {_encodable(key): _encodable(value) for key, value in obj.items()}
    return [_encodable(item) for item in obj] if isinstance(obj, list | tuple) else obj


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write beside `path`, then rename: a crash leaves the old file or the new one. Makes the folder if needed.

    What is there and no file, such as a pipe or /dev/stdout, is written to and stays what it is.
    Raises OSError naming the path, also for a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if is_special(path):
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as file:
        file.write(data)


@contextmanager
def writing(path: str | Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` once it is whole; an error leaves the old one.

    It has a name of its own until then, so that two writers never meet, and it takes the place of a link, which is not
    followed. durable: file and name are on the disk when this ends, whatever happens to the machine.
    """
    path = Path(path)
    aside = path.with_name(f"{path.name[:50]}.{secrets.token_hex(8)}.tmp")
    try:
        with open(aside, "xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(aside, path)
        if durable:
            _sync_folder(path.parent)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def keep_newest(folder: Path, pattern: str, number: int) -> None:
    """Delete the files of a folder that were written first, beyond a number of them."""
    files = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files[number:]:
        path.unlink(missing_ok=True)


def clear_asides(folder: Path, prefixes: tuple[str, ...], hours: float = 1.0) -> None:
    """Delete what killed writers left in a folder.

    prefixes: of files that nobody but the caller writes; what others may be writing just now must be `hours` old.
    """
    for path in folder.glob("*.tmp"):
        if _ASIDE.search(path.name):
            with suppress(OSError):
                if path.name.startswith(prefixes) or time.time() - path.lstat().st_mtime > hours * 3600:
                    path.unlink()


def open_append(path: Path) -> BinaryIO:
    """A file opened to add to it. Raises FileAccessError where a link stands in its place."""
    if is_special(path):
        raise FileAccessError(f"{path} is no file; delete it")
    try:
        number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_LINKS, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise FileAccessError(f"{path} is a link, which is not followed; delete it") from None
    return os.fdopen(number, "ab")


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError:  # some network file systems cannot
        pass
    finally:
        os.close(number)
