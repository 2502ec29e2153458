"""From config to batches: the datasets of training and evaluation, and the loaders that read them."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from yacs.config import CfgNode

from detector.data.capacity import check_shared_memory, usable_workers
from detector.data.catalog import distinct
from detector.data.dataset import CocoDetection, JoinedDataset, RecordError
from detector.data.pipeline import Colour, at_sizes, build_transforms, tested_size
from detector.data.plausible import check_apart
from detector.data.repeats import Repeats, repeat_factors
from detector.data.samplers import Draw, TrainBatches, eval_batches
from detector.data.shares import only_in_test
from detector.data.sources import Origin, find_sources, to_train_on
from detector.data.workers import make_loader, received
from detector.distributed import rank, world_size
from detector.errors import UserError
from detector.structures import Batch, Size, Target
from detector.text import counted, printable

_log = logging.getLogger("detector")

Item = tuple[Tensor, Target]


@dataclass(frozen=True)
class _Parcel:
    """A batch on its way from a worker, or what is wrong with a picture in it.

    A message, since the DataLoader would wrap a raised error in a traceback. No tuple, since the DataLoader would
    rebuild it, and every size in it as a list, when it pins memory.
    """

    batch: Batch | None = None
    problem: str | None = None

    def pin_memory(self) -> "_Parcel":
        return self if self.batch is None else replace(self, batch=self.batch.pin_memory())


class BatchLoader:
    """Iterable of Batches; an error in a worker rises here with its own short message.

    timeout: seconds to wait for a batch, 0 for ever.
    """

    def __init__(self, loader: DataLoader, timeout: float) -> None:
        self.loader, self.timeout = loader, timeout

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        for parcel in received(self.loader, timeout=self.timeout):
            if parcel.problem is not None:
                raise RecordError(parcel.problem)
            yield parcel.batch


class _Caught(Dataset):
    """A dataset whose unreadable pictures are items."""

    def __init__(self, dataset: CocoDetection | JoinedDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | Draw) -> Item | RecordError:
        try:
            return self.dataset[key]
        except RecordError as error:
            return error


class _Views(Dataset):
    """The same dataset in several sizes: an item is (size, item), by their places."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self.datasets = datasets

    def __getitem__(self, key: tuple[int, int]) -> Item | RecordError:
        size, item = key
        return self.datasets[size][item]


def build_train_dataset(
    cfg: CfgNode, fill: Colour | None = None, outputs: Sequence[str] = (), origin: Origin | None = None
) -> CocoDetection | JoinedDataset:
    """The datasets of DATASETS.TRAIN, joined. fill: as in `build_transforms`; outputs, origin: as in `find_sources`.

    A source without any box joins the others as background, unless images without boxes are left out.
    Raises ValueError when there are none, none has a box, their class lists differ, or MODEL.NUM_CLASSES, unless it is
    0, is another number.
    """
    sources = to_train_on(cfg, find_sources(cfg, "TRAIN", outputs, origin=origin))
    transforms = build_transforms(cfg, train=True, fill=fill)
    drop_empty = cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    datasets = [CocoDetection(source, transforms, cfg.SEED, drop_empty, difficult) for source, difficult in sources]
    return datasets[0] if len(datasets) == 1 else JoinedDataset(datasets)


def build_test_datasets(
    cfg: CfgNode,
    train: CocoDetection | JoinedDataset | None = None,
    outputs: Sequence[str] = (),
    origin: Origin | None = None,
) -> dict[str, CocoDetection]:
    """The datasets of DATASETS.TEST by name; own data is named after its annotation file.

    train: the training data whose classes they must have; outputs, origin: a model's that fix the classes instead, as
    in `find_sources`. Raises ValueError when a class list does not fit, or MODEL.NUM_CLASSES, unless it is 0 and
    without such outputs, is another number.
    """
    transforms = build_transforms(cfg, train=False)
    sources = find_sources(cfg, "TEST", outputs, train.indexes[0] if train else None, origin)
    names = distinct(source.name for source in sources)
    datasets = {
        name: CocoDetection(replace(source, name=name), transforms, cfg.SEED)
        for name, source in zip(names, sources, strict=True)
    }
    if train:
        check_apart(train.datasets if isinstance(train, JoinedDataset) else [train], list(datasets.values()))
        if clause := only_in_test(train.indexes, [dataset.index for dataset in datasets.values()]):
            _log.warning("DATASETS.TRAIN and TEST: %s", printable(clause))
    return datasets


