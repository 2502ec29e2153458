"""The pictures of data sets, looked at before the first step: they are there, of their recorded size, with an end."""

import logging
import os
import stat
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from detector.console import progress
from detector.data.dataset import CocoDetection, JoinedDataset
from detector.data.known import Known
from detector.data.look import UNENDED, Look, look_at_file, reason
from detector.data.missing import lost_text
from detector.errors import UserError
from detector.text import counted

_log = logging.getLogger("detector")

NAMED = 20  # pictures that a message lists by name

_THREADS = 16  # on a disk of the network they wait side by side; on a local one they cost and save little
_CHUNK = 256  # pictures a task of the pool

_ALIKE = 3  # pictures from which on one line says what is wrong with all of them

_MISSING = "there is no such picture"


class Found(NamedTuple):
    """A data set and those of its pictures that are not as they should be: item -> Look."""

    dataset: CocoDetection
    looks: dict[int, Look]

    def files(self, usable: bool) -> dict[str, str]:
        """Path -> what is wrong, of the pictures that can be read in spite of it, or of the others."""
        faulty = {item: look.fault for item, look in self.looks.items() if look.usable is usable}
        return {_path(self.dataset, item): fault for item, fault in faulty.items()}

    @property
    def lost(self) -> bool:
        """Whether not one of the pictures is there."""
        missing = sum(look.fault == _MISSING for look in self.looks.values())
        return 0 < missing == len(self.dataset)

    @property
    def whole(self) -> str:
        """What is wrong with all of its pictures alike, in one line; "" where that is nothing."""
        if self.lost:
            return lost_text(self.dataset)
        others = {item: look.other for item, look in self.looks.items() if look.other}
        if len(others) < max(_ALIKE, len(self.dataset)):
            return ""
        pairs = [(found, self.dataset.size(item)) for item, found in others.items()]
        (height, width), (h, w) = pairs[0]
        factor = width / w if w else 0.0
        if all(found == size[::-1] for found, size in pairs):
            what, remedy = "width and height swapped", "swap them in the records"
        elif all(abs(a - factor * b) <= 1 for found, size in pairs for a, b in zip(found, size, strict=True)):
            what = f"{1 / factor:.2f} times their real width and height"
            remedy = "where the pictures were resized, scale the boxes too; then mend the sizes"
        else:
            return ""
        return (
            f"{self.dataset.index.path}: all {len(pairs)} pictures have {what} in their records ({w} wide and {h} high "
            f"for {width} and {height} of {self.dataset.file_name(min(others))}); {remedy}"
        )

    def rest(self) -> CocoDetection:
        """The data set without the pictures that cannot be read."""
        broken = [item for item, look in self.looks.items() if not look.usable]
        return self.dataset.without(broken) if broken else self.dataset


def check_training(
    train: CocoDetection | JoinedDataset, tests: Mapping[str, CocoDetection], broken: str
) -> tuple[CocoDetection | JoinedDataset, dict[str, CocoDetection]]:
    """The data sets of a training and of its tests, after a look at every picture.

    A good picture is a regular file with a readable header, of the size in its record, perhaps after a turn by its EXIF
    tag, and with an end. JPEGs that lack nothing but their end marker are named in a warning. Results are kept in the
    cache folder: pictures whose size and time are as they were are not opened again.
    broken: "stop" raises ValueError listing the pictures that cannot be read; "skip" returns data sets that leave them
    out, with a warning. In a test they count as images without detections; a test without any picture is an error.
    A set of which no picture is there has one line, which says where they are if they are near.
    """
    parts = train.datasets if isinstance(train, JoinedDataset) else [train]
    kept, rest = _check(parts, tests, broken)
    if all(one is part for one, part in zip(kept, parts, strict=True)):
        return train, rest
    kept = [one for one in kept if len(one)]
    if not kept:
        raise UserError(f"no picture is left to train on: all {len(train)} cannot be used, as listed above")
    return kept[0] if len(kept) == 1 else JoinedDataset(kept), rest


def check_tests(tests: Mapping[str, CocoDetection], broken: str) -> dict[str, CocoDetection]:
    """`check_training` without a training."""
    return _check([], tests, broken)[1]


