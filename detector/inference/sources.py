"""What a detector is to look at: files, folders, lists, data sets, videos, cameras, and pictures in memory."""

import glob
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from detector.data.catalog import DATASETS, Source, check_inside, load_dataset
from detector.data.entries import FORMS, split_entry
from detector.data.images import read_rgb
from detector.data.suffixes import SUFFIXES
from detector.errors import FileAccessError, UserError
from detector.files import user_path
from detector.inference.drawn import is_map, was_drawn
from detector.inference.pixels import is_pixels, pixels_of
from detector.text import agreeing, counted, printable

if TYPE_CHECKING:  # without torch
    from detector.data.transforms import Sample

log = logging.getLogger("detector")

STDIN = "-"

VIDEOS = frozenset(
    ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .flv .ts .mts .m2ts .3gp .ogv .mjpeg .mjpg".split()
)  # fmt: skip
"""Suffixes of video files, in lower case."""

USUAL_RATE = 25.0
"""Frames a second of a video or camera that does not say it."""

LABELS = (".txt", ".xml", ".json")
"""Suffixes of files that annotate the picture of their name."""

_SHOWN = 5  # files that are passed over and named


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture of a source.

    name: for messages; read: its pixels, uint8 [H, W, 3] RGB, or None where a video is over; it raises OSError or
    UserError; path: its file, or that of the video; image_id: its own in its data set, else its number from 1;
    truth: boxes of a data set; frame, seconds: its place in a video; lasting: whether it can be read again later;
    upright: whether it is turned by its EXIF tag, which a data set may decide otherwise.
    """

    name: str
    read: Callable[[], np.ndarray | None]
    image_id: int | str
    path: Path | None = None
    truth: "Sample | None" = None
    frame: int | None = None
    seconds: float | None = None
    lasting: bool = True
    upright: bool = True


@dataclass(eq=False)
class Input:
    """A source that was opened.

    kind: of it, "memory" for pictures that the caller holds; total: how many pictures there are, about so many of a
    video, None where nobody knows; rate: frames a second; category_ids: the data set's id of each of its classes.
    """

    name: str
    kind: Literal["files", "data", "video", "camera", "memory"]
    pictures: Iterable[Picture]
    total: int | None = None
    rate: float | None = None
    category_ids: dict[str, int] = field(default_factory=dict)
    close: Callable[[], object] = lambda: None

    @property
    def moving(self) -> bool:
        """Whether its pictures are frames, which come one after the other."""
        return self.kind in ("video", "camera")


def open_source(
    source: object,
    *,
    order: str = "rgb",
    root: str | Path = "datasets",
    outside: bool = False,
    output: Path | None = None,
) -> Input:
    """Opens what a person names, or pictures in memory.

    source: a path or text, see `open_text`; an array uint8 [H, W, 3]; a tensor uint8 [3, H, W]; a PIL image; or a list
    or another iterable of paths and of these, which is read as it is needed. order: of the channels of arrays and
    tensors, "rgb" or "bgr". root, outside, output: as for `open_text`.
    Raises ValueError or OSError naming the source, and what to write.
    """
    if order not in ("rgb", "bgr"):
        raise UserError(f"order {order!r}: the channels of arrays and tensors are in the order rgb or bgr")
    if isinstance(source, str | Path):
        return open_text(str(source), root, outside, output)
    if is_pixels(source):
        return Input("picture", "memory", [_in_memory(source, 1, order)], 1)
    if isinstance(source, Iterable) and not isinstance(source, bytes | dict):
        total = len(source) if isinstance(source, Sequence) else None
        return Input("list", "memory", (_element(one, i, order) for i, one in enumerate(source, 1)), total)
    raise UserError(
        f"a {type(source).__name__} is no picture: pass a path, an array uint8 [H, W, 3], a tensor uint8 [3, H, W], a "
        "PIL image, or a list of them"
    )


def open_text(text: str, root: str | Path = "datasets", outside: bool = False, output: Path | None = None) -> Input:
    """Opens a source as it is written on a command line.

    text: a picture, a folder of pictures, which is searched with all folders and links in it, a glob, a text file that
    lists pictures, a video, the number of a camera, a data set as DATASETS.TEST names it, or "-" for a list on standard
    input. What is there under that name comes first. root: DATASETS.ROOT; outside: DATASETS.ALLOW_OUTSIDE; output: a
    folder whose pictures, if they were drawn here, are left out.
    Raises ValueError or OSError where there is nothing, or not what it should be.
    """
    if not text.strip():  # a shell's variable without value, which would be the current folder
        raise UserError(
            f"SOURCE {text!r} is empty: name a picture, a folder (. is the current one) or what else help names"
        )
    if text == STDIN:
        return _files(text, _lines("standard input", sys.stdin.buffer.read(), None))
    path = user_path(text)
    if path.is_file() and (suffix := path.suffix.lower()) not in SUFFIXES:
        if suffix in VIDEOS:
            return _video(path)
        if suffix == ".txt":
            return _files(text, _lines(text, path.read_bytes(), path.parent))
        if suffix == ".json":
            raise UserError(f"{text} is no picture: for the pictures of annotations write IMAGE_FOLDER:{text}")
    if not os.path.lexists(path):
        if re.match(r"\w+://", text):
            raise UserError(f"{text} is an address, and nothing is fetched: name a file that is here")
        if text.isdecimal():
            return _camera(int(text))
        if text in DATASETS or (split_entry(text) and not _matches(path)):
            return _data(load_dataset(text, root), outside)
    return _files(text, find_images(text, output))


def find_images(source: str, output: Path | None = None) -> list[Path]:
    """The image files that a path, a folder or a glob names, sorted. Raises ValueError when there is none.

    Of a folder, the pictures that an earlier prediction drew below `output` are left out; so are files that are no
    pictures, of which the log counts those with labels and names others.
    """
    path = user_path(source)
    passed_over: list[Path] = []
    if path.is_dir():
        found = _walk(path)
        if output is not None and output.resolve().is_relative_to(path.resolve()):
            inside = [p for p in found if p.resolve().is_relative_to(output.resolve())]
            own = {p for p in inside if p.suffix.lower() not in SUFFIXES or was_drawn(p) or is_map(p)}
            drawn = [p for p in own if p.suffix.lower() in SUFFIXES]
            found = [p for p in found if p not in own]
            if drawn:
                said = counted(len(drawn), "picture|pictures")
                log.info("%s in %s, which predict drew, %s left out", said, output, agreeing(len(drawn), "is|are"))
    elif path.is_file():
        return [path]
    else:
        found = [p for p in _matches(path) if not p.is_dir()]
    paths: list[Path] = []
    for one in found:
        (paths if _is_picture(one) else passed_over).append(one)
    if passed_over:
        log.info("%s: %s", source, _passed_text(passed_over, {one.stem for one in paths}))
    if not paths:
        raise UserError(
            f"{source}: no image there; name an image, a folder of {', '.join(sorted(SUFFIXES))}, a glob, a .txt that "
            f"lists images, a video, the number of a camera, {FORMS}, or - for a list on standard input"
        )
    return paths


def _passed_text(passed_over: Sequence[Path], stems: set[str]) -> str:
    """What is passed over: label files, which have the name of a picture, are counted, and others named.

    stems: of the pictures.
    """
    others = [one for one in passed_over if one.suffix.lower() not in LABELS or one.stem not in stems]
    labels, videos = len(passed_over) - len(others), sum(one.suffix.lower() in VIDEOS for one in others)
    said = [counted(labels, "label file|files")] if labels else []
    if others:
        said.append(counted(len(others), f"{'other ' * bool(labels)}file|files that is|are no picture|pictures"))
    text = f"{' and '.join(said)} {agreeing(len(passed_over), 'is|are')} passed over"
    if videos:
        text += f" ({'1 of them a video: name it' if videos == 1 else f'{videos} of them videos: name each'} alone)"
    if others:
        names = ", ".join(printable(str(one)) for one in others[:_SHOWN])
        text += f": {names}{', ..' * (len(others) > _SHOWN)}"
    return text


def _walk(folder: Path) -> list[Path]:
    """All files in a folder and those in it, links followed, each folder once; sorted."""
    seen: set[tuple[int, int]] = set()
    found: list[Path] = []

    def unreadable(error: OSError) -> None:
        log.warning("%s: the folder cannot be read: %s; it is left out", error.filename, error.strerror)

    for home, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        state = os.stat(home)
        if (state.st_dev, state.st_ino) in seen:  # a link back to where we were
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders.sort()
        found += [Path(home, name) for name in names]
    return sorted(found)


def _matches(path: Path) -> list[Path]:
    """What a glob names, sorted; what it reaches on several ways, through links, once, by the shortest."""
    found: dict[tuple[str, str], Path] = {}
    for one in sorted(map(Path, glob.glob(str(path), recursive=True)), key=lambda one: (len(one.parts), one)):
        found.setdefault((os.path.realpath(one.parent), one.name), one)
    return sorted(found.values())


def _is_picture(path: Path) -> bool:
    """Whether a file is to be read: by its suffix, or else by its first bytes, as OpenCV knows them.

    A link to nothing counts by its suffix, so that it is named as what cannot be read.
    """
    suffix = path.suffix.lower()
    if path.exists() and not path.is_file():  # a pipe would wait for a writer
        return False
    if suffix in SUFFIXES:
        return True
    if suffix in VIDEOS or suffix in (".txt", ".xml", ".json") or not path.is_file():
        return False
    try:
        return cv2.haveImageReader(str(path))
    except (UnicodeEncodeError, cv2.error):
        return False


def _lines(name: str, data: bytes, folder: Path | None) -> list[Path]:
    """The paths in a list of one a line, relative to the working directory or, failing that, to the list's folder."""
    paths: list[Path] = []
    for line in data.removeprefix(b"\xef\xbb\xbf").splitlines():
        if line.strip():
            path = user_path(os.fsdecode(line.strip()))
            paths.append(folder / path if folder is not None and not os.path.lexists(path) else path)
    if not paths:
        raise UserError(f"{name}: no image there; the list is empty: write one path a line")
    return paths


