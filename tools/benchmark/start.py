"""What the look at the pictures costs before the first step: the first time, and when nothing has changed since.

Writes pictures of noise into a folder of its own, which it deletes, and starts a small training on them up to its first
batch: without the look, with it, and again. Prints seconds, and each as a share of the start without.
"""

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import cv2
import msgspec
import numpy as np
from yacs.config import CfgNode

from detector.config import load_config
from detector.data.check import check_training
from detector.tasks import detection
from detector.tasks.detection import DetectionTask, start

HEIGHT, WIDTH = 120, 160  # pixels
KINDS = 50  # different pictures; the others are copies of their bytes


def main(argv: Sequence[str] | None = None) -> None:
    """`[--pictures 20000] [--rounds 3]`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=20_000, metavar="N", help="of the folder")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of each measurement; the shortest counts")
    args = parser.parse_args(argv)
    logging.getLogger("detector").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, DETECTOR_CACHE=f"{folder}/cache"):
        cfg = settings(write_pictures(Path(folder), args.pictures), folder)
        for name, seconds in measure(cfg, Path(folder), args.rounds).items():
            print(f"{name:<28}  {seconds}")


def measure(cfg: CfgNode, folder: Path, rounds: int) -> dict[str, str]:
    """Name -> seconds, with the share where there is one, of the shortest of some rounds."""
    task = DetectionTask.from_config(cfg)

    def forget() -> None:
        for path in (folder / "cache").rglob("*.bin"):
            path.unlink()

    def look() -> None:
        check_training(task.train_set, task.tests, "stop")

    def begin(looks: bool) -> None:
        passed = check_training if looks else (lambda train, tests, broken: (train, dict(tests)))
        with mock.patch.object(detection, "check_training", passed):
            new = DetectionTask.from_config(cfg)
        start(new, folder / "output")
        next(iter(new.batches(0, 1)))

    bare = shortest(lambda: begin(False), rounds)
    first, again = shortest(look, rounds, forget), shortest(look, rounds)
    whole_first, whole_again = shortest(lambda: begin(True), rounds, forget), shortest(lambda: begin(True), rounds)
    return {
        "pictures": f"{len(task.train_set):,}",
        "the look, first time": f"{first:.2f} s",
        "the look, from then on": f"{again:.2f} s",
        "start to batch, no look": f"{bare:.2f} s",
        "start to batch, first time": f"{whole_first:.2f} s, {whole_first / bare:.2f} of that without",
        "start to batch, from then on": f"{whole_again:.2f} s, {whole_again / bare:.2f} of that without",
    }


def shortest(action: Callable[[], object], rounds: int, before: Callable[[], object] = lambda: None) -> float:
    """Seconds of the fastest of some rounds; before: what is done ahead of each and not measured."""
    times = []
    for _ in range(rounds):
        before()
        begun = time.perf_counter()
        action()
        times.append(time.perf_counter() - begun)
    return min(times)


def settings(entry: str, folder: str) -> CfgNode:
    """The quickstart's network on these pictures, tested on none."""
    opts = ["DATASETS.TRAIN", entry, "DATASETS.TEST", "()", "DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu"]
    return load_config("quickstart", [*opts, "MODEL.NUM_CLASSES", "1", "OUTPUT_DIR", f"{folder}/output"])


def write_pictures(folder: Path, number: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> str:
    """JPEG files of `size` (height, width) with a box each, and their annotations; the entry for DATASETS.TRAIN."""
    height, width = size
    rng = np.random.default_rng(0)
    home = folder / "pictures"
    home.mkdir()
    noise = [rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8) for _ in range(min(KINDS, number))]
    kinds = [cv2.imencode(".jpg", cv2.resize(one, (width, height)))[1].tobytes() for one in noise]
    for i in range(number):
        (home / f"{i:08d}.jpg").write_bytes(kinds[i % len(kinds)])
    images = [{"id": i, "file_name": f"{i:08d}.jpg", "height": height, "width": width} for i in range(number)]
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [20, 20, 50, 60]} for i in range(number)]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "thing"}]}
    path = folder / "annotations.json"
    path.write_bytes(msgspec.json.encode(content))
    return f"{home}:{path}"


if __name__ == "__main__":
    main()
