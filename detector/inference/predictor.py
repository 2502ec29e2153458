"""A detector at work: pictures of any source in, results out, in their order; decoding beside the network."""

import logging
import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import count, islice
from numbers import Integral, Real
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import torch

from detector.data.loader import collate
from detector.data.transforms import Sample, Transform
from detector.errors import UserError, cut
from detector.inference.augmented import Augmentation
from detector.inference.detect import detect_views
from detector.inference.results import Result
from detector.inference.runtimes import ExportedDetector
from detector.inference.sources import Input, Picture, open_source
from detector.models.detector import Detector
from detector.structures import Detection, Size, Target, real_outputs
from detector.text import counted
from detector.weights.load import listed

log = logging.getLogger("detector")

_T = TypeVar("_T")

THREADS = 4
"""That read and resize pictures, at most one a core."""


Prepared = tuple[np.ndarray, ...]
"""A picture in each size that a network takes, uint8 [H', W', 3] RGB: one, without test-time augmentation."""


class Network(Protocol):
    """What finds the boxes; the same in whatever runtime. Both methods are called from several threads at once."""

    names: list[str]
    """[C] of the outputs; those in `structures.NO_CLASS` stand for no class."""
    category_ids: list[int]
    """[C] of the outputs."""

    def prepare(self, pixels: np.ndarray) -> Prepared:
        """A picture, uint8 [H, W, 3] RGB, in the sizes that the network takes, each uint8 [H', W', 3] RGB."""

    def detect(self, pictures: Sequence[Prepared], originals: Sequence[Size]) -> list[Detection]:
        """The detections in prepared pictures on the CPU, boxes in pixels of the originals (height, width)."""