def _files(name: str, paths: Sequence[Path]) -> Input:
    return Input(name, "files", [_file(path, i) for i, path in enumerate(paths, 1)], len(paths))


def _file(path: Path, number: int) -> Picture:
    def read() -> np.ndarray:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is no file; a list names pictures")
        return read_rgb(path)

    return Picture(str(path), read, number, path)


def _data(source: Source, outside: bool) -> Input:
    """A data set's pictures with their truth."""
    from detector.data.transforms import Sample

    if not outside:
        check_inside(source)
    index = source.index

    def picture(place: int) -> Picture:
        path = source.folder / str(index.file_names[place])
        rows = index.rows(place)
        shown = index.trainable(rows=rows)
        rest = index.usable[rows] & ~shown
        truth = Sample(index.boxes[rows][shown], index.labels[rows][shown], index.boxes[rows][rest])
        size, upright = index.size(place), index.upright(place)

        def read() -> np.ndarray:
            return read_rgb(path, size, upright)

        return Picture(str(path), read, index.image_id(place), path, truth, upright=upright)

    ids = dict(zip(index.classes, index.category_ids, strict=True))
    return Input(source.name, "data", [picture(i) for i in range(len(index))], len(index), category_ids=ids)


# ---------------------------------------------------------------------------- videos and cameras


