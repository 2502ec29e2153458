"""log.jsonl: what happened in a run, one strict JSON object a line, each step once however often it was resumed."""

import hashlib
import json
import logging
import os
import platform
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from detector.distributed import world_size
from detector.engine.device import device_name
from detector.errors import FileAccessError
from detector.files import json_bytes, open_append, write_atomic
from detector.text import agreeing, counted
from detector.version import versions

log = logging.getLogger("detector")

NAME = "log.jsonl"

OF_EVALUATIONS = ("evaluation", "patience")
"""Events that an evaluation brings about, which may be made again at a step that is done."""


class Records:
    """The file of a folder, open for more lines.

    step: of the run that begins or goes on here; evaluated: step of its last evaluation. Lines of later ones are of
    steps that will be made again: they go, as does a last line that was not written to its end, and that is said.
    """

    def __init__(self, folder: Path, step: int, evaluated: int) -> None:
        path = folder / NAME
        open_append(path).close()  # no link, and it can be written
        if path.stat().st_size:
            _cut(path, step, evaluated)
        self.file = open_append(path)
        self.path = path

    def write(self, record: dict[str, Any]) -> None:
        """Append a line: floats to six digits, null for what is infinite or no number."""
        rounded = {key: float(f"{v:.6g}") if isinstance(v, float) else v for key, v in record.items()}
        try:
            self.file.write(_line(rounded))
            self.file.flush()
        except OSError as error:
            raise FileAccessError(f"{self.path} cannot be written: {error.strerror or error}") from None

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # what could not be written was said
            self.file.close()


def header(text: str, device: torch.device) -> dict[str, Any]:
    """What the first line of a start or a resume says of the program, the machine and the config `text`."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
        "platform": platform.platform(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "processes": world_size(),
        "directory": os.getcwd(),  # paths of the config start from it
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def directory_of(folder: Path) -> str:
    """The working directory in which the run in a folder was started or last resumed, "" where its log says none."""
    try:
        lines = [line for line in (folder / NAME).read_bytes().splitlines() if b'"directory"' in line]
    except OSError:
        return ""
    said = [record["directory"] for line in lines if (record := read_line(line)) and "directory" in record]
    return said[-1] if said and isinstance(said[-1], str) else ""


def _cut(path: Path, step: int, evaluated: int) -> None:
    """Leave the lines up to a step, and of the evaluations up to `evaluated`."""
    written = path.read_bytes()
    records = [read_line(line) for line in written.splitlines()]
    intact = [record for record in records if record is not None]
    kept = [r for r in intact if r["step"] <= (evaluated if r.get("event") in OF_EVALUATIONS else step)]
    content = b"".join(map(_line, kept))
    if content != written:
        write_atomic(path, content)
    if later := len(intact) - len(kept):
        lines = counted(later, "line|lines of steps after")
        log.info("%s: %s %d %s, as these are made again", path, lines, step, agreeing(later, "goes|go"))
    if broken := len(records) - len(intact):
        log.info("%s: %s", path, counted(broken, "line|lines that was|were not written to its|their end goes|go"))


def read_line(line: bytes) -> dict[str, Any] | None:
    """The record of a line; None where it is none, for instance the half line of a process that was killed."""
    try:
        record = json.loads(line, parse_constant=lambda name: None)  # logs of before had NaN in them
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None


def _line(record: dict[str, Any]) -> bytes:
    return json_bytes(record) + b"\n"
