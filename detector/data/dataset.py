"""Datasets of pictures with boxes: one source of annotations, or several that list the same classes."""

import logging
from collections.abc import Sequence
from copy import copy

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from detector.data.catalog import Source
from detector.data.images import read_rgb
from detector.data.packed import PackedIndex, check_same_classes
from detector.data.samplers import Draw
from detector.data.transforms import Sample, Transform
from detector.errors import UserError
from detector.structures import Size, Target
from detector.text import agreeing, counted

_log = logging.getLogger("detector")


class RecordError(UserError):
    """A picture of a dataset cannot be read; the message names file and record."""


class CocoDetection(Dataset):
    """The pictures of one source, in COCO's or VOC's form: dataset[i] -> (uint8 [3, H, W] RGB, Target).

    transforms: usually a Compose; seed: of their chance, together with the step and slot of a Draw, so that it depends
    on neither workers nor global state; drop_empty: without the images that have no box to train on; difficult: whether
    VOC's difficult objects are boxes like others, else they are `ignore` regions as crowds are.
    Raises ValueError when no image is left, RecordError when a picture is missing, damaged or of another size than its
    record says.
    """

    def __init__(
        self,
        source: Source,
        transforms: Transform,
        seed: int = 0,
        drop_empty: bool = False,
        difficult: bool = False,
    ) -> None:
        self.name = source.name
        self.folder = source.folder
        self.index = source.index
        self.transforms = transforms
        self.seed = seed
        self.difficult = difficult
        self.positions = np.arange(len(self.index))
        """[n] int64: the places in the index of the images that are used."""
        if drop_empty:
            self.positions = np.flatnonzero(self.index.num_boxes(difficult))
            dropped = len(self.index) - len(self.positions)
            if dropped:
                have = agreeing(dropped, "has|have no box and is|are left out")
                _log.info("%s: %d of %s %s", self.index.path, dropped, counted(len(self.index), "image|images"), have)
            if not len(self.positions):
                raise UserError(
                    f"{self.index.path}: no image has a box to train on "
                    f"({counted(len(self.index.labels), 'annotation|annotations')}); check its `annotations`"
                )

    @property
    def indexes(self) -> list[PackedIndex]:
        """The annotation file, as a list of one."""
        return [self.index]

    @property
    def classes(self) -> list[str]:
        """Names of the classes; the place is the label."""
        return self.index.classes

    @property
    def category_ids(self) -> list[int]:
        """The annotation file's ids of the classes; the place is the label."""
        return self.index.category_ids

    @property
    def image_ids(self) -> list[int | str]:
        """The annotation file's ids of the images that are used."""
        return self.index.image_ids[self.positions].tolist()

    @property
    def aspect_ratios(self) -> np.ndarray:
        """[n] float64: width / height of the images that are used."""
        return (self.index.widths / self.index.heights)[self.positions]

    @property
    def num_boxes(self) -> int:
        """Boxes to train on."""
        return int(self.index.num_boxes(self.difficult)[self.positions].sum())

    def __len__(self) -> int:
        return len(self.positions)

    def file_name(self, item: int) -> str:
        """The file of a picture, relative to the folder."""
        return str(self.index.file_names[self.positions[item]])

    def size(self, item: int) -> Size:
        """(height, width) of a picture in its record, pixels."""
        return self.index.size(int(self.positions[item]))

    def without(self, items: Sequence[int]) -> "CocoDetection":
        """The same data set without some of its pictures; its index stays whole."""
        other = copy(self)
        other.positions = np.delete(self.positions, items)
        return other

    def transformed(self, transforms: Transform) -> "CocoDetection":
        """The same data set with other transforms."""
        other = copy(self)
        other.transforms = transforms
        return other

    def __getitem__(self, key: int | Draw) -> tuple[Tensor, Target]:
        if isinstance(key, Draw):
            rng, draw = key.chance(self.seed)
            position = int(self.positions[key.item])
        else:
            position = int(self.positions[key])
            rng, draw = np.random.default_rng([self.seed, position]), 0
        size = self.index.size(position)
        sample = sample_of(self.index, position, self.difficult)
        image, sample = self.transforms(self._read(position), sample, rng)
        target = Target(
            boxes=torch.from_numpy(sample.boxes),
            labels=torch.from_numpy(sample.labels),
            ignore=torch.from_numpy(sample.ignore),
            image_id=self.index.image_id(position),
            original=size,
            draw=draw,
        )
        return torch.from_numpy(image).permute(2, 0, 1), target

    def _read(self, position: int) -> np.ndarray:
        path = self.folder / str(self.index.file_names[position])
        try:
            return read_rgb(path, self.index.size(position), self.index.upright(position))
        except (OSError, UserError) as error:
            raise RecordError(f"{error} ({self.index.record(position)})") from None


def sample_of(index: PackedIndex, position: int, difficult: bool = False) -> Sample:
    """The boxes of the image at a position of an index: those to train on, and regions to ignore.

    difficult: whether VOC's difficult objects are boxes like others.
    """
    rows = index.rows(position)
    boxes, usable = index.boxes[rows], index.usable[rows]
    trained = index.trainable(difficult, rows)
    return Sample(boxes[trained], index.labels[rows][trained], boxes[usable & ~trained])


class JoinedDataset(Dataset):
    """Several datasets as one.

    Raises ValueError when they do not list the same classes.
    """

    def __init__(self, datasets: Sequence[CocoDetection]) -> None:
        for other in datasets[1:]:
            check_same_classes(datasets[0].index, other.index)
        self.datasets = list(datasets)
        self.name = "+".join(dataset.name for dataset in datasets)
        self.classes = datasets[0].classes
        self.category_ids = datasets[0].category_ids
        self.aspect_ratios = np.concatenate([dataset.aspect_ratios for dataset in datasets])
        self.ends = np.cumsum([len(dataset) for dataset in datasets])

    @property
    def indexes(self) -> list[PackedIndex]:
        """The annotation files, in order."""
        return [dataset.index for dataset in self.datasets]

    @property
    def num_boxes(self) -> int:
        """Boxes to train on."""
        return sum(dataset.num_boxes for dataset in self.datasets)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, key: int | Draw) -> tuple[Tensor, Target]:
        item = range(len(self))[key.item if isinstance(key, Draw) else key]
        part = int(np.searchsorted(self.ends, item, side="right"))
        inside = item - (int(self.ends[part - 1]) if part else 0)
        return self.datasets[part][key._replace(item=inside) if isinstance(key, Draw) else inside]
