"""What an annotation file costs: pycocotools' COCO(..), ours the first time, and ours from then on; on Linux.

Writes a file as large as COCO train2017's (118,287 images, 860,001 boxes with polygons) into a folder of its own, which
it deletes, and reads it in a process each, by turns. Prints processor seconds, wall seconds and peak memory, each also
as a share of pycocotools'. At the end, what the index takes in a process that goes through all its images with and
without loader workers: proportional set size, where shared pages count once.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset

from detector.data.catalog import Source
from detector.data.dataset import CocoDetection, sample_of
from detector.data.index import load_index
from detector.data.transforms import Compose

POINTS = 29  # of a polygon
KINDS = 2000  # different polygons
READERS = {
    "pycocotools": "from pycocotools.coco import COCO; COCO({path!r})",
    "ours, first time": "from detector.data.index import load_index; load_index({path!r})",
    "ours, from then on": "from detector.data.index import load_index; load_index({path!r})",
}

# Not the maximum that getrusage tells: it starts from that of the process that made this one.
PEAK = """
import re, time
print(time.process_time(), int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024)
"""


class Cost(NamedTuple):
    """Of a process: seconds of processor and wall, and its peak memory, MiB."""

    processor: float
    wall: float
    memory: float


def main(argv: Sequence[str] | None = None) -> None:
    """`[--images 118287] [--boxes 860001] [--no-polygons] [--rounds 3] [--no-peer] [--workers 4]`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=118_287, metavar="N")
    parser.add_argument("--boxes", type=int, default=860_001, metavar="N")
    parser.add_argument("--no-polygons", action="store_true", help="boxes alone, as Objects365 has them")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of all readers, the median counts")
    parser.add_argument("--no-peer", action="store_true", help="without pycocotools, which needs 4 KiB a box")
    parser.add_argument("--workers", type=int, default=4, metavar="N", help="of the loader at the end; 0: leave it out")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the file is written and deleted")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "annotations.json"
        write_annotations(path, args.images, args.boxes, not args.no_polygons)
        print(f"{args.images:,} images, {args.boxes:,} boxes, {path.stat().st_size / 1e6:.0f} MB")
        names = [name for name in READERS if not (args.no_peer and name == "pycocotools")]
        costs: dict[str, list[Cost]] = {name: [] for name in names}
        for _ in range(args.rounds):
            for name in names:
                if name == "ours, first time":
                    path.with_name(f".{path.name}.index").unlink(missing_ok=True)
                costs[name].append(cost(READERS[name].format(path=str(path)), folder))
        report({name: Cost(*map(statistics.median, zip(*some, strict=True))) for name, some in costs.items()})
        if args.workers:
            for workers in (0, args.workers):
                print(f"index in memory after an epoch, {workers} workers: {shared(path, workers):.0f} MiB")


def report(costs: dict[str, Cost]) -> None:
    """Print a line a reader; shares are of the first one's."""
    first = next(iter(costs.values()))
    for name, one in costs.items():
        shares = ", ".join(f"{a / b:.3f}" for a, b in zip(one, first, strict=True))
        print(f"{name:<20}{one.processor:8.2f} s processor{one.wall:8.2f} s wall{one.memory:8.0f} MiB peak   {shares}")


def cost(code: str, folder: str) -> Cost:
    """What a Python process of its own takes for some code, its start and imports included."""
    environment = {**os.environ, "DETECTOR_CACHE": f"{folder}/cache", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    begun = time.perf_counter()
    command = [sys.executable, "-c", f"{code}\n{PEAK}"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        said = child.communicate()[0]
    wall = time.perf_counter() - begun
    if child.returncode:
        raise SystemExit(f"{code} ended with status {child.returncode}")
    processor, memory = map(float, said.split()[-2:])
    return Cost(processor, wall, memory)


def shared(path: Path, workers: int) -> float:
    """MiB of the mapped index in this process and its loader's workers together, after an epoch over all images.

    Each page counts for each process with its share, as Linux tells it.
    """
    index = load_index(path)
    dataset = CocoDetection(Source("annotations", path.parent, index), Compose([]))
    with warnings.catch_warnings():  # of more workers than cores
        warnings.simplefilter("ignore", UserWarning)
        loader = DataLoader(Boxes(dataset), batch_size=64, num_workers=workers, persistent_workers=workers > 0)
        batches = iter(loader)
    total = sum(int(batch.sum()) for batch in batches)
    assert total == int(index.usable.sum())
    found = [os.getpid(), *(worker.pid for worker in getattr(batches, "_workers", []))]
    return sum(proportional(pid, str(index.mapped.path)) for pid in found) / 1024 if index.mapped else 0.0


class Boxes(Dataset[int]):
    """The number of boxes of each image of a data set, found as training finds the boxes."""

    def __init__(self, dataset: CocoDetection) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: int) -> int:
        sample = sample_of(self.dataset.index, item, difficult=False)
        return len(sample.boxes) + len(sample.ignore)


def proportional(pid: int, path: str) -> float:
    """KiB of a process's mappings of a file."""
    kib, inside = 0.0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            inside = line.endswith(path)
        elif inside and words[0] == "Pss:":
            kib += float(words[1])
    return kib


def write_annotations(path: Path, images: int, boxes: int, polygons: bool) -> None:
    """A file in COCO's format, spaced as COCO's are."""
    rng = np.random.default_rng(0)
    shapes = [json.dumps([rng.uniform(0, 600, 2 * POINTS).round(2).tolist()]) for _ in range(KINDS if polygons else 0)]
    with path.open("w") as file:
        file.write('{"info": {"year": 2017}, "licenses": [], "images": [')
        for part in joined(
            f'{{"license": 4,"file_name": "{i:012d}.jpg","coco_url": "http://images.example.org/train2017/{i:012d}.jpg",'
            f'"height": 480,"width": 640,"date_captured": "2013-11-14 16:28:13","id": {i}}}'
            for i in range(1, images + 1)
        ):
            file.write(part)
        file.write('],"annotations": [')
        image_ids = rng.integers(1, images + 1, boxes).tolist()
        numbers = rng.uniform(1, 240, (min(boxes, 100_000), 4)).round(2).tolist()
        for part in joined(record(i, image, numbers, shapes) for i, image in enumerate(image_ids, 1)):
            file.write(part)
        categories = [{"supercategory": "thing", "id": k, "name": f"class {k}"} for k in range(1, 81)]
        file.write(f'],"categories": {json.dumps(categories)}}}')


def record(i: int, image: int, numbers: list[list[float]], shapes: list[str]) -> str:
    """An annotation; i: its number, from 1."""
    box = numbers[i % len(numbers)]
    polygon = f'"segmentation": {shapes[i % KINDS]},"area": {box[2] * box[3]:.2f},' if shapes else ""
    return f'{{{polygon}"iscrowd": 0,"image_id": {image},"bbox": {box},"category_id": {i % 80 + 1},"id": {i}}}'


def joined(records: Iterator[str]) -> Iterator[str]:
    """Records with commas between them."""
    for number, record in enumerate(records):
        yield f", {record}" if number else record


if __name__ == "__main__":
    main()
