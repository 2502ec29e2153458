"""What COCO's twelve numbers cost: pycocotools, and ours, on the same generated detections; on Linux.

5,000 images with 36,335 objects of 80 classes and 416,000 detections, as a detector gives them on COCO val2017. Each
evaluator collects them and computes in a process of its own, by turns. Prints processor seconds and peak memory beyond
what the process took before, and each as a share of pycocotools'; ends with an error where a number differs.
"""

import argparse
import contextlib
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np

CLASSES = 80
OBJECTS = 36_335 / 416_000  # for each detection


def main(argv: Sequence[str] | None = None) -> None:
    """`[--images 5000] [--detections 416000] [--rounds 3]`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=5000, metavar="N")
    parser.add_argument("--detections", type=int, default=416_000, metavar="N", help="of all images")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of both; the median counts")
    parser.add_argument("--only", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.only:
        name, folder = args.only
        print(json.dumps(EVALUATORS[name](Path(folder))))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), args.images, args.detections)
        costs: dict[str, list[dict[str, float]]] = {name: [] for name in EVALUATORS}
        for _ in range(args.rounds):
            for name in EVALUATORS:
                command = [sys.executable, __file__, "--only", name, folder]
                environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
                costs[name].append(json.loads(done.stdout.splitlines()[-1]))
    numbers = {name: [value for key, value in some[0].items() if key not in UNITS] for name, some in costs.items()}
    if not np.allclose(numbers["ours"], numbers["pycocotools"], rtol=0, atol=1e-12):
        raise SystemExit(f"the numbers differ: {numbers}")
    print(f"{args.images:,} images, {args.detections:,} detections; {len(numbers['ours'])} numbers are equal")
    medians = {
        name: {key: statistics.median(one[key] for one in some) for key in UNITS} for name, some in costs.items()
    }
    for name, median in medians.items():
        parts = [f"{median[key]:8.2f} {unit}" for key, unit in UNITS.items()]
        shares = [f"{median[key] / medians['pycocotools'][key]:.3f}" for key in UNITS]
        print(f"{name:<12}{'  '.join(parts)}   {', '.join(shares)}")


UNITS = {"seconds": "s processor", "memory": "MiB more"}


def pycocotools(folder: Path) -> dict[str, float]:
    """Pycocotools' cost and numbers."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth, results = COCO(str(folder / "truth.json")), json.loads((folder / "results.json").read_text())
        before, begun = peak(), time.process_time()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    cost = {"seconds": time.process_time() - begun, "memory": peak() - before}
    precision = evaluation.eval["precision"][..., 0, -1]
    classes = [float(one[one > -1].mean()) if (one > -1).any() else -1.0 for one in np.moveaxis(precision, 2, 0)]
    return {**cost, **{str(i): value for i, value in enumerate([*evaluation.stats.tolist(), *classes])}}


def ours(folder: Path) -> dict[str, float]:
    """Our cost and numbers."""
    import torch

    from detector.data.index import load_index
    from detector.evaluation.coco import CocoEvaluator

    torch.set_num_threads(1)
    index = load_index(folder / "truth.json")
    stored = np.load(folder / "results.npz")
    cuts = np.searchsorted(stored["image"], np.arange(1, len(index)))
    names = ("boxes", "labels", "scores")
    columns = [[torch.from_numpy(part) for part in np.split(stored[name], cuts)] for name in names]
    detections = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    before, begun = peak(), time.process_time()
    evaluator = CocoEvaluator(SimpleNamespace(index=index))
    for i, detection in enumerate(detections):
        evaluator.add([detection], [{"image_id": index.image_id(i)}])  # type: ignore[list-item, typeddict-item]
    numbers = evaluator.compute()
    return {"seconds": time.process_time() - begun, "memory": peak() - before, **numbers}


EVALUATORS = {"pycocotools": pycocotools, "ours": ours}


def peak() -> float:
    """The most memory that this process had, MiB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def write(folder: Path, images: int, detections: int) -> None:
    """truth.json; the same detections as results.json and, by image, in results.npz."""
    rng = np.random.default_rng(0)
    objects = int(detections * OBJECTS)
    image, labels = np.sort(rng.integers(0, images, objects)), rng.integers(0, CLASSES, objects) ** 2 // CLASSES
    xywh = boxes(rng, objects)
    area = xywh[:, 2:].prod(1) * rng.uniform(0.4, 1, objects)
    crowd = (rng.random(objects) < 0.012).astype(int)
    rows = zip(image.tolist(), labels.tolist(), xywh.tolist(), area.tolist(), crowd.tolist(), strict=True)
    truth = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 640, "width": 640} for i in range(images)],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(CLASSES)],
        "annotations": [
            {"id": n, "image_id": i, "category_id": k, "bbox": box, "area": size, "iscrowd": c}
            for n, (i, k, box, size, c) in enumerate(rows, 1)
        ],
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    near = rng.integers(0, objects, detections // 2)  # half of them lie about an object
    moved = xywh[near] + rng.normal(0, 0.12, (len(near), 4)) * xywh[near][:, [2, 3, 2, 3]]
    moved[:, 2:] = np.maximum(moved[:, 2:], 1)
    rest = detections - len(near)
    found = np.concatenate([moved, boxes(rng, rest)]).astype(np.float32)
    of_image = np.concatenate([image[near], rng.integers(0, images, rest)])
    order = np.argsort(of_image, kind="stable")
    label = np.concatenate([labels[near], rng.integers(0, CLASSES, rest)])[order]
    scores = rng.random(detections).round(3).astype(np.float32)
    corners = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], 1)[order]
    back = corners.astype(np.float64)
    back[:, 2:] -= back[:, :2]
    np.savez(folder / "results.npz", image=of_image[order], boxes=corners, labels=label, scores=scores)
    rows = zip(of_image[order].tolist(), label.tolist(), back.tolist(), scores.tolist(), strict=True)  # type: ignore[assignment]
    results = [{"image_id": i, "category_id": k, "bbox": box, "score": score} for i, k, box, score in rows]  # type: ignore[misc]
    (folder / "results.json").write_text(json.dumps(results))


def boxes(rng: np.random.Generator, number: int) -> np.ndarray:
    """[number, 4] xywh in a picture of 640 pixels a side."""
    return np.concatenate([rng.uniform(0, 340, (number, 2)), np.exp(rng.uniform(2, 5.7, (number, 2)))], 1)


if __name__ == "__main__":
    main()