def _check(
    parts: Sequence[CocoDetection], tests: Mapping[str, CocoDetection], broken: str
) -> tuple[list[CocoDetection], dict[str, CocoDetection]]:
    trained = [look_at(part) for part in parts]
    tested = {name: look_at(dataset) for name, dataset in tests.items()}
    every = [*trained, *tested.values()]
    if endless := _merged(every, usable=True):
        _log.warning(
            "pictures that can be read though their files end too soon: %d; write them anew some day:\n%s",
            *(len(endless), _listed(endless)),
        )
    if not _merged(every, usable=False):
        return list(parts), dict(tests)
    whole = {id(one): text for one in every if (text := one.whole)}
    lost = list(dict.fromkeys(whole.values()))
    bad = _merged([one for one in every if id(one) not in whole], usable=False)
    if broken == "stop" or any(id(one) in whole for one in tested.values()):
        if not bad or broken == "skip":
            raise UserError("\n".join(lost))
        total = len({_path(one.dataset, item) for one in every for item in range(len(one.dataset))})
        raise UserError(
            "\n".join([*lost, f"{len(bad)} of {counted(total, 'picture|pictures')} cannot be used:\n{_listed(bad)}"])
            + "\nFetch them again or mend their records, or write DATALOADER.BROKEN skip to do without them"
        )
    for text in lost:
        _log.warning("%s", text)
    fates = (
        (_merged([one for one in trained if id(one) not in whole], usable=False), "left out of training"),
        (_merged([*tested.values()], usable=False), "in the tests, where they count as images without detections"),
    )
    what = ", ".join(f"{len(files)} {fate}" for files, fate in fates if files)
    if bad:
        _log.warning("pictures that cannot be used: %d (%s):\n%s", len(bad), what, _listed(bad))
    return [one.rest() for one in trained], {name: one.rest() for name, one in tested.items()}


def look_at(dataset: CocoDetection) -> Found:
    """Looks at every picture of a data set, or remembers it; a bar shows when that takes more than a second."""
    known = Known(dataset)
    chunks = [range(i, min(i + _CHUNK, len(dataset))) for i in range(0, len(dataset), _CHUNK)]
    looks: dict[int, Look] = {}
    opened = 0
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        progress(total=len(dataset), desc=f"check {dataset.name}", unit="picture", delay=1, leave=False) as bar,
    ):
        results = pool.map(lambda chunk: _look_at_some(dataset, known, chunk), chunks)
        for chunk, (found, count) in zip(chunks, results, strict=True):
            looks |= found
            opened += count
            bar.update(len(chunk))
    if opened:
        try:
            known.write()
        except OSError as error:
            _log.info("what was found of the pictures cannot be kept for the next time: %s", error)
    return Found(dataset, looks)


def _look_at_some(dataset: CocoDetection, known: Known, items: Sequence[int]) -> tuple[dict[int, Look], int]:
    """Item -> Look where a picture is not as it should be, and how many of them were opened."""
    looks, opened = {}, 0
    for item in items:
        path = _path(dataset, item)
        try:
            state = os.stat(path)
        except FileNotFoundError:
            looks[item] = Look(_MISSING, usable=False)
            continue
        except (OSError, ValueError) as error:  # ValueError: no name that a file can have
            looks[item] = Look(reason(error), usable=False)
            continue
        if not stat.S_ISREG(state.st_mode):  # to open a pipe would wait for ever
            looks[item] = Look("it is no file", usable=False)
        elif (endless := known.endless(item, state.st_size, state.st_mtime_ns)) is not None:
            if endless:
                looks[item] = Look(UNENDED)
        else:
            opened += 1
            look = look_at_file(path, state.st_size, dataset.size(item))
            if look.fault:
                looks[item] = look
            if look.usable:
                known.note(item, state.st_size, state.st_mtime_ns, bool(look.fault))
    return looks, opened


def _path(dataset: CocoDetection, item: int) -> str:
    return os.path.join(dataset.folder, dataset.file_name(item))


def _merged(found: Sequence[Found], usable: bool) -> dict[str, str]:
    return {path: fault for one in found for path, fault in one.files(usable).items()}


def _listed(faults: Mapping[str, str]) -> str:
    """A line for each of the first pictures by name, and one that counts the others."""
    lines = [f"  {path if path.isprintable() else ascii(path)}: {faults[path]}" for path in sorted(faults)[:NAMED]]
    more = len(faults) - NAMED
    return "\n".join([*lines, f"  and {more} more"] if more > 0 else lines)
