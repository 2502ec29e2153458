"""Seconds an image of our FCOS and Faster R-CNN against torchvision's: the same weights and image, in turns.

Ours in torch, onnxruntime and OpenVINO, in float32, bf16 and int8, against torchvision in float32, as most run it, and
at its best (bf16 autocast, channels_last); beside them torchvision's ONNX export and mayaku's Faster R-CNN. Each has a
process of its own. Then what the steps to our fastest form in torch give, and how far the detections move.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from infer_runtimes import FORMS, Contest, Process, available, ours, prepare
from infer_steps import print_steps
from peers import PAIRS, share
from torchvision.ops import box_iou
from tqdm import tqdm

from detector.inference.export.facts import second_path
from detector.structures import Detection

GOALS = {
    ("fcos", "fp32"): ("torchvision fp32", 0.66),
    ("fcos", "bf16"): ("torchvision best", 0.60),
    ("fcos", "int8"): ("torchvision best", 0.44),
    ("faster_rcnn", "fp32"): ("torchvision fp32", 0.55),
    ("faster_rcnn", "bf16"): ("torchvision best", 0.34),
    ("faster_rcnn", "int8"): ("torchvision best", 0.27),
}
"""Head and precision of our fastest form: whose time it is measured by, and the share of it that it may take."""


def main(argv: Sequence[str] | None = None) -> None:
    """`[--heads HEAD ...] [--size H W] [--rounds N] [--only FORM ...] [--files FOLDER] [--no-steps] [--compile]`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--heads", nargs="+", choices=("fcos", "faster_rcnn"), default=("fcos", "faster_rcnn"))
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("H", "W"), help="of the image")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="+", choices=tuple(FORMS), help="some forms instead of all that can be run")
    parser.add_argument("--files", type=Path, help="folder for the exported files, which are used again")
    parser.add_argument("--prepare", action="store_true", help="only write the files")
    parser.add_argument("--no-steps", action="store_true", help="without the steps in torch")
    parser.add_argument(
        "--compile", action="store_true", help="also with the backbone by torch.compile (half a minute)"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(argv)
    device, (height, width) = torch.device(args.device), args.size
    threads = torch.get_num_threads()
    print(f"torch {torch.__version__}, {device}, {threads} threads, 1 x 3 x {height} x {width}", flush=True)
    with TemporaryDirectory() as folder:
        for head in args.heads:
            contest = Contest(head, args.files or Path(folder), (height, width), device, threads)
            contest.folder.mkdir(parents=True, exist_ok=True)
            names = [name for name in available(head, device, args.compile) if args.only is None or name in args.only]
            prepare(contest, names)
            if args.prepare:
                continue
            compare(contest, names, args.rounds)
            if not args.no_steps:
                model = ours(contest).to(device)
                print_steps(head, model, contest.image(), contest.size, args.rounds, device)


def compare(contest: Contest, names: Sequence[str], rounds: int) -> None:
    """Print everything about one head but the steps."""
    processes = start(contest, names)
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    for i in tqdm(range(rounds), unit="round", leave=False):
        for name in list(processes) if i % 2 else list(processes)[::-1]:
            seconds[name].append(processes[name].turn())
    peaks = {name: process.end() for name, process in processes.items()}
    found = {name: process.found for name, process in processes.items()}
    print(
        f"\n{contest.head}: " + ", ".join(f"{name} {len(one['scores'])}" for name, one in found.items()) + " detections"
    )
    macs = max((process.macs for process in processes.values()), default=0.0)
    print(f"                        seconds   MiB peak   MB file   of torchvision's {macs / 1e9:.1f} GMAC a second")
    for name, spent in seconds.items():
        middle = statistics.median(spent)
        rate = f"{macs / 1e9 / middle:8.0f}" if macs else ""
        print(f"  {name:<20}{middle:9.4f}{peaks[name]:11.0f}{size_of(contest, name):>10}{rate}")
    if "ours fp32" in found:
        for name in (name for name in found if name != "ours fp32"):
            print(f"  {name} to ours fp32: {moved(found['ours fp32'], found[name])}")
    for mine, other, words in PAIRS:
        if mine in seconds and other in seconds:
            print(f"  {words}: {share(seconds, mine, other)} of torchvision's time")
    for peer in ("mayaku fp32", "mayaku bf16", "torchvision onnx"):
        other = "torchvision best" if peer == "mayaku bf16" else "torchvision fp32"
        if peer in seconds and other in seconds:
            print(f"  {peer}: {share(seconds, peer, other)} of {other}'s time")
    print_goals(contest.head, seconds)


def start(contest: Contest, names: Sequence[str]) -> dict[str, Process]:
    """The contestants, one after the other; those that cannot run are told."""
    processes = {}
    for name in tqdm(names, unit="form", leave=False):
        try:
            processes[name] = Process(name, contest)
        except RuntimeError as error:
            print(f"  {name}: not run, {error}")
    return processes


def print_goals(head: str, seconds: Mapping[str, list[float]]) -> None:
    """Our fastest form in each precision as a share of torchvision's time, and its goal."""
    for (which, precision), (peer, goal) in GOALS.items():
        forms = [name for name in seconds if FORMS[name].precision == precision]
        if which != head or peer not in seconds or not forms:
            continue
        for name in sorted(forms, key=lambda one: statistics.median(seconds[one])):
            part = share(seconds, name, peer)
            first = name == min(forms, key=lambda one: statistics.median(seconds[one]))
            verdict = f": goal {goal:.2f} {'reached' if float(part.split()[0]) <= goal else 'missed'}" if first else ""
            print(f"  {precision}, {name}: {part} of {peer}'s time{verdict}")


def size_of(contest: Contest, name: str) -> str:
    """MB of a form's file, or both, their weights included."""
    if not FORMS[name].file:
        return ""
    path = contest.file(FORMS[name].file)
    parts = [path, second_path(path)]
    if path.suffix == ".xml":
        parts += [part.with_suffix(".bin") for part in parts]
    return f"{sum(part.stat().st_size for part in parts if part.exists()) / 1e6:.1f}"


def moved(reference: Detection, other: Detection) -> str:
    """How the detections of the reference are found again: share, IoU, difference of the scores."""
    if not len(reference["scores"]) or not len(other["scores"]):
        return "no detections"
    iou = box_iou(reference["boxes"].float(), other["boxes"].float())
    iou = iou * (reference["labels"][:, None] == other["labels"][None])
    best, place = iou.max(1)
    again = best > 0.5
    change = (reference["scores"] - other["scores"][place])[again].abs()
    return f"{again.float().mean():.0%} found again, IoU {best[again].mean():.4f}, scores differ by {change.mean():.1e}"


if __name__ == "__main__":
    main()
