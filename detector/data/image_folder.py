"""Pictures in one folder per class, as ImageNet is kept: their labels, their crops, their batches."""

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import BatchSampler, Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import v2

from detector.data.capacity import usable_workers
from detector.data.picture_files import Files, class_files, loose_files
from detector.data.samplers import Draw, TrainBatches
from detector.data.workers import make_loader, received
from detector.distributed import rank, world_size
from detector.errors import MissingFileError, UserError
from detector.text import counted

MAX_RATIO = 100  # long side to short side, whose resizing would fill the memory beyond
MIN_CROP = 32  # pixels; the stride of the coarsest level, below which it would have no cell
UNLABELLED = -1  # the label of a picture that has none
INTERPOLATIONS = {"bilinear": v2.InterpolationMode.BILINEAR, "bicubic": v2.InterpolationMode.BICUBIC}

log = logging.getLogger("detector")


class LabelledImages(NamedTuple):
    """A batch. images uint8 [N, 3, S, S] RGB, channels_last in memory; labels [N] int64 in 0..C-1, or UNLABELLED."""

    images: Tensor
    labels: Tensor


class ImageFolder(Dataset):
    """root/class_name/**/picture.jpg: dataset[i] -> (uint8 [S, S, 3] RGB, label).

    Labels are the places of the class folders in the order of their names, as in torchvision.datasets.ImageFolder;
    links are followed, files that are no pictures by their suffix are passed over. transform: PIL image -> PIL image of
    one size; under a Draw its chance depends on seed, step and slot alone. unlabelled: folders of further pictures, in
    any depth and without classes, which follow; their label is UNLABELLED.
    Raises OSError when there is no such folder; ValueError when it has no class folders, one of them holds no picture,
    or a picture cannot be decoded, always naming folder or file.
    """

    def __init__(
        self, root: str | Path, transform: v2.Transform, seed: int = 0, unlabelled: Sequence[str | Path] = ()
    ) -> None:
        self.root = Path(root)
        self.transform = transform
        self.seed = seed
        self.classes = find_classes(self.root)
        names: list[bytes] = []
        counts = []
        files = [Files([], set(), set())]
        for name in self.classes:
            found = class_files(str(self.root), name)
            if not found.names:
                raise UserError(
                    f"{self.root / name}: this class folder holds no picture ({', '.join(IMG_EXTENSIONS)}); fill it or "
                    "delete it"
                )
            names += found.names
            counts.append(len(found.names))
            files[0].folders.update(found.folders)
            files[0].links.update(found.links)
        self.num_labelled = len(names)
        self.homes = [self.root, *map(Path, unlabelled)]
        for folder in self.homes[1:]:
            found = find_unlabelled(folder)
            names += found.names
            counts.append(len(found.names))
            files.append(found._replace(names=[]))
        self.files = files  # of each home, where its pictures lie
        # Arrays, since every worker would in time copy the pages of a million Python objects.
        self.names = np.array(names)
        places = np.arange(len(counts)) - len(self.classes)  # 0, 1, .. for the folders without classes
        self.labels = np.repeat(np.where(places < 0, np.arange(len(counts)), UNLABELLED), counts)
        self.home = np.repeat((places + 1).clip(0), counts)

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """SHA-256 of the pictures' names in their order, relative to the folders, and of their labels.

        The same wherever the folders lie.
        """
        found = hashlib.sha256(self.names.tobytes())
        found.update(self.labels.tobytes())
        found.update(self.home.tobytes())
        return found.hexdigest()

    def path(self, item: int) -> Path:
        """The file of a picture."""
        return self.homes[self.home[item]] / os.fsdecode(self.names[item])

    def __getitem__(self, key: int | Draw) -> tuple[np.ndarray, int]:
        if isinstance(key, Draw):
            image = read_picture(self.path(key.item))
            seed = np.random.SeedSequence([self.seed, key.step, key.slot]).generate_state(1, np.uint64)[0]
            with torch.random.fork_rng(devices=[]):  # torchvision's transforms draw from the global state
                torch.default_generator.manual_seed(int(seed))
                image = self.transform(image)
            return np.asarray(image), int(self.labels[key.item])
        return np.asarray(self.transform(read_picture(self.path(key)))), int(self.labels[key])


