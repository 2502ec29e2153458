"""Files beside an exported one that belong to it: what is left of them when another export takes its place."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from detector.errors import UserError
from detector.inference.export.facts import second_path
from detector.inference.export.write import file_digest
from detector.inference.formats import EXPORTS
from detector.inference.runtimes import facts_of_file
from detector.tasks.int8 import beside

log = logging.getLogger("detector")


class Replaced:
    """What lies beside a file that is about to be written, before it is."""

    def __init__(self, output: Path) -> None:
        self.output, self.others = output, [path for path in _beside(output) if path.is_file()]
        self.own = [*_own(output)] if self.others and output.is_file() else []

    def clear(self, *, second: bool, measured: bool) -> None:
        """Delete what belonged to the file that was there, and was not written anew; name what is of neither.

        second, measured: whether the new one came with a second stage, and with a measurement of its int8.
        """
        new = dict(zip(_beside(self.output), (second, measured), strict=True))
        for path in self.others:
            if new[path]:
                continue
            if path not in self.own:
                log.warning("%s does not belong to %s: delete it if nothing needs it", path, self.output.name)
                continue
            for one in (path, *[path.with_suffix(".bin")] * (path.suffix.lower() == EXPORTS["openvino"])):
                one.unlink(missing_ok=True)
            log.info("%s, which belonged to the file that was there, is deleted", path)


def _beside(output: Path) -> tuple[Path, Path]:
    return second_path(output), beside(output)


def _own(output: Path) -> Iterator[Path]:
    """The files that the one that is there speaks of, by what they hold."""
    try:
        facts = facts_of_file(output)
    except UserError:  # it is none of ours, or nothing here can read it
        return
    second, measured = _beside(output)
    with suppress(OSError):
        if facts.second is not None and file_digest(second) == facts.second.digest:
            yield second
    with suppress(OSError, msgspec.DecodeError):
        if facts.int8 is not None and msgspec.json.decode(measured.read_bytes()) == msgspec.to_builtins(facts.int8):
            yield measured
