"""What a teacher is worth where labels are few: a student with it against the same student without, seed by seed.

The script draws a data set of textures, of whose training pictures nine tenths lose their labels. A teacher is trained
on all labels, once. Then, for each seed, a student learns from the tenth that is left, each picture ten times an epoch;
and the same student, from the same first weights, learns from the teacher on that tenth and on the pictures without
labels: as many pictures an epoch, as many steps, the same schedule. Prints top-1 of both; writes OUTPUT/distil.json
after every run. A script that was stopped goes on where it was.
"""

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detector.commands.base import run, tool_parser
from detector.errors import UserError
from detector.files import write_json
from detector.ops.soft_targets import DISTILL
from detector.tasks.classification import train_classifier
from detector.tasks.recipe import Recipe

log = logging.getLogger("detector")

SIDE = 48  # pixels of a picture
CROP = 32
KEPT = 10  # one picture in so many keeps its label
TESTED = 25  # pictures of each class to test on

Grid = np.ndarray
TEXTURES: dict[str, Callable[[Grid, Grid], Grid]] = {
    "bars": lambda y, x: np.sin(x) > 0,
    "checks": lambda y, x: np.sin(x) * np.sin(y) > 0,
    "dots": lambda y, x: np.cos(x) + np.cos(y) > 0.9,
    "grid": lambda y, x: (np.cos(x) > 0.75) | (np.cos(y) > 0.75),
    "rings": lambda y, x: np.sin(np.hypot(y - y.mean(), x - x.mean())) > 0,
    "steps": lambda y, x: np.sin(x + 3 * np.sign(np.sin(y))) > 0,
    "waves": lambda y, x: np.sin(x + 2 * np.sin(y)) > 0,
    "weave": lambda y, x: np.where(np.sin(x / 2) * np.sin(y / 2) > 0, np.sin(2 * x), np.sin(2 * y)) > 0,
}
"""Class -> where it is light, of coordinates in radians; each is its own mirror image."""