class FolderLoader:
    """Iterable of LabelledImages; an error in a worker rises here as a ValueError with its own short message.

    batches: of Draws for training, of places in the dataset for evaluation; pin_memory: for a CUDA device.
    """

    def __init__(
        self, dataset: ImageFolder, batches: Iterable[list[Draw]] | Iterable[list[int]], workers: int, pin_memory: bool
    ) -> None:
        self.loader = make_loader(_Caught(dataset), batches, _collate, usable_workers(workers), pin_memory)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[LabelledImages]:
        for batch in received(self.loader, "--workers"):
            if isinstance(batch, str):
                raise UserError(batch)
            yield batch


def train_loader(
    dataset: ImageFolder, batch_size: int, workers: int, start_step: int, stop_step: int, pin_memory: bool
) -> FolderLoader:
    """The batches of the steps from start_step to before stop_step; see `TrainBatches`.

    All of them are full: batch norm must never meet the two pictures that are left over. Several processes share each
    of them.
    Raises ValueError when the dataset has fewer pictures than a batch.
    """
    check_one_batch(dataset, batch_size)
    batches = TrainBatches(
        len(dataset),
        batch_size,
        dataset.seed,
        start_step=start_step,
        stop_step=stop_step,
        rank=rank(),
        world=world_size(),
    )
    return FolderLoader(dataset, batches, workers, pin_memory)


def check_one_batch(dataset: ImageFolder, batch_size: int) -> None:
    """Raise ValueError when the dataset has fewer pictures than a batch."""
    if len(dataset) < batch_size:
        raise UserError(
            f"{dataset.root} holds {counted(len(dataset), 'picture|pictures')}, fewer than one batch: write "
            f"--batch-size {len(dataset)} or less"
        )


def eval_loader(dataset: ImageFolder, batch_size: int, workers: int, pin_memory: bool) -> FolderLoader:
    """Every picture once, in order; several processes share the batches."""
    batches = list(BatchSampler(range(len(dataset)), batch_size, drop_last=False))
    return FolderLoader(dataset, batches[rank() :: world_size()], workers, pin_memory)


def train_transform(crop: int) -> v2.Transform:
    """A random part of 8 to 100 % of the picture at crop x crop pixels, mirrored half of the time.

    Szegedy et al. 2015, sec. 6. On uint8.
    """
    return v2.Compose([v2.RandomResizedCrop(crop, antialias=True), v2.RandomHorizontalFlip()])


def eval_transform(crop: int, resize: int, interpolation: str = "bilinear") -> v2.Transform:
    """The shorter side scaled to `resize` pixels, then the middle crop x crop pixels; on uint8.

    By Pillow, antialiased: the way in which the published accuracies were measured.
    interpolation: bilinear or bicubic. Raises ValueError when the crop is too small or larger than the scaled picture.
    """
    if crop < MIN_CROP:
        raise UserError(f"--crop is {crop}; it must be {MIN_CROP} pixels or more, the stride of the coarsest level")
    if resize < crop:
        raise UserError(f"--resize is {resize}, less than the crop of {crop}: write --resize {default_resize(crop)}")
    scale = v2.Resize(resize, interpolation=INTERPOLATIONS[interpolation], antialias=True)
    return v2.Compose([scale, v2.CenterCrop(crop)])


def default_resize(crop: int) -> int:
    """The shorter side that a crop is usually taken from: 256 for 224, and others in proportion."""
    return round(crop * 256 / 224)


def find_classes(root: Path) -> list[str]:
    """The names of the class folders of a folder, sorted.

    Raises FileNotFoundError or ValueError, naming the folder, when there are none or when they stand one level deeper.
    """
    if not root.is_dir():
        raise MissingFileError(
            f"{root}: there is no such folder; name one that holds a folder of pictures for each class"
        )
    classes = sorted(path.name for path in root.iterdir() if path.is_dir())
    if "val" in classes and any(path.is_dir() for path in (root / "val").iterdir()):
        raise UserError(f"{root} holds no class folders but {root / 'val'}, which does; name {root / 'val'}")
    if not classes:
        raise UserError(
            f"{root} holds no class folders; sort its pictures into one folder per class, e.g. {root / 'cat' / '1.jpg'}"
        )
    return classes


