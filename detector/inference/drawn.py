"""Files that predictions draw: what they are called, how they are known again, and that nothing else is overwritten."""

import os
import secrets
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from detector.errors import FileAccessError, UserError
from detector.files import write_atomic
from detector.text import counted

_TEXT = b"drawn by detector predict"
MARK = b"\xff\xfe" + (len(_TEXT) + 2).to_bytes(2, "big") + _TEXT
"""A JPEG comment, by which a picture that was drawn here is known again."""

_BOX = (len(_TEXT) + 8).to_bytes(4, "big") + b"free" + _TEXT
"""An MP4 box that readers skip, at the end of a video: the same for videos."""

_HEAD = 33  # bytes of a PNG's signature and first chunk
_SAYS = b"Software\0detector predict"
"""A PNG's text chunk: the same for maps of salient objects."""

VIDEO = ".mp4"
CODEC = "mp4v"
"""MPEG-4 Part 2, which the FFmpeg in OpenCV's wheels writes; H.264 is not in all of them."""


def name_pictures(paths: Sequence[Path]) -> list[Path]:
    """Where the drawn picture of each image lies below the output's folder: as the images lie below their common one.

    The ending becomes .jpg; where two would meet, also but for upper and lower case, it is added instead, and a number
    to what then still meets, as an image does that is listed twice.
    """
    if not paths:
        return []
    places = {path: Path(os.path.abspath(path)) for path in paths}
    home = Path(os.path.commonpath([place.parent for place in places.values()]))
    whole = {path: Path(f"{place.relative_to(home)}.jpg") for path, place in places.items()}
    names = {path: place.relative_to(home).with_suffix(".jpg") for path, place in places.items()}
    while True:
        counts = Counter(str(name).lower() for name in names.values())
        twice = [path for path, name in names.items() if counts[str(name).lower()] > 1 and name != whole[path]]
        if not twice:
            break
        names |= {path: whole[path] for path in twice}
    taken = {str(name).lower() for name in names.values()}
    given: set[str] = set()
    found = []
    for path in paths:
        name, number = names[path], 1
        while str(name).lower() in given or (number > 1 and str(name).lower() in taken):
            number += 1
            name = names[path].with_stem(f"{names[path].stem}_{number}")
        given.add(str(name).lower())
        found.append(name)
    return found


def check_targets(output: Path, targets: Mapping[Path, Callable[[Path], bool]], images: Iterable[Path]) -> None:
    """Raise ValueError when a file is in the way that no prediction wrote, or that is one of the images.

    targets: what is to be written, with the function that says whether a file there is of the same kind and ours.
    """
    known = {(found.st_dev, found.st_ino) for found in map(os.stat, filter(os.path.exists, images))}
    in_the_way = []
    for target, is_ours in targets.items():
        if os.path.lexists(target) and not is_ours(target):
            in_the_way.append((target, ""))
        elif target.exists() and (target.stat().st_dev, target.stat().st_ino) in known:
            in_the_way.append((target, ", which is one of the images"))
    if in_the_way:
        path, what = in_the_way[0]
        others = len(in_the_way) - 1
        more, them = (f" and {counted(others, 'more file|files')}", "them") if others else ("", "it")
        raise UserError(
            f"--output {output}: {path}{what}{more} would be overwritten, and no prediction wrote {them}: nothing was "
            "done; write --output another/folder"
        )


def was_drawn(path: Path) -> bool:
    """Whether a file is a picture that was drawn here; a link is none."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK in file.read(256)


def save_map(path: Path, levels: np.ndarray) -> None:
    """Write a uint8 [H, W] map as a grey PNG that says who wrote it. Raises OSError when it cannot be written."""
    data = cv2.imencode(".png", levels)[1].tobytes()
    chunk = b"tEXt" + _SAYS
    said = struct.pack(">I", len(_SAYS)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    write_atomic(path, data[:_HEAD] + said + data[_HEAD:])


def is_map(path: Path) -> bool:
    """Whether a file is a map that was written here; a link is none."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return _SAYS in file.read(256)


def was_filmed(path: Path) -> bool:
    """Whether a file is a video that was drawn here; a link is none."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(_BOX)))
        return file.read() == _BOX


def save_picture(path: Path, image: np.ndarray) -> None:
    """Write a uint8 RGB picture as a JPEG with the comment MARK. Raises OSError when it cannot be written."""
    data = encoded(image, ".jpg")
    head = 4 + int.from_bytes(data[4:6], "big")  # the start, and the segment that says JFIF, which has to come first
    write_atomic(path, data[:head] + MARK + data[head:])


def encoded(image: np.ndarray, suffix: str) -> bytes:
    """A uint8 [H, W, 3] RGB picture as a file with this suffix holds it. Raises ValueError for an unknown one."""
    try:
        done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error:
        done = False
    if not done:
        raise UserError(f"OpenCV writes no pictures {suffix!r}; write .jpg, .png or .webp")
    return data.tobytes()


class VideoFile:
    """A video that takes the place of `path` once it is whole. rate: frames a second."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self.size: tuple[int, int] | None = None
        self.aside = path.with_name(f"{path.stem[:50]}.{secrets.token_hex(8)}.tmp{VIDEO}")
        self.writer: cv2.VideoWriter | None = None

    def add(self, frame: np.ndarray) -> None:
        """One more frame, uint8 [H, W, 3] RGB; it is brought to the size of the first one.

        Raises FileAccessError where no video can be written.
        """
        height, width = frame.shape[:2]
        if self.writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.size = (width, height)
            fourcc = cv2.VideoWriter.fourcc(*CODEC)  # type: ignore[attr-defined]
            self.writer = cv2.VideoWriter(os.fspath(self.aside), fourcc, self.rate, self.size)
            if not self.writer.isOpened():
                raise FileAccessError(
                    f"{self.path}: this OpenCV cannot write a video ({CODEC}, {width} x {height}); write --format json "
                    "pictures"
                )
        if (width, height) != self.size:
            frame = cv2.resize(frame, self.size or (width, height), interpolation=cv2.INTER_AREA)
        self.writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def finish(self) -> None:
        """Put the video in its place."""
        if self.writer is None:
            return
        self.writer.release()
        self.writer = None
        with open(self.aside, "ab") as file:
            file.write(_BOX)
        os.replace(self.aside, self.path)

    def close(self) -> None:
        """Remove what is not finished."""
        if self.writer is not None:
            self.writer.release()
        self.aside.unlink(missing_ok=True)
