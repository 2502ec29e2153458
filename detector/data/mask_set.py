"""Data sets of salient objects: pictures with masks, looked at before the first step, and their loaders."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from yacs.config import CfgNode

from detector.console import progress
from detector.data.capacity import check_shared_memory
from detector.data.catalog import distinct
from detector.data.dataset import RecordError
from detector.data.images import read_rgb
from detector.data.loader import BatchLoader, largest_input, test_loader
from detector.data.mask_folders import MaskFolder, Pair, find_masks
from detector.data.masks import look_at_pair, read_mask
from detector.data.pipeline import build_transforms
from detector.data.samplers import Draw
from detector.data.transforms import Sample, Transform
from detector.distributed import world_size
from detector.errors import UserError
from detector.structures import MaskTarget, Size
from detector.text import counted

_log = logging.getLogger("detector")

CLASSES = ["salient object"]
NAMED = 20  # pictures that a message lists
_THREADS = 16


@dataclass(frozen=True)
class Listing:
    """Where a data set is from, as metrics.json says it; and how many pictures it has."""

    path: Path
    number: int

    def __len__(self) -> int:
        return self.number


class MaskDataset(Dataset):
    """Pictures with masks: dataset[i] -> (uint8 [3, H, W] RGB, MaskTarget).

    pairs: pictures and masks by name; sizes: (height, width) of each picture, as viewers show it; transforms: usually a
    Compose; whole: masks stay as large as the picture was before `transforms`, as an evaluation needs them; seed: of
    the transforms' chance, together with the step and slot of a Draw.
    Raises RecordError when a picture or mask is missing, damaged or of another size.
    """

    classes = CLASSES
    category_ids = (0,)

    def __init__(
        self,
        name: str,
        path: Path,
        pairs: dict[str, Pair],
        sizes: Sequence[Size],
        transforms: Transform,
        *,
        whole: bool = False,
        seed: int = 0,
    ) -> None:
        self.name, self.index = name, Listing(path, len(pairs))
        self.image_ids, self.pairs = list(pairs), list(pairs.values())
        self.sizes, self.transforms, self.whole, self.seed = list(sizes), transforms, whole, seed

    @property
    def aspect_ratios(self) -> np.ndarray:
        """[n] float64: width / height of the pictures."""
        return np.array([width / height for height, width in self.sizes], np.float64)

    def size(self, item: int) -> Size:
        """(height, width) of a picture, pixels."""
        return self.sizes[item]

    def __len__(self) -> int:
        return len(self.pairs)

    def transformed(self, transforms: Transform) -> "MaskDataset":
        """The same data set with other transforms."""
        other = copy(self)
        other.transforms = transforms
        return other

    def __getitem__(self, key: int | Draw) -> tuple[Tensor, MaskTarget]:
        if isinstance(key, Draw):
            (rng, draw), item = key.chance(self.seed), key.item
        else:
            rng, draw, item = np.random.default_rng([self.seed, key]), 0, key
        pair, size = self.pairs[item], self.sizes[item]
        try:
            image = read_rgb(pair.picture, size, upright=True)
            mask = read_mask(pair.expected if pair.mask is None else pair.mask, size)
        except (OSError, UserError) as error:
            raise RecordError(f"{error} ({self.name}, picture {self.image_ids[item]!r})") from None
        sample = nothing()._replace(mask=None if self.whole else mask)
        image, sample = self.transforms(image, sample, rng)
        mask = mask if sample.mask is None else sample.mask
        target = MaskTarget(
            mask=torch.from_numpy(np.ascontiguousarray(mask)),
            image_id=self.image_ids[item],
            original=size,
            draw=draw,
        )
        return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1), target


def nothing() -> Sample:
    """A Sample without boxes."""
    return Sample(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros((0, 4), np.float32))


def build_mask_train(cfg: CfgNode) -> MaskDataset:
    """The data sets of DATASETS.TRAIN as one, whose pictures and masks are looked at.

    Raises ValueError or OSError where there are none, or one cannot be used.
    """
    _check_keys(cfg)
    if not cfg.DATASETS.TRAIN:
        raise UserError("DATASETS.TRAIN is empty; write saliency:FOLDER")
    folders = [find_masks(entry, cfg.DATASETS.ROOT) for entry in cfg.DATASETS.TRAIN]
    names = distinct(folder.name for folder in folders)
    several = len(folders) > 1
    pairs = {
        f"{name}/{one}" if several else one: pair
        for name, folder in zip(names, folders, strict=True)
        for one, pair in folder.pairs.items()
    }
    joined = MaskFolder("+".join(names), folders[0].path, pairs)
    kept, sizes = looked_at(joined, cfg.DATALOADER.BROKEN)
    return MaskDataset(joined.name, joined.path, kept, sizes, build_transforms(cfg, train=True), seed=cfg.SEED)


def build_mask_tests(cfg: CfgNode) -> dict[str, MaskDataset]:
    """The data sets of DATASETS.TEST by name; masks keep their own size. Errors as `build_mask_train`."""
    _check_keys(cfg)
    folders = [find_masks(entry, cfg.DATASETS.ROOT) for entry in cfg.DATASETS.TEST]
    transforms = build_transforms(cfg, train=False)
    found = {}
    for name, folder in zip(distinct(folder.name for folder in folders), folders, strict=True):
        kept, sizes = looked_at(folder, cfg.DATALOADER.BROKEN)
        found[name] = MaskDataset(name, folder.path, kept, sizes, transforms, whole=True)
    return found


def _check_keys(cfg: CfgNode) -> None:
    """Raise ValueError for keys that mean boxes and would change what is learned."""
    if cfg.INPUT.AUGMENTATION != "flip":
        raise UserError(
            f"INPUT.AUGMENTATION {cfg.INPUT.AUGMENTATION} crops by boxes, and MODEL.TASK saliency has none: write flip"
        )
    if cfg.DISTILL.TEACHER:
        raise UserError("DISTILL.TEACHER teaches a detector of boxes, and MODEL.TASK saliency has none: write ''")
    if cfg.DATALOADER.REPEAT_THRESHOLD:
        raise UserError("DATALOADER.REPEAT_THRESHOLD is about classes, and MODEL.TASK saliency has none: write 0")


def looked_at(folder: MaskFolder, broken: str) -> tuple[dict[str, Pair], list[Size]]:
    """The pairs that can be used, and the sizes of their pictures.

    broken: "stop" raises ValueError that lists those that cannot; "skip" leaves them out, with a warning.
    """
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        progress(total=len(folder.pairs), desc=f"check {folder.name}", unit="picture", delay=1, leave=False) as bar,
    ):
        looks = []
        for look in pool.map(_look, folder.pairs.values()):
            looks.append(look)
            bar.update()
    faults = [fault for _, fault in looks if fault]
    if faults:
        lines = [f"  {text if text.isprintable() else ascii(text)}" for text in faults[:NAMED]]
        lines += [f"  and {len(faults) - NAMED} more"] if len(faults) > NAMED else []
        said = (
            f"{folder.path}: {len(faults)} of {counted(len(looks), 'picture|pictures')} cannot be used:\n"
            + "\n".join(lines)
        )
        if len(faults) == len(looks):
            raise UserError(f"{said}\nMend them: without them nothing is left, whatever DATALOADER.BROKEN says")
        if broken == "stop":
            raise UserError(f"{said}\nMend them, or write DATALOADER.BROKEN skip to do without them")
        _log.warning("%s\nthey are left out, by DATALOADER.BROKEN", said)
    good = [(name, size) for name, (size, fault) in zip(folder.pairs, looks, strict=True) if size and not fault]
    return {name: folder.pairs[name] for name, _ in good}, [size for _, size in good]


def _look(pair: Pair) -> tuple[Size | None, str]:
    if pair.mask is None:
        return None, f"{pair.picture}: it has no mask, which is expected at {pair.expected}"
    return look_at_pair(pair.picture, pair.mask)


def mask_test_loader(cfg: CfgNode, dataset: MaskDataset) -> BatchLoader:
    """As `test_loader`: every picture once."""
    return test_loader(cfg, dataset)  # type: ignore[arg-type]


def check_mask_memory(cfg: CfgNode, train: bool, tests: bool) -> None:
    """Raise ValueError when what the loaders have ready can be more than the shared memory holds.

    train, tests: whether there is a training, and data to test on. cfg: resolved.
    """
    images = (-(-cfg.SOLVER.IMS_PER_BATCH // world_size()) * train, cfg.TEST.IMS_PER_BATCH * tests)
    sides = [largest_input(cfg, None, train=which) for which in (True, False)]
    pixels = sum(number * height * width for number, (height, width) in zip(images, sides, strict=True))
    check_shared_memory(cfg.DATALOADER.NUM_WORKERS, 4 * pixels, key="DATALOADER.NUM_WORKERS")