def open_train_and_val(
    data: Path, crop: int, seed: int, unlabelled: Sequence[str | Path] = ()
) -> tuple[ImageFolder, ImageFolder]:
    """The pictures of data/train, cropped at random, and of data/val, cropped in the middle; crop x crop pixels.

    unlabelled: folders whose pictures, in any depth, join those of data/train without a label.
    Raises OSError or ValueError naming folder and remedy when one is missing, they have not the same classes, or there
    is nothing to tell apart.
    """
    for part in ("train", "val"):
        if not (data / part).is_dir():
            raise MissingFileError(
                f"{data / part}: there is no such folder; --data must hold train/ and val/, each with one folder of "
                "pictures per class"
            )
    val_set = ImageFolder(data / "val", eval_transform(crop, default_resize(crop)))
    train_set = ImageFolder(data / "train", train_transform(crop), seed, unlabelled)
    check_same_folders(train_set, val_set)
    if len(train_set.classes) < 2:
        raise UserError(f"{data / 'train'} has a single class folder; there is nothing to tell apart")
    say_shared(train_set, val_set)
    return train_set, val_set


def say_shared(train_set: ImageFolder, val_set: ImageFolder) -> None:
    """Warn of pictures that an unlabelled folder shares with val/, with train/ or with another one of them.

    Where the pictures lie is forgotten then.
    """
    labelled, *others = train_set.files
    for i, found in enumerate(others):
        folder = train_set.homes[i + 1]
        if found.meet(val_set.files[0]):
            log.warning("--unlabelled %s shares pictures with %s, which measure the training", folder, val_set.root)
        earlier = [labelled, *others[:i]]
        for home in (train_set.homes[k] for k, other in enumerate(earlier) if found.meet(other)):
            log.warning("--unlabelled %s holds pictures of %s, which are seen more than once an epoch", folder, home)
    train_set.files = val_set.files = []


def check_same_folders(first: ImageFolder, other: ImageFolder) -> None:
    """Raise ValueError when two folders have not the same classes, and so would mix labels."""
    if first.classes == other.classes:
        return
    missing = {a.root: sorted({*b.classes} - {*a.classes}) for a, b in ((first, other), (other, first))}
    named = "; ".join(f"{root} has no folder {names[0]!r}" for root, names in missing.items() if names)
    raise UserError(
        f"{first.root} has {len(first.classes)} class folders, {other.root} has {len(other.classes)}: {named}. "
        "Both need the same ones"
    )


def read_picture(path: Path) -> Image.Image:
    """The picture as RGB, as torchvision's ImageFolder reads it: by Pillow, and not turned by an EXIF tag.

    Raises ValueError naming the file when it is missing, damaged or no picture.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            if max(width, height) <= MAX_RATIO * min(width, height):
                return image.convert("RGB")
    except UnidentifiedImageError:
        raise UserError(f"{path}: the file is empty or no picture; fetch it again or delete it") from None
    except Exception as error:  # Pillow's decoders raise errors of many kinds
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: the picture cannot be read ({reason}); fetch it again or delete it") from None
    raise UserError(
        f"{path}: {width} x {height} pixels, longer than {MAX_RATIO}:1, are no picture to classify; delete it"
    )


def find_unlabelled(root: Path) -> Files:
    """The pictures of a folder as `loose_files` finds them.

    Raises OSError or ValueError when there is no such folder, or no picture.
    """
    if not root.is_dir():
        raise MissingFileError(f"--unlabelled {root}: there is no such folder; name one that holds pictures")
    found = loose_files(str(root))
    if not found.names:
        raise UserError(f"--unlabelled {root}: this folder holds no picture ({', '.join(IMG_EXTENSIONS)})")
    return found


class _Caught(Dataset):
    """A dataset whose unreadable pictures are items: a raised error would reach the user with a worker's traceback."""

    def __init__(self, dataset: ImageFolder) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | Draw) -> tuple[np.ndarray, int] | str:
        try:
            return self.dataset[key]
        except UserError as error:
            return str(error)


def _collate(items: list[tuple[np.ndarray, int] | str]) -> LabelledImages | str:
    images, labels = [], []
    for item in items:
        if isinstance(item, str):
            return item
        images.append(item[0])
        labels.append(item[1])
    return LabelledImages(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.tensor(labels))