def main(argv: Sequence[str] | None = None) -> None:
    """`[--seeds 0,1,2] [--epochs 10] [--pictures 80] [--distill jeffreys] [--labels 0] [--output DIR]`."""
    parser = tool_parser((__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--seeds", default="0,1,2", metavar="SEED,..", help="of a student's weights, order of pictures and crops")
    add("--epochs", type=int, default=10, metavar="N", help="of every training")
    add("--pictures", type=int, default=80, metavar="N", help="of each class to train on, a multiple of 10")
    add("--distill", choices=DISTILL, default="jeffreys", help="the loss of the taught student")
    add("--temperature", type=float, default=1.0, metavar="T", help="likewise")
    add("--labels", type=float, default=0.0, metavar="SHARE", help="of the true labels in it")
    add("--backbone", default="resnet10", metavar="NAME", help="of teacher and student")
    add("--output", default="output/distil", metavar="DIR", help="where the data, the runs and distil.json go")
    run(lambda: compare(parser.parse_args(argv)))


def compare(args: argparse.Namespace) -> list[dict[str, Any]]:
    """All runs, printed and filed; returns a row for each seed."""
    if not all(seed.isdecimal() for seed in args.seeds.split(",")):
        raise UserError(f"--seeds {args.seeds}: write whole numbers with commas between them, e.g. 0,1,2")
    if args.pictures < KEPT or args.pictures % KEPT:
        raise UserError(f"--pictures is {args.pictures}; it must be a multiple of {KEPT}")
    output = Path(args.output).absolute()
    data = output / "data"
    if not (data / "done").exists():
        draw_data(data, args.pictures)
        (data / "done").touch()
    teacher = trained(args, data / "all", output / "teacher", 0)
    taught = {
        "teacher": args.backbone, "teacher_weight": str(output / "teacher" / "weights.pth"), "distill": args.distill,
        "temperature": args.temperature, "labels": args.labels, "unlabelled": (str(data / "unlabelled"),),
    }  # fmt: skip
    rows: list[dict[str, Any]] = []
    for seed in map(int, args.seeds.split(",")):
        alone = trained(args, data / "tenth", output / f"alone_{seed}", seed)
        with_teacher = trained(args, data / "few", output / f"taught_{seed}", seed, **taught)
        rows.append({"seed": seed, "alone": alone, "taught": with_teacher, "gain": with_teacher - alone})
        settings = {name: getattr(args, name) for name in ("epochs", "pictures", "distill", "temperature", "labels")}
        write_json(output / "distil.json", {**settings, "teacher": teacher, "runs": rows})
        log.info("%s", table(rows, teacher))
    print(table(rows, teacher))
    return rows


def trained(args: argparse.Namespace, data: Path, folder: Path, seed: int, **more: Any) -> float:  # noqa: ANN401
    """Top-1, per cent, after the last epoch of a training, which goes on where it was stopped."""
    recipe = Recipe(
        backbone=args.backbone, data=str(data), output=str(folder), epochs=args.epochs, batch_size=32, crop=CROP,
        lr=0.05, label_smoothing=0.0, seed=seed, workers=0, device="cpu", **more,
    )  # fmt: skip
    result = folder / "top1.json"
    if not result.exists():
        write_json(result, {"top1": train_classifier(recipe, resume=folder.exists())["top1"]})
    return json.loads(result.read_text())["top1"]


def draw_data(root: Path, pictures: int) -> None:
    """all/: every picture with its label; tenth/: a tenth, each ten times; few/: a tenth; unlabelled/: the others."""
    rng = np.random.default_rng(0)
    for name, texture in TEXTURES.items():
        for i in range(pictures):
            content = draw(texture, rng)
            write(root / "all" / "train" / name / f"{i}.png", content)
            if i % KEPT:
                write(root / "unlabelled" / f"{i % 7}" / f"{rng.integers(2**60)}.png", content)
                continue
            write(root / "few" / "train" / name / f"{i}.png", content)
            for j in range(KEPT):
                write(root / "tenth" / "train" / name / f"{i}_{j}.png", content)
        for i in range(TESTED):
            content = draw(texture, rng)
            for split in ("all", "tenth", "few"):
                write(root / split / "val" / name / f"{i}.png", content)


def draw(texture: Callable[[Grid, Grid], Grid], rng: np.random.Generator) -> np.ndarray:
    """A picture of a texture, uint8 [SIDE, SIDE, 3]: any scale, phase, slant and two colours, in noise."""
    y, x = np.indices((SIDE, SIDE)) * (2 * np.pi / rng.uniform(7, 14))
    slant = rng.uniform(-0.4, 0.4)
    y, x = y * np.cos(slant) - x * np.sin(slant), y * np.sin(slant) + x * np.cos(slant)
    light = texture(y + rng.uniform(0, 6), x + rng.uniform(0, 6))[..., None]
    dark, bright = rng.uniform(40, 130, 3), rng.uniform(120, 215, 3)
    noise = rng.normal(0, rng.uniform(10, 40), (SIDE, SIDE, 3))
    return (np.where(light, bright, dark) + noise).clip(0, 255).astype(np.uint8)


def write(path: Path, image: np.ndarray) -> None:
    """A picture and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


def table(rows: list[dict[str, Any]], teacher: float) -> str:
    """Top-1 of both students in columns, and in how many seeds the teacher helped."""
    lines = [f"top-1 in per cent; the teacher has {teacher:.1f}", f"{'seed':>4} {'alone':>6} {'taught':>7} {'gain':>6}"]
    lines += [f"{r['seed']:>4} {r['alone']:>6.1f} {r['taught']:>7.1f} {r['gain']:>+6.1f}" for r in rows]
    won = sum(r["gain"] > 0 for r in rows)
    return "\n".join([*lines, f"a gain in {won} of {len(rows)} seeds"])


if __name__ == "__main__":
    main()