def _video(path: Path) -> Input:
    capture = cv2.VideoCapture(os.fspath(path))
    if not capture.isOpened():
        raise UserError(f"{path}: the video cannot be opened; it is damaged, or of a codec that OpenCV cannot read")
    number = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    rate = _rate(capture, str(path))
    total = number if 0 < number < 1 << 31 else None
    return Input(str(path), "video", _frames(capture, str(path), path, rate), total, rate, close=capture.release)


def _camera(number: int) -> Input:
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise FileAccessError(f"camera {number} cannot be opened; is it there, and may this user read it?")
    name = f"camera_{number}"
    rate = _rate(capture, name)
    return Input(name, "camera", _frames(capture, name, None, rate), None, rate, close=capture.release)


def _rate(capture: cv2.VideoCapture, name: str) -> float:
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    if 0 < rate <= 1000:
        return rate
    log.warning("%s does not say how many frames it has a second: %g are taken", name, USUAL_RATE)
    return USUAL_RATE


def _frames(capture: cv2.VideoCapture, name: str, path: Path | None, rate: float) -> Iterator[Picture]:
    """Frames without end, of which those behind the last read as None; to be read in their order."""

    def read() -> np.ndarray | None:
        there, image = capture.read()
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if there else None

    for i in count():
        yield Picture(f"{name}, frame {i}", read, i + 1, path, frame=i, seconds=i / rate, lasting=False)


# ---------------------------------------------------------------------------- pictures in memory


def _element(source: object, number: int, order: str) -> Picture:
    if isinstance(source, str | Path):
        return _file(user_path(source), number)
    try:
        return _in_memory(source, number, order)
    except UserError as error:
        return Picture(f"picture {number}", _raising(error), number)


def _raising(error: UserError) -> Callable[[], np.ndarray | None]:
    """A `read` that raises where the result would stand; before that stand those of earlier pictures."""

    def read() -> np.ndarray | None:
        raise error

    return read


def _in_memory(source: object, number: int, order: str) -> Picture:
    """A copy of pixels: the caller may fill an array anew while the network still works on the last one."""
    pixels = pixels_of(source, number, order)
    return Picture(f"picture {number}", lambda: pixels, number)
