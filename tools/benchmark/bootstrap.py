"""What the intervals of a comparison cost: the paired bootstrap over the images of two models, on Linux.

The truth of evaluate.py, 5,000 images of 80 classes, and two models with 416,000 detections each: every replicate draws
the images anew and measures both, all classes, sizes and IoUs. In a process of its own on one core. Prints the seconds
of reading and matching, of the bootstrap with its jackknife, those of the processor for both, and the most memory that
the process took; ends with an error where a measure of all images is not the evaluator's.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from evaluate import peak, write

UNITS = {
    **{"reading": "s to read and match", "bootstrap": "s of bootstrap", "processor": "s of processor for both"},
    "memory": "MiB at most",
}


def main(argv: Sequence[str] | None = None) -> None:
    """`[--images 5000] [--detections 416000] [--replicates 1000]`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=5000, metavar="N")
    parser.add_argument("--detections", type=int, default=416_000, metavar="N", help="of all images, by each model")
    parser.add_argument("--replicates", type=int, default=1000, metavar="N")
    parser.add_argument("--only", metavar="FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.only:
        print(json.dumps(cost(Path(args.only), args.replicates)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), args.images, args.detections)
        write_other(Path(folder))
        command = [sys.executable, __file__, "--only", folder, "--replicates", str(args.replicates)]
        paths = [str(Path(__file__).parent), *sys.path]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"2 models, {args.images:,} images, {args.detections:,} detections each, {args.replicates:,} replicates")
    print("  ".join(f"{found[key]:.1f} {unit}" for key, unit in UNITS.items()))
    print(f"difference of AP {found['value']:+.4f} +- {found['se']:.4f}")


def cost(folder: Path, replicates: int) -> dict[str, float]:
    """Seconds of the parts, MiB, and the difference of AP with its standard error."""
    from detector.data.index import load_index
    from detector.evaluation.coco import value_of
    from detector.evaluation.precision import accumulate
    from detector.evaluation.report import MEASURES
    from detector.evaluation.results import read_results
    from detector.evaluation.significance import judge, less, resample, spread

    begun, started = time.perf_counter(), time.process_time()
    index = load_index(folder / "truth.json")
    found = [read_results(folder / name, index) for name in ("results.json", "other.json")]
    judged = [judge(index, one) for one in found]
    read = time.perf_counter()
    drawn = [resample(one, replicates) for one in judged]
    ap = spread(less(*drawn))[0]
    ended, used, memory = time.perf_counter(), time.process_time() - started, peak()
    exact = accumulate(judged[0].matching, index.labels, len(index.classes))
    for (name, measure), value in zip(MEASURES.items(), drawn[0].value.tolist(), strict=False):
        if not (abs(value - (number := value_of(exact, measure))) <= 1e-12 or (math.isnan(value) and number == -1)):
            raise SystemExit(f"{name} is {value} with every image once, and {number} by the evaluator")
    times = {"reading": read - begun, "bootstrap": ended - read, "processor": used}
    return {**times, "memory": memory, "value": ap.value, "se": ap.se}


def write_other(folder: Path) -> None:
    """other.json: a model whose boxes lie a little worse."""
    rng = np.random.default_rng(1)
    rows = json.loads((folder / "results.json").read_text())
    away = rng.normal(0, 0.02, (len(rows), 2))
    for row, (x, y) in zip(rows, away.tolist(), strict=True):
        left, top, width, height = row["bbox"]
        row["bbox"] = [left + x * width, top + y * height, width, height]
    (folder / "other.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
