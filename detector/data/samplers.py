"""Which images a step sees: seeded, resumable batches for training, batches of one size for evaluation."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from detector.data.repeats import Repeats
from detector.errors import UserError
from detector.structures import Size


class Draw(NamedTuple):
    """An image of the dataset in its place in the training: step and slot in the batch seed its augmentation."""

    item: int
    step: int
    slot: int

    def chance(self, seed: int) -> tuple[np.random.Generator, int]:
        """What (seed, step, slot) draw: the generator of the augmentation, and the `draw` of the Target, never 0."""
        source = np.random.SeedSequence([seed, self.step, self.slot])
        number = source.spawn(1)[0].generate_state(1, np.uint64)[0]
        return np.random.default_rng(source), int(number >> np.uint64(1)) or 1


class TrainBatches:
    """Batches of Draws, without end or up to stop_step, that depend on the seed and the step alone.

    Each epoch of ceil(n / batch_size) full batches shows every image; what the last batch lacks is filled up with
    images shown before. Wide and tall images stay apart, but for one batch an epoch.
    aspect_ratios [n]: width / height; None does not group. rank, world: of several processes each takes the slots rank,
    rank + world, .. of every batch. repeats: how often an epoch shows each image, None: once; with them an epoch has
    ceil(repeats.draws / batch_size) batches. Raises ValueError for no images, no batch, and fewer slots than processes.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        seed: int = 0,
        aspect_ratios: np.ndarray | None = None,
        start_step: int = 0,
        stop_step: int | None = None,
        rank: int = 0,
        world: int = 1,
        repeats: Repeats | None = None,
    ) -> None:
        if num_images < 1 or batch_size < 1:
            raise UserError(f"training needs at least one image and one a batch, not {num_images} and {batch_size}")
        if batch_size < world:
            raise UserError(f"{world} processes share a batch of {batch_size}: take a larger one, or fewer processes")
        self.num_images = num_images
        self.batch_size = batch_size
        self.seed = seed
        self.tall = np.zeros(num_images, bool) if aspect_ratios is None else np.asarray(aspect_ratios) < 1
        self.start_step = start_step
        self.stop_step = stop_step
        self.rank, self.world = rank, world
        self.repeats = repeats
        self.draws = num_images if repeats is None else repeats.draws

    @property
    def batches_per_epoch(self) -> int:
        """Steps in which every image is seen."""
        return -(-self.draws // self.batch_size)

    def __len__(self) -> int:
        if self.stop_step is None:
            raise TypeError("these batches have no end")
        return max(self.stop_step - self.start_step, 0)

    def __iter__(self) -> Iterator[list[Draw]]:
        step, epoch = self.start_step, -1
        batches = np.empty((0, 0), np.int64)
        while self.stop_step is None or step < self.stop_step:
            if step // self.batches_per_epoch != epoch:
                epoch = step // self.batches_per_epoch
                batches = self._epoch(epoch)
            row = batches[step % self.batches_per_epoch]
            draws = [Draw(item, step, slot) for slot, item in enumerate(row.tolist())]
            yield draws[self.rank :: self.world]
            step += 1

    def _epoch(self, epoch: int) -> np.ndarray:
        """[batches_per_epoch, batch_size] image indices."""
        rng = np.random.default_rng([self.seed, epoch])
        entries = self.num_images if self.repeats is None else self.repeats.entries(rng)
        order = rng.permutation(entries)
        second = self.tall[order] != self.tall[order[0]]
        order = np.concatenate([order[~second], order[second]])
        missing = self.batches_per_epoch * self.batch_size - self.draws
        rest = order[(self.batches_per_epoch - 1) * self.batch_size :]
        alike = order[self.tall[order] == self.tall[rest[-1]]]
        one_form = (self.tall[rest] == self.tall[rest[-1]]).all()
        batches = np.concatenate([order, np.resize(alike if one_form else order, missing)])
        return rng.permutation(batches.reshape(-1, self.batch_size))


def eval_batches(sizes: Sequence[tuple[Size, ...]], batch_size: int) -> list[list[int]]:
    """Every image once, in batches of one padded size: full ones first, from tall to wide images.

    sizes: of each image, padded, in every size that it is seen in. An image that was padded further, to the size of its
    neighbours, would be found with other scores: group norms and pooled maps measure the padding too.
    Raises ValueError when batch_size is below 1.
    """
    if batch_size < 1:
        raise UserError(f"evaluation needs at least one image a batch, not {batch_size}")
    alike: dict[tuple[Size, ...], list[int]] = {}
    for i, size in enumerate(sizes):
        alike.setdefault(size, []).append(i)
    groups = [alike[size] for size in sorted(alike, key=lambda size: (size[0][1] / size[0][0], size))]
    batches = [group[i : i + batch_size] for group in groups for i in range(0, len(group), batch_size)]
    return sorted(batches, key=len, reverse=True)  # the first ones are what a pace is taken from
