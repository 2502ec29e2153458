"""Many pictures through the predictor of `detector.load`: is memory flat, how many a second, how many cores are busy?

Pictures of 480 x 640, written as JPEG files here, are looked at again and again by a small FCOS of random weights, or
by a run. Beside it, in turns, a plain loop does the same: it reads a batch, then runs the network, in one thread.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np

from detector.config import load_config
from detector.console import hushed
from detector.data.images import read_rgb
from detector.data.pipeline import build_transforms
from detector.engine.device import peak_memory_mb, pick_device
from detector.inference.predictor import Predictor, TorchNetwork
from detector.inference.prepare import prepare_for_inference
from detector.models.build import build_detector, resolve_parts
from detector.tasks.predict import load

SMALL = ["MODEL.BACKBONE.NAME", "resnet10", "MODEL.NUM_CLASSES", "4", "MODEL.WEIGHT", ""]


def main(argv: Sequence[str] | None = None) -> None:
    """`[--run RUN] [--images 10000] [--batch 8] [--different 200] [--turns 3] [--smoke]`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", help="a run's folder or checkpoint, in place of the small detector")
    parser.add_argument("--images", type=int, default=10000, help="that are looked at")
    parser.add_argument("--different", type=int, default=200, help="files among them")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3, help="of the comparison with a plain loop, 200 images each")
    parser.add_argument("--smoke", action="store_true", help="few images")
    args = parser.parse_args(argv)
    with hushed():
        measure(args)


def measure(args: argparse.Namespace) -> None:
    """Print speeds, memory and cores."""
    images, different, compared = (40, 5, 10) if args.smoke else (args.images, args.different, 200)
    predictor = load(args.run, precision="off") if args.run else small()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, batches of {args.batch}")
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(Path(folder), different)
        for turn in range(args.turns):
            beside = list(islice(cycle(paths), compared))
            plain, threads = plain_loop(predictor, beside, args.batch), through(predictor, beside, args.batch)
            bare = network_alone(predictor, beside, args.batch)
            print(
                f"turn {turn + 1}: predictor {compared / threads:.1f} images/s, plain loop {compared / plain:.1f}: its "
                f"time is {threads / plain:.2f} of the loop's; the network alone {compared / bare:.1f}, of which the "
                f"predictor has {bare / threads:.0%}",
                flush=True,
            )
        flat(predictor, list(islice(cycle(paths), images)), args.batch)


def small() -> Predictor:
    """An FCOS of random weights at 160 / 224 on this machine's device."""
    cfg = resolve_parts(load_config("quickstart", SMALL))
    model = prepare_for_inference(build_detector(cfg).to(pick_device(cfg.MODEL.DEVICE)))
    names = ["triangle", "circle", "star", "square"]
    transform = build_transforms(cfg, train=False)
    return Predictor(TorchNetwork(model, names, [3, 7, 8, 20], [transform], cfg.DATALOADER.SIZE_DIVISIBILITY))


def write_pictures(folder: Path, number: int) -> list[Path]:
    """JPEG files of smooth colours and some noise, which take the time of photographs to decode."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(number):
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC)
        image = cv2.add(image, np.asarray(rng.integers(0, 24, image.shape, dtype=np.uint8)))
        paths.append(folder / f"{i:04}.jpg")
        cv2.imwrite(str(paths[-1]), image)
    return paths


def through(predictor: Predictor, paths: list[Path], batch: int) -> float:
    """Seconds that the predictor takes."""
    start = time.perf_counter()
    for _ in predictor(paths, batch=batch):
        pass
    return time.perf_counter() - start


def plain_loop(predictor: Predictor, paths: list[Path], batch: int) -> float:
    """Seconds of reading and detecting in turns."""
    start = time.perf_counter()
    for first in range(0, len(paths), batch):
        pictures = [read_rgb(path) for path in paths[first : first + batch]]
        prepared = [predictor.network.prepare(picture) for picture in pictures]
        predictor.network.detect(prepared, [(picture.shape[0], picture.shape[1]) for picture in pictures])
    return time.perf_counter() - start


def network_alone(predictor: Predictor, paths: list[Path], batch: int) -> float:
    """Seconds of detecting in pictures that are read and resized before."""
    pictures = [read_rgb(path) for path in paths[:batch]]
    prepared = [predictor.network.prepare(picture) for picture in pictures]
    sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
    start = time.perf_counter()
    for first in range(0, len(paths), batch):
        number = len(paths[first : first + batch])
        predictor.network.detect(prepared[:number], sizes[:number])
    return time.perf_counter() - start


def flat(predictor: Predictor, paths: list[Path], batch: int) -> None:
    """Print resident memory after each tenth, images a second and cores busy."""
    tenth = max(1, len(paths) // 10)
    start, busy = time.perf_counter(), time.process_time()
    print(f"{len(paths)} images; MiB resident after each tenth:", end="", flush=True)
    memory: list[float] = []
    for i, _ in enumerate(predictor(paths, batch=batch), 1):
        if i % tenth == 0:
            memory.append(resident_mb())
            print(f" {memory[-1]:.0f}", end="", flush=True)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    growth = memory[-1] - memory[0]
    print(f"\nfrom the first tenth to the last {growth:+.1f} MiB; peak {peak_memory_mb(pick_device('cpu')):.0f} MiB")
    print(f"{len(paths) / seconds:.1f} images/s, {busy / seconds:.2f} cores busy, load now {os.getloadavg()[0]:.1f}")


def resident_mb() -> float:
    """MiB of this process in memory now; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    return next(int(line.split()[1]) / 2**10 for line in status.read_text().splitlines() if line.startswith("VmRSS:"))


if __name__ == "__main__":
    main()
