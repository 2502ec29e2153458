"""Files written whole: a crash leaves the old one or the new one."""

import errno
import os
from pathlib import Path

import msgspec


def is_special(path: Path) -> bool:
    """Whether a path is a device, a pipe or a socket, in whose place no file may be put."""
    return path.exists() and not path.is_file() and not path.is_dir()


def write_json(path: str | Path, obj: object) -> None:
    """Write `obj` as indented JSON (NaN becomes null) with `write_atomic`."""
    write_atomic(path, msgspec.json.format(msgspec.json.encode(obj), indent=2) + b"\n")


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
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        aside.write_bytes(data)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
