"""Measure top-1 and top-5 accuracy of a backbone's classification network on a folder of pictures."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detector.commands.base import AMP, CLASSIFIER_FLAGS, add_workers, expanded, run, tool_parser
from detector.commands.output import STANDARD, text_place, write_text
from detector.errors import UserError
from detector.files import json_text
from detector.plugins import load_plugins
from detector.text import agreeing, counted

EXAMPLE = "detector classify --backbone resnet50 --data imagenet/val"

INTERPOLATIONS = ("bilinear", "bicubic")
"""The names of `detector.data.image_folder.INTERPOLATIONS`, which needs torch."""


def main(argv: Sequence[str] | None = None) -> None:
    """`--backbone NAME --data DIR [--weight imagenet|PATH|ADDRESS] [flags]`."""
    args = build_parser().parse_args(argv)
    run(lambda: begin(vars(args)), CLASSIFIER_FLAGS, log=args.json != STANDARD)


def build_parser() -> argparse.ArgumentParser:
    """The flags, most of them arguments of the measurement."""
    parser = tool_parser(__doc__, "classify", EXAMPLE)
    add = parser.add_argument
    add("--backbone", required=True, metavar="NAME", help="a registered backbone, e.g. resnet50")
    add(
        "--data",
        type=expanded,
        required=True,
        metavar="DIR",
        help="DIR/class_name/*.jpg, e.g. ImageNet's val; sorted names = labels",
    )
    add("--weight", default="imagenet", metavar="FILE", help="imagenet (the published file), a path or an address")
    add("--norm", default="frozen_bn", choices=("frozen_bn", "bn", "gn"), help="frozen_bn has the published file's eps")
    add("--passes", type=int, default=0, metavar="N", help="runs of each stage; 0: as trained or registered")
    add(
        "--crop", type=int, default=0, metavar="PIXELS",
        help="side of the central crop; 0: as trained, or as published: 224; 256, 320, 416 for resnest101, 200, 269 "
        "and 288 (of --resize 303) for timm's SE nets, all with --interpolation bicubic",
    )  # fmt: skip
    add(
        "--resize", type=int, default=0, metavar="PIXELS",
        help="shorter side before cropping; 0: crop * 256 / 224 (224: 256, 256: 293, 320: 366, 416: 475)",
    )  # fmt: skip
    add("--interpolation", default="bilinear", choices=INTERPOLATIONS, help="of the resizing, antialiased")
    add("--batch-size", type=int, default=64, metavar="N", help="pictures a forward pass")
    add_workers(parser)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    add("--amp", default="off", choices=AMP, help="mixed precision")
    add(
        "--json", type=text_place, default="", metavar="FILE",
        help="write settings and numbers (per cent) there; -: print them, and nothing else",
    )  # fmt: skip
    return parser


def begin(args: dict[str, Any]) -> None:
    """Measure, print and perhaps file the accuracy."""
    load_plugins(args.pop("imports"))
    file = args.pop("json")
    if file and not Path(file).resolve().parent.is_dir():
        raise UserError(f"--json {file}: there is no folder {Path(file).resolve().parent}; make it first")
    if file and Path(file).is_dir():
        raise UserError(f"--json {file} is a folder; name a file in it")
    from detector.tasks.accuracy import measure_accuracy

    result = measure_accuracy(**args)
    if file != STANDARD:
        print(describe(result))
    if file:
        write_text(file, json_text(result))


def describe(result: dict[str, Any]) -> str:
    """Measured numbers, and the published ones where weights are published."""
    k = min(5, result["classes"])
    lines = [
        "{backbone}, {weight}, on {images} pictures of {classes} classes in {data}".format(**result),
        "crop {crop} of {resize} pixels, {interpolation}, norm {norm}, amp {amp}, {images_per_s:.1f} pictures/s".format(
            **result
        ),
        f"measured   top-1 {result['top1']:.3f} %   top-{k} {result[f'top{k}']:.3f} %",
    ]
    if k < 5:
        lines.append(
            f"There {agreeing(k, 'is|are')} only {counted(k, 'class|classes')}: top-{k} stands for top-5, and is "
            "always 100 %"
        )
    if result["published"]:
        top1, top5 = (
            "unknown" if value is None else f"{value:.3f} %" for value in map(result["published"].get, ("top1", "top5"))
        )
        lines.append(f"published  top-1 {top1}   top-5 {top5}")
    return "\n".join(lines)