def train_loader(
    cfg: CfgNode, dataset: CocoDetection | JoinedDataset, start_step: int = 0, stop_step: int | None = None
) -> BatchLoader:
    """Batches of SOLVER.IMS_PER_BATCH images for the steps start_step, start_step + 1, ..; without end by default.

    Several processes share every batch.
    """
    ratios = dataset.aspect_ratios if cfg.DATALOADER.ASPECT_RATIO_GROUPING else None
    share = rank(), world_size()
    repeats = repeats_of(cfg, dataset)
    batches = TrainBatches(
        len(dataset), cfg.SOLVER.IMS_PER_BATCH, cfg.SEED, ratios, start_step, stop_step, *share, repeats
    )
    return _loader(cfg, _Caught(dataset), batches)


def batches_per_epoch(cfg: CfgNode, dataset: CocoDetection | JoinedDataset) -> int:
    """Steps of SOLVER.IMS_PER_BATCH images in which training sees every image, as often as it is repeated.

    Logs how often that is.
    """
    repeats = repeats_of(cfg, dataset)
    if repeats is not None:
        _log.info(
            "DATALOADER.REPEAT_THRESHOLD %g: factors from %.3g to %.3g, an epoch of %s instead of %d",
            *(cfg.DATALOADER.REPEAT_THRESHOLD, repeats.factors.min(), repeats.factors.max()),
            *(counted(repeats.draws, "entry|entries"), len(dataset)),
        )
        if repeats.draws == len(dataset):
            _log.warning(
                "DATALOADER.REPEAT_THRESHOLD %g does nothing here: each class is in a greater share of the images",
                cfg.DATALOADER.REPEAT_THRESHOLD,
            )
    return TrainBatches(len(dataset), cfg.SOLVER.IMS_PER_BATCH, repeats=repeats).batches_per_epoch


def repeats_of(cfg: CfgNode, dataset: CocoDetection | JoinedDataset) -> Repeats | None:
    """How often an epoch shows each image by DATALOADER.REPEAT_THRESHOLD; None where that is 0: once.

    The share of images that hold a class is that of all parts of a joined set; only boxes that are trained on count.
    """
    if not cfg.DATALOADER.REPEAT_THRESHOLD:
        return None
    found, start = [], 0
    for part in dataset.datasets if isinstance(dataset, JoinedDataset) else [dataset]:
        item = np.full(len(part.index), -1)
        item[part.positions] = np.arange(start, start + len(part))
        items = np.repeat(item, np.diff(part.index.offsets))
        used = part.index.trainable(part.difficult) & (items >= 0)
        found.append((items[used], part.index.labels[used]))
        start += len(part)
    images, labels = map(np.concatenate, zip(*found, strict=True))
    return Repeats.of(repeat_factors(cfg.DATALOADER.REPEAT_THRESHOLD, images, labels, start))


def test_loader(cfg: CfgNode, dataset: CocoDetection) -> BatchLoader:
    """Every image once in batches of up to TEST.IMS_PER_BATCH of one padded size, which several processes share."""
    return _loader(cfg, _Caught(dataset), _eval_batches(cfg, dataset, [cfg]))


def views_of(cfg: CfgNode, dataset: CocoDetection) -> list[CocoDetection]:
    """A data set of the test, and the same in the other sizes of `at_sizes`."""
    return [dataset, *(dataset.transformed(build_transforms(other, train=False)) for other in at_sizes(cfg)[1:])]


def view_loader(cfg: CfgNode, dataset: CocoDetection) -> BatchLoader:
    """The batches of `test_loader`, each in every size of `at_sizes` in a row: one, without TEST.BBOX_AUG.SCALES."""
    views = _Views([_Caught(one) for one in views_of(cfg, dataset)])
    batches = _eval_batches(cfg, dataset, at_sizes(cfg))
    return _loader(cfg, views, [[(i, item) for item in batch] for batch in batches for i in range(len(views.datasets))])


