"""One table of a GPU: our detectors and torchvision's at 800x1333, batch 2 in training and 1 in prediction.

Images a second and peak memory of FCOS, Faster R-CNN and RefineDet in float32, fp16 and bf16, on three backbones, with
activations computed again and in the other memory format; where a training step waits for the GPU, and whether a
training waits for its pictures; then what was to be reached and whether it was. Cells stand in order of worth, a cell
measures for at most 8 seconds, one that fails is written down and the next one runs, and after 7 minutes those that are
left are named. Writes OUTPUT/gpu.md and OUTPUT/gpu.json after every cell.
"""

import argparse
import gc
import logging
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import torchvision
from gpu_cells import PAIRED, PREDICTED, TRAINED, Bench, Cell, all_cells
from tqdm import tqdm

from detector import __version__
from detector.commands.base import output_folder, plain_parser, run
from detector.engine.device import device_name, pick_device
from detector.errors import UserError
from detector.files import write_atomic, write_json

LIMIT = 420.0  # seconds after which no further cell is begun
MEMORY = 8e9  # bytes: of a card of 8 GiB about half a GiB is taken before the first tensor
WAITS = 3  # times that a training step of FCOS may wait for the device
FASTER = {"train": (1.0, 1.5), "infer": (1.2, 2.0)}  # images a second over torchvision's: float32, best to best

Row = dict[str, Any]
"""What a cell is, and its numbers or its error."""