class TorchNetwork:
    """A model in torch that `prepare_for_inference` made ready, or an exported one, which is called alike.

    transforms: the resize of a test, and of each further size; divisibility: of the sides of a batch, pixels;
    precision: as TEST.AMP; augmentation: what becomes of several views.
    """

    def __init__(
        self,
        model: Detector | ExportedDetector,
        names: Sequence[str],
        category_ids: Sequence[int],
        transforms: Sequence[Transform],
        divisibility: int,
        precision: str = "off",
        augmentation: Augmentation | None = None,
    ) -> None:
        self.model, self.names, self.category_ids = model, list(names), list(category_ids)
        self.transforms, self.divisibility = list(transforms), divisibility
        self.precision, self.augmentation = precision, augmentation

    def prepare(self, pixels: np.ndarray) -> Prepared:
        """The picture resized."""
        nothing = Sample(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
        return tuple(transform(pixels, nothing, np.random.default_rng(0))[0] for transform in self.transforms)

    def detect(self, pictures: Sequence[Prepared], originals: Sequence[Size]) -> list[Detection]:
        """What the model finds; pictures of one padded size are a batch, as the padding would change scores else."""
        step = self.divisibility
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, views in enumerate(pictures):
            groups.setdefault(tuple(-(-side // step) for view in views for side in view.shape[:2]), []).append(i)
        found: dict[int, Detection] = {}
        for places in groups.values():
            batches = (
                collate([_item(pictures[i][k], originals[i], i) for i in places], step)
                for k in range(len(self.transforms))
            )
            seen = detect_views(self.model, batches, self.precision, self.augmentation)  # type: ignore[arg-type]
            found |= zip(places, seen, strict=True)
        return [found[i] for i in range(len(pictures))]


def _item(picture: np.ndarray, original: Size, number: int) -> tuple[torch.Tensor, Target]:
    """A picture as a loader gives it, without truth."""
    boxes, labels = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    target = Target(boxes=boxes, labels=labels, ignore=boxes, image_id=number, original=original, draw=0)
    return torch.from_numpy(picture).permute(2, 0, 1), target


class Seen(NamedTuple):
    """A picture that was looked at, or could not be.

    pixels: uint8 [H, W, 3] RGB; result: None where error says why; highest: score of any class, 0 for none at all.
    """

    picture: Picture
    pixels: np.ndarray | None = None
    result: Result | None = None
    highest: float = 0.0
    error: Exception | None = None


class _Loaded(NamedTuple):
    """pixels, prepared: None at the end of a video."""

    pixels: np.ndarray | None = None
    prepared: Prepared | None = None
    error: Exception | None = None


class Predictor:
    """A trained detector that looks at pictures. It may be called from several threads at once.

    network: what finds the boxes; thresholds: gives the lowest score of each class for the threshold "auto", or raises
    UserError; root, outside: DATASETS.ROOT and ALLOW_OUTSIDE, for sources that are data sets.
    """

    def __init__(
        self,
        network: Network,
        thresholds: Callable[[], Sequence[float]] | None = None,
        root: str | Path = "datasets",
        outside: bool = False,
    ) -> None:
        self.network, self.root, self.outside = network, root, outside
        self._thresholds = thresholds
        self._real = np.array(real_outputs(network.names, ()), bool)

    def __repr__(self) -> str:
        names = [name for name, real in zip(self.names, self._real, strict=True) if real]
        return f"<Predictor of {counted(len(names), 'class|classes')}: {listed(names)}>"

    @property
    def names(self) -> list[str]:
        """[C] of the classes; the place is the label. Some outputs may stand for no class and are never found."""
        return list(self.network.names)

    @property
    def category_ids(self) -> list[int]:
        """[C] of the classes, as in the annotations that were trained on."""
        return list(self.network.category_ids)

    def __call__(
        self,
        source: object,
        threshold: float | str = 0.5,
        batch: int = 8,
        *,
        order: str = "rgb",
        broken: Literal["stop", "skip"] = "stop",
    ) -> Iterator[Result]:
        """What is found in each picture of a source, in their order, as it is found.

        source: as `open_source` takes it: a path, folder, glob, video, camera or data set as text; an array uint8
        [H, W, 3], whose channels are in `order` ("rgb" or "bgr"); a tensor uint8 [3, H, W]; a PIL image; or a list or
        iterable of these. threshold: lowest score, 0..1, or "auto": that of each class in the run's thresholds.json.
        batch: pictures that the network sees at once; of a camera always 1. broken: whether a picture that cannot be
        read raises, or is named in a warning and left out.
        Memory holds some pictures ahead, however many there are. Raises ValueError or OSError before anything is
        looked at for a source or argument that is none; for a broken picture where its result would stand, as what the
        iterable itself raises.
        """
        if broken not in ("stop", "skip"):
            raise UserError(f"broken {broken!r}: write stop or skip")
        lowest = self.lowest(threshold)
        if isinstance(batch, bool) or not isinstance(batch, Integral) or batch < 1:
            raise UserError(f"batch {batch!r}: it is a number of pictures, 1 or more")
        opened = open_source(source, order=order, root=self.root, outside=self.outside)
        return self._results(opened, lowest, int(batch), broken)

    predict = __call__

    def lowest(self, threshold: float | str) -> list[float]:
        """The lowest score of each class that a threshold means. Raises ValueError for one that is no score."""
        if isinstance(threshold, str) and threshold == "auto":
            if self._thresholds is None:
                raise UserError('threshold="auto": these weights have no run with a thresholds.json; pass a number')
            return list(self._thresholds())
        if isinstance(threshold, np.ndarray) and threshold.ndim == 0:
            threshold = threshold.item()
        if isinstance(threshold, bool) or not isinstance(threshold, Real | str):
            raise UserError(f"threshold {cut(threshold)}: write one number for all classes, in 0..1, or auto")
        if isinstance(threshold, str) or not 0 <= threshold <= 1:
            raise UserError(f"threshold {threshold!r}: scores lie in 0..1; or write auto")
        return [float(threshold)] * len(self.network.names)

    def _results(self, opened: Input, lowest: list[float], batch: int, broken: str) -> Iterator[Result]:
        for seen in self.look(opened, lowest, batch):
            if seen.result is not None:
                yield seen.result
            elif seen.error is not None and broken == "stop":
                raise seen.error
            else:
                log.warning("%s; it is left out", seen.error)

    def look(self, opened: Input, lowest: Sequence[float], batch: int, keep: bool = False) -> Iterator[Seen]:
        """Every picture of a source with what was found, or why it could not be read; closes the source at the end.

        keep: whether pixels are handed on, which takes the memory of some pictures ahead.
        """
        batch = 1 if opened.kind == "camera" else batch
        threads = 1 if opened.moving else min(THREADS, os.cpu_count() or 1)
        least = np.array(lowest, np.float32)
        ids = self._ids(opened.category_ids)
        stream = _ahead(opened.pictures, self._load(keep or opened.moving), threads, batch + threads)
        try:
            fault: Exception | None = None
            while fault is None:
                chunk, fault = _taken(stream, batch)
                if not chunk:
                    break
                yield from self._detect(chunk, least, lowest, ids, keep)
            if fault is not None:
                raise fault
        finally:
            stream.close()  # first: its threads read from the video
            opened.close()

    def _ids(self, known: Mapping[str, int]) -> list[int]:
        """The category id of each class: in a data set that knows some, its own, and further ones for the others."""
        if not known:
            return self.category_ids
        further = count(max(known.values()) + 1)
        return [known[name] if name in known else next(further) for name in self.names]

    def _load(self, keep: bool) -> Callable[[Picture], _Loaded]:
        def load(picture: Picture) -> _Loaded:
            try:
                pixels = picture.read()
            except (OSError, UserError) as error:
                return _Loaded(error=error)
            if pixels is None:
                return _Loaded()
            kept = pixels if keep else np.broadcast_to(np.uint8(0), pixels.shape)  # its size alone
            return _Loaded(kept, self.network.prepare(pixels))

        return load

    def _detect(
        self,
        chunk: list[tuple[Picture, _Loaded]],
        least: np.ndarray,
        lowest: Sequence[float],
        ids: Sequence[int],
        keep: bool,
    ) -> Iterator[Seen]:
        sizes = [(one.pixels.shape[0], one.pixels.shape[1]) for _, one in chunk if one.pixels is not None]
        inputs = [one.prepared for _, one in chunk if one.prepared is not None]
        found = iter(zip(self.network.detect(inputs, sizes) if inputs else (), sizes, strict=True))
        for picture, loaded in chunk:
            if loaded.error is not None:
                yield Seen(picture, error=loaded.error)
                continue
            detection, size = next(found)
            boxes, labels, scores = (detection[key].numpy() for key in ("boxes", "labels", "scores"))  # type: ignore[literal-required]
            real = self._real[labels]
            kept = (scores >= least[labels]) & real
            result = Result(
                boxes[kept].astype(np.float32, copy=False), labels[kept], scores[kept].astype(np.float32, copy=False),
                *size, picture.image_id, picture.path, picture.frame, picture.seconds,
                self.network.names, ids, lowest, picture.truth, picture.read,
            )  # fmt: skip
            if not picture.lasting:
                result = replace(result, pixels=_held(loaded.pixels))
            highest = float(scores[real].max(initial=0.0))
            yield Seen(picture, loaded.pixels if keep else None, result, 0.0 if math.isnan(highest) else highest)


def _held(pixels: np.ndarray | None) -> Callable[[], np.ndarray | None]:
    return lambda: pixels


def _taken(stream: Iterator[_T], number: int) -> tuple[list[_T], Exception | None]:
    """The next of a stream, and what it raised behind them: what came before that is still due."""
    taken: list[_T] = []
    try:
        for one in islice(stream, number):
            taken.append(one)  # what is there when it raises counts
    except Exception as error:  # raised again by the caller
        return taken, error
    return taken, None


def _ahead(
    pictures: Iterable[Picture], load: Callable[[Picture], _Loaded], threads: int, depth: int
) -> Generator[tuple[Picture, _Loaded], None, None]:
    """Pictures with what `load` makes of them in threads, in order, at most `depth` of them ahead; up to the end.

    What the pictures' iterator raises comes behind those that it gave before.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="pictures")
    window: deque[tuple[Picture, Future[_Loaded]]] = deque()

    def first() -> tuple[Picture, _Loaded]:
        picture, future = window.popleft()
        return picture, future.result()

    source, fault, over = iter(pictures), None, False
    try:
        while window or not over:
            if not over:
                new, fault = _taken(source, 1)
                over = not new
                window.extend((picture, pool.submit(load, picture)) for picture in new)
                if not over and len(window) < depth:
                    continue
            if not window:
                break
            picture, loaded = first()
            if loaded.pixels is None and loaded.error is None:
                return
            yield picture, loaded
        if fault is not None:
            raise fault
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
