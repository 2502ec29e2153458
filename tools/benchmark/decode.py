"""Picture file to network input on one core: ours against the path of torchvision's reference models.

Both read the same pictures and resize them to the usual 800 / 1333 pixels. Ours: OpenCV, 8 bits throughout, as
detector.data does. torchvision's: Pillow, a float32 tensor, and the model's transform, which normalises and resizes.
Rounds alternate; prints pictures a second of the median round and the median of the ratios of neighbours.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from detector.data.images import read_rgb
from detector.data.transforms import Compose, Resize, Sample

SUFFIXES = {".jpg", ".jpeg", ".png"}


def main(argv: Sequence[str] | None = None) -> None:
    """`[FOLDER] [--pictures 160] [--size 800] [--max-size 1333] [--rounds 5]`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="of pictures; without it some of noise are drawn")
    parser.add_argument("--pictures", type=int, default=160, metavar="N", help="at most")
    parser.add_argument("--size", type=int, default=800, metavar="PIXELS", help="of the shorter side")
    parser.add_argument("--max-size", type=int, default=1333, metavar="PIXELS", help="of the longer side, at most")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as drawn:
        folder = args.folder or draw(Path(drawn), args.pictures)
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)[: args.pictures]
        if not paths:
            raise SystemExit(f"{folder}: there are no pictures ({', '.join(sorted(SUFFIXES))})")
        paths_of = {"ours": ours(args.size, args.max_size), "torchvision": theirs(args.size, args.max_size)}
        seconds: dict[str, list[float]] = {name: [] for name in paths_of}
        for _ in range(args.rounds):
            for name, read in paths_of.items():
                seconds[name].append(timed(read, paths))
    for name, times in seconds.items():
        print(f"{name:<12}{len(paths) / statistics.median(times):8.1f} pictures/s")
    ratios = sorted(b / a for a, b in zip(seconds["ours"], seconds["torchvision"], strict=True))
    print(f"ratio       {statistics.median(ratios):8.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def ours(size: int, max_size: int) -> Callable[[Path], torch.Tensor]:
    """File -> uint8 [3, H, W], as a data set gives it."""
    transforms = Compose([Resize((size,), max_size)])
    rng = np.random.default_rng(0)
    none = Sample(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros((0, 4), np.float32))

    def read(path: Path) -> torch.Tensor:
        with Image.open(path) as image:  # the size of its record
            width, height = image.size
        return torch.from_numpy(transforms(read_rgb(path, (height, width)), none, rng)[0]).permute(2, 0, 1)

    return read


def theirs(size: int, max_size: int) -> Callable[[Path], torch.Tensor]:
    """File -> float32 [3, H, W]: a data set's Pillow image, the reference transforms, the model's own resizing."""
    convert = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])
    model = GeneralizedRCNNTransform(size, max_size, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])

    @torch.no_grad()
    def read(path: Path) -> torch.Tensor:
        with Image.open(path) as image:
            tensor = convert(image.convert("RGB"))
        return model.resize(model.normalize(tensor))[0]

    return read


def timed(read: Callable[[Path], object], paths: Sequence[Path]) -> float:
    """Seconds for all pictures."""
    begun = time.perf_counter()
    for path in paths:
        read(path)
    return time.perf_counter() - begun


def draw(folder: Path, number: int) -> Path:
    """JPEG files of smooth noise, 640 x 480 pixels."""
    rng = np.random.default_rng(0)
    for i in range(number):
        noise = cv2.resize(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), (640, 480))
        cv2.imwrite(str(folder / f"{i:04d}.jpg"), noise)
    return folder


if __name__ == "__main__":
    main()