def main(argv: Sequence[str] | None = None) -> None:
    """`[--output output/gpu] [--only TEXT] [--smoke]`."""
    parser = plain_parser((__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--output", default="output/gpu", metavar="DIR", help="where gpu.md and gpu.json go")
    add("--only", default="", metavar="TEXT", help="cells in whose names all these words are")
    add("--limit", type=float, default=LIMIT, metavar="S", help="seconds after which no further cell is begun")
    add("--smoke", action="store_true", help="the same cells once each on small images, on the CPU: for tests")
    run(lambda: measure(parser.parse_args(argv)))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Everything, printed and filed; returns what is filed."""
    logging.getLogger("detector").setLevel(logging.ERROR)
    device = pick_device("cpu" if args.smoke else "auto")
    if device.type != "cuda" and not args.smoke:
        raise UserError(f"torch {torch.__version__} sees no CUDA device; --smoke runs the same, smaller, on the CPU")
    cells = [cell for cell in all_cells() if all(word in cell.name.split() for word in args.only.split())]
    if not cells:
        raise UserError(f"--only {args.only}: no cell has these words; all: {', '.join(c.name for c in all_cells())}")
    output = output_folder(Path(args.output))
    size = (64, 96) if args.smoke else (800, 1333)
    bench = Bench(device, size, repeats=1) if args.smoke else Bench(device, size)
    facts = {
        "device": describe(device),
        "size": size,
        "train_batch": TRAINED,
        "infer_batch": PREDICTED,
        "smoke": args.smoke,
    }
    content: dict[str, Any] = {}

    def file(rows: list[Row], left: list[str]) -> None:
        content.update(facts, cells=rows, goals=goals(rows), left_out=left)
        write_json(output / "gpu.json", content)
        write_atomic(output / "gpu.md", markdown(content).encode())

    run_cells(cells, bench.measure, args.limit, file)
    print(markdown(content))
    print(f"{output / 'gpu.md'} and {output / 'gpu.json'} are written")
    return content


def run_cells(
    cells: Sequence[Cell],
    action: Callable[[Cell], Mapping[str, Any]],
    limit: float,
    file: Callable[[list[Row], list[str]], object],
) -> None:
    """Measure cell by cell while there is time; file: takes the rows so far and the names of what is not measured.

    A cell that fails, whatever the reason, has its error in its row: the other numbers are worth having without it.
    """
    rows: list[Row] = []
    begun = time.perf_counter()
    file(rows, [cell.name for cell in cells])
    for i, cell in enumerate(tqdm(cells, unit="cell", leave=False, dynamic_ncols=True)):
        if time.perf_counter() - begun > limit:
            return
        row: Row = {"cell": cell.name, **asdict(cell)}
        start = time.perf_counter()
        try:
            row.update(action(cell))
        except Exception as error:
            row["error"] = " ".join(f"{type(error).__name__}: {error}".split())
        # Only here, since the error held what was alive in the cell.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        rows.append({**row, "spent_s": time.perf_counter() - start})
        file(rows, [cell.name for cell in cells[i + 1 :]])


def describe(device: torch.device) -> dict[str, Any]:
    """The device, its driver, the versions and the time."""
    facts: dict[str, Any] = {"name": device_name(device)}
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        facts |= {
            "memory_mb": card.total_memory / 2**20,
            "capability": f"{card.major}.{card.minor}",
            "driver": driver(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "tf32_convolutions": torch.backends.cudnn.allow_tf32,
            "tf32_products": torch.backends.cuda.matmul.allow_tf32,
        }
    return {
        **facts,
        "detector": __version__,
        "torch": str(torch.__version__),
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def driver() -> str:
    """The version of the driver as its own tool says it; "unknown" without the tool."""
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return said[0] if said else "unknown"


def goals(rows: Sequence[Row]) -> list[Row]:
    """What was to be reached: words, the limit, the number, and whether it is met (None: not measured)."""

    def find(who: str, head: str, work: str, *precisions: str) -> list[Row]:
        wanted = {"who": who, "head": head, "work": work, "backbone": "resnet50", "checkpoint": False}
        some = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
        best = [row for row in some if row["channels_last"] == (who == "ours" or row["precision"] != "off")]
        return [row for row in best if row["precision"] in precisions and "error" not in row]

    def goal(words: str, limit: float, value: float | None, *, least: bool) -> Row:
        met = None if value is None else value >= limit if least else value <= limit
        return {"goal": words, "limit": limit, "value": value, "met": met}

    found = []
    for head in ("fcos", "faster_rcnn", "refinedet"):
        peaks = [row["peak_memory_mb"] for row in find("ours", head, "train", "off") if row["peak_memory_mb"]]
        peak = peaks[0] * 2**20 / 1e9 if peaks else None
        found.append(goal(f"{head} fp32 train: GB at most", MEMORY / 1e9, peak, least=False))
    for work, limits in FASTER.items():
        for head in PAIRED:
            for words, precisions, limit in zip(
                ("fp32", "best to best"), (("off",), ("off", "fp16", "bf16")), limits, strict=True
            ):
                ours, theirs = (
                    max((row["images_per_s"] for row in find(who, head, work, *precisions)), default=0.0)
                    for who in ("ours", "torchvision")
                )
                ratio = ours / theirs if ours and theirs else None
                found.append(goal(f"{head} {work} {words}: images/s over torchvision's", limit, ratio, least=True))
    waits = [row["waits"] for row in find("ours", "fcos", "waits", "fp16")]
    found.append(goal("fcos: waits for the device a step", WAITS, waits[0] if waits else None, least=False))
    return found


def markdown(content: Mapping[str, Any]) -> str:
    """The table, the waits, the goals and what is left out, as text for a page."""
    facts, (height, width) = content["device"], content["size"]
    lines = [
        f"# {facts['name']}",
        "",
        *(["A trial of the command on the CPU: these numbers mean nothing.", ""] if content["smoke"] else []),
        f"{height}x{width}, batch {content['train_batch']} in training and {content['infer_batch']} in prediction. "
        + ", ".join(f"{key} {value}" for key, value in facts.items() if key != "name"),
        "",
        "| cell | images/s | ms | peak MiB | |",
        "|---|---|---|---|---|",
        *(table_row(row) for row in content["cells"] if row["work"] != "waits" or "error" in row),
        "",
    ]
    for row in content["cells"]:
        if "places" not in row:
            continue
        share = "" if row["share_waited"] is None else f", {row['share_waited']:.0%} of its time"
        lines += [f"{row['head']}: a training step waits {row['waits']} times for the device{share}", ""]
        lines += [f"- {count} x `{place}`" for place, count in row["places"].items()] + [""]
    lines += ["| goal | limit | measured | |", "|---|---|---|---|"]
    words = {True: "met", False: "not met", None: "not measured"}
    for goal in content["goals"]:
        value = "" if goal["value"] is None else f"{goal['value']:.2f}"
        lines.append(f"| {goal['goal']} | {goal['limit']:g} | {value} | {words[goal['met']]} |")
    if content["left_out"]:
        lines += ["", f"Left out for want of time: {'; '.join(content['left_out'])}."]
    return "\n".join(lines) + "\n"


def table_row(row: Row) -> str:
    """A line of the table."""
    if "error" in row:
        return f"| {row['cell']} | | | | {row['error'].replace('|', '/')[:300]} |"
    note = ""
    if row["work"] == "data":
        note = f"{row['steps_that_wait']} of {row['steps']} steps wait for data, {row['share_waited']:.0%} of the time"
    each = f"{row['run_s'] * 1000:.1f}" if "run_s" in row else ""
    peak = f"{row['peak_memory_mb']:.0f}" if row.get("peak_memory_mb") else ""
    return f"| {row['cell']} | {row['images_per_s']:.2f} | {each} | {peak} | {note} |"


if __name__ == "__main__":
    main()
