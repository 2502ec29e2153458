"""Files written whole: a crash leaves the old one or the new one; and the folder of what can be fetched again."""

import os
from pathlib import Path

import msgspec


def cache_folder() -> Path:
    """Where downloads, and what is known of pictures, are kept: $DETECTOR_CACHE, else ~/.cache/detector."""
    return Path(os.environ.get("DETECTOR_CACHE") or "~/.cache/detector").expanduser()


def write_json(path: str | Path, obj: object) -> None:
    """Write `obj` as indented JSON (NaN becomes null) with `write_atomic`."""
    write_atomic(path, msgspec.json.format(msgspec.json.encode(obj), indent=2) + b"\n")


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write beside `path`, then rename: a crash leaves the old file or the new one. Makes the folder if needed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        aside.write_bytes(data)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