def _eval_batches(cfg: CfgNode, dataset: CocoDetection, views: Sequence[CfgNode]) -> list[list[int]]:
    """Those of this process. views: the configs of the sizes that images are seen in."""
    step = cfg.DATALOADER.SIZE_DIVISIBILITY or 1

    def padded(view: CfgNode, size: Size) -> Size:
        height, width = (-(-side // step) * step for side in tested_size(view, size))
        return height, width

    sizes = [tuple(padded(view, dataset.size(item)) for view in views) for item in range(len(dataset))]
    return eval_batches(sizes, cfg.TEST.IMS_PER_BATCH)[rank() :: world_size()]


def check_memory(
    cfg: CfgNode, train: CocoDetection | JoinedDataset | None, tests: Iterable[CocoDetection], free: int | None = None
) -> None:
    """Raise ValueError when what the loaders have ready can be more than the shared memory holds.

    A training keeps its batches while it evaluates. free: bytes; None asks the system. See `check_shared_memory`.
    """
    bytes_ = max((largest_batch(cfg, dataset, train=False) for dataset in tests), default=0)
    if train is not None:
        bytes_ += largest_batch(cfg, train, train=True)
    check_shared_memory(cfg.DATALOADER.NUM_WORKERS, bytes_, free, "DATALOADER.NUM_WORKERS")


def largest_batch(cfg: CfgNode, dataset: CocoDetection | JoinedDataset, train: bool) -> int:
    """Bytes of the largest batch of images that training, or evaluation, can make of a data set in one process."""
    images = -(-cfg.SOLVER.IMS_PER_BATCH // world_size()) if train else cfg.TEST.IMS_PER_BATCH
    sides = [largest_input(one, dataset, train) for one in ([cfg] if train else at_sizes(cfg))]
    return 3 * images * max(height * width for height, width in sides)


def largest_input(cfg: CfgNode, dataset: CocoDetection | JoinedDataset | None, train: bool) -> Size:
    """Shorter and longer side, pixels, that the images of a batch of training, or evaluation, are padded to at most.

    The one batch an epoch in which wide and tall images meet may be larger. dataset: None: of images of any form.
    """
    node = cfg.INPUT
    short = max(node.MIN_SIZE_TRAIN) if train else node.MIN_SIZE_TEST
    limit = node.MAX_SIZE_TRAIN if train else node.MAX_SIZE_TEST
    if train and node.MIN_SIZE_RANGE_TRAIN[0] != -1:
        short = node.MIN_SIZE_RANGE_TRAIN[1]
    if node.SQUARE_SIZE:
        sides = (node.SQUARE_SIZE, node.SQUARE_SIZE)
    elif train and node.AUGMENTATION == "ssd":  # crops of any form
        sides = (limit, limit)
    elif dataset is None:
        sides = (min(short, limit) if cfg.DATALOADER.ASPECT_RATIO_GROUPING or not train else limit, limit)
    else:
        heights, widths = (np.concatenate([getattr(i, k) for i in dataset.indexes]) for k in ("heights", "widths"))
        ratios = np.maximum(heights, widths) / np.minimum(heights, widths)
        long = float(np.minimum(short * ratios, limit).max())
        one_form = (heights >= widths).all() or (heights <= widths).all()
        mixed = train and not cfg.DATALOADER.ASPECT_RATIO_GROUPING and not one_form
        sides = (long if mixed else float(np.minimum(short, limit / ratios).max()), long)
    step = cfg.DATALOADER.SIZE_DIVISIBILITY
    height, width = (-(-round(side) // step) * step for side in sides)
    return height, width


def collate(items: list[Item], divisibility: int = 1) -> Batch:
    """Images padded right and bottom with zeros to the largest sides, rounded up to a multiple of divisibility.

    The images lie in memory as channels_last.
    """
    sizes = [(image.shape[1], image.shape[2]) for image, _ in items]
    height, width = (-(-max(side) // divisibility) * divisibility for side in zip(*sizes, strict=True))
    images = torch.zeros((len(items), height, width, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    for padded, (image, _) in zip(images, items, strict=True):
        padded[:, : image.shape[1], : image.shape[2]] = image
    return Batch(images, sizes, [target for _, target in items])


def _loader(
    cfg: CfgNode,
    dataset: _Caught | _Views,
    batches: Iterable[list[Draw]] | Iterable[list[int]] | Iterable[list[tuple[int, int]]],
) -> BatchLoader:
    workers, divisibility = usable_workers(cfg.DATALOADER.NUM_WORKERS), cfg.DATALOADER.SIZE_DIVISIBILITY
    if divisibility == 0:
        raise UserError(
            "DATALOADER.SIZE_DIVISIBILITY 0 leaves it to the head: resolve the config first "
            "(detector.models.build.resolve_parts), or write a number of pixels"
        )
    pin_memory = cfg.MODEL.DEVICE.startswith(("auto", "cuda")) and torch.cuda.is_available()
    collated = partial(_parcel, divisibility=divisibility)
    loader = make_loader(dataset, batches, collated, workers, pin_memory)
    return BatchLoader(loader, cfg.DATALOADER.TIMEOUT)


def _parcel(items: list[Item | RecordError], divisibility: int) -> _Parcel:
    good = []
    for item in items:
        if isinstance(item, RecordError):
            return _Parcel(problem=str(item))
        good.append(item)
    return _Parcel(collate(good, divisibility))
