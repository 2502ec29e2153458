"""Draw detections on an image, a folder or a glob of images, and list them in detections.json."""

import argparse
import glob
import logging
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from yacs.config import CfgNode

from detector.commands.base import (
    AUTO,
    expanded,
    output_folder,
    read_trained,
    run,
    score_or_auto,
    split_words,
    trained_parser,
)
from detector.console import progress
from detector.data.suffixes import SUFFIXES
from detector.errors import UserError
from detector.files import user_path, write_atomic, write_json

if TYPE_CHECKING:
    from detector.data.transforms import Transform
    from detector.structures import Batch, Detection

log = logging.getLogger("detector")

LISTING = "detections.json"

_TEXT = b"drawn by detector predict"
MARK = b"\xff\xfe" + (len(_TEXT) + 2).to_bytes(2, "big") + _TEXT
"""A JPEG comment, by which a picture that was drawn here is known again."""


EXAMPLE = """\
detector predict output/quickstart photos --output pictures --threshold auto
detector predict --config-file tv.yaml --input "photos/*.jpg" MODEL.WEIGHT tv.pth"""


NOTES = """
FOLDER gets detections.json and, for photos/inner/a.png of a SOURCE photos, the picture inner/a.jpg; where two images
would have the same one, their whole names stay: a.jpg.jpg and a.png.jpg. What is there is replaced only if an earlier
prediction wrote it (its pictures carry a comment that says so); else nothing is done, and the file is named. Bytes of
file names that are no UTF-8 stand in detections.json as \\xNN. Outputs without a class, which torchvision names N/A,
are left out."""


def main(argv: Sequence[str] | None = None) -> None:
    """`RUN SOURCE | --config-file FILE --input SOURCE`, then `[--output FOLDER] [--threshold SCORE] [KEY VALUE ..]`."""
    parser = trained_parser(
        f"{__doc__}\n{NOTES}", "predict", EXAMPLE, "RUN SOURCE", "--config-file FILE --input SOURCE"
    )
    parser.add_argument(
        "--input",
        type=expanded,
        metavar="SOURCE",
        help="an image, a folder of images, or a quoted glob, in place of the word SOURCE",
    )
    parser.add_argument(
        "--output", type=expanded, default="output/predictions", metavar="FOLDER", help="where pictures and JSON go"
    )
    parser.add_argument(
        "--threshold", type=score_or_auto, default=0.5, metavar="SCORE|auto",
        help="lowest score shown, in 0..1; auto: of each class that of its best F1, from the run's thresholds.json",
    )  # fmt: skip
    args = parser.parse_intermixed_args(argv)
    named = {"RUN": not args.config_file, "SOURCE": args.input is None}
    names = [name for name, wanted in named.items() if wanted]
    words, opts = split_words(parser, args.words, names)
    found = dict(zip(names, words, strict=True))
    run(lambda: begin(args, found.get("RUN"), found.get("SOURCE", args.input), opts))


def begin(args: argparse.Namespace, trained: str | None, source: str, opts: Sequence[str]) -> None:
    """Read the config, then predict."""
    cfg, weight = read_trained(args, trained, opts)
    predict(cfg, source, Path(args.output), args.threshold, weight, args.which or "newest")


def predict(
    cfg: CfgNode,
    source: str,
    output: Path,
    threshold: float | str,
    weight: str | Path | None = None,
    which: str = "newest",
) -> list[dict[str, object]]:
    """Detect on all images of `source`; writes a picture of each and OUTPUT/detections.json.

    threshold: the lowest score that is shown, or "auto": that of each class in OUTPUT_DIR's thresholds.json, which has
    to be of these weights. weight, which: as `detector.tasks.trained.load_for_inference` takes them. Returns what the
    JSON holds: for each image its file, picture (below OUTPUT), width, height and detections with box (xyxy, pixels),
    score, class, category_id and threshold. A file that cannot be read is named in a warning and left out. Raises
    ValueError, before anything is done, where a file would be overwritten that no prediction wrote, where no image can
    be read, and where there are no such thresholds.
    """
    if threshold != AUTO and (isinstance(threshold, str) or not 0 <= threshold <= 1):
        raise UserError(f"--threshold {threshold}: scores lie in 0..1")
    paths = find_images(source, output)
    pictures = name_pictures(paths)
    check_output(output, pictures)
    import torch

    from detector.data.pipeline import at_sizes, build_transforms
    from detector.inference.augmented import build_augmentation
    from detector.inference.detect import detect_views
    from detector.models.build import resolve_parts
    from detector.structures import Detection, real_outputs
    from detector.tasks.thresholds import read_thresholds
    from detector.tasks.trained import load_for_inference
    from detector.visualize import draw

    own = read_thresholds(cfg.OUTPUT_DIR) if isinstance(threshold, str) else None
    model, classes, category_ids = load_for_inference(cfg, weight, which, own.check if own else None)
    lowest = own.of(classes, category_ids) if own else [float(threshold)] * len(classes)
    cfg = resolve_parts(cfg)
    transforms = [build_transforms(one, train=False) for one in at_sizes(cfg)]
    augmentation = build_augmentation(cfg)
    real = torch.tensor(real_outputs(classes, ()))
    if own:
        log.info("--threshold auto: %s", own.text(classes, lowest, real.tolist()))
    needed = torch.tensor(lowest)
    output_folder(output)
    for folder in {(output / picture).parent for picture in pictures.values()}:
        folder.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, object]] = []
    number, highest = 0, 0.0
    step = cfg.TEST.IMS_PER_BATCH
    with progress(total=len(paths), desc="predict", unit="image") as bar:
        for start in range(0, len(paths), step):
            images = read_images(paths[start : start + step])
            if images:
                pixels, multiple = list(images.values()), cfg.DATALOADER.SIZE_DIVISIBILITY
                views = (make_batch(pixels, transform, multiple) for transform in transforms)
                detections = detect_views(model, views, cfg.TEST.AMP, augmentation)
                for (path, image), one in zip(images.items(), detections, strict=True):
                    scores = one["scores"][real[one["labels"]]]
                    highest = max(highest, scores.max().item() if len(scores) else 0.0)
                    kept = (one["scores"] >= needed[one["labels"]]) & real[one["labels"]]
                    number += int(kept.sum())
                    shown = Detection(boxes=one["boxes"][kept], labels=one["labels"][kept], scores=one["scores"][kept])
                    said = describe(image, shown, classes, category_ids, lowest)
                    found.append({"file": str(path), "picture": pictures[path].as_posix(), **said})
                    save_picture(output / pictures[path], draw(image, shown, classes))
            bar.update(len(paths[start : start + step]))
    if not found:
        raise UserError(f"{source}: none of {len(paths)} images could be read; each is named above")
    write_json(output / LISTING, found)
    log.info("%s; %d of %d images -> %s", count_text(number, threshold, highest), len(found), len(paths), output)
    return found


def count_text(number: int, threshold: float | str, highest: float) -> str:
    """How many detections are shown; where there are none, the threshold that would show the best one."""
    if number or highest <= 0:
        return f"{number} detection{'s' * (number != 1)}"
    lower = math.floor(highest * 100) / 100
    none = "no detection reaches its class's threshold"
    if not isinstance(threshold, str):
        none = f"no detection of score {threshold:g} or more"
    return f"{none}: the highest is {highest:.2f}, so try --threshold {lower:g}"


def find_images(source: str, output: Path | None = None) -> list[Path]:
    """The image files that a path, a folder or a glob names, sorted. Raises ValueError when there is none.

    Of a folder, the pictures that an earlier prediction drew below `output` are left out.
    """
    path = user_path(source)
    if path.is_dir():
        paths = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and (p.is_file() or p.is_symlink()))
        if output is not None and output.resolve().is_relative_to(path.resolve()):
            drawn = {p for p in paths if p.resolve().is_relative_to(output.resolve()) and was_drawn(p)}
            paths = [p for p in paths if p not in drawn]
            if drawn:
                log.info("%d pictures in %s, which predict drew, are left out", len(drawn), output)
    else:
        paths = [path] if path.is_file() else sorted(map(Path, glob.glob(str(path), recursive=True)))
    if not paths:
        raise UserError(
            f"{source}: no image there; name an image, a folder of {', '.join(sorted(SUFFIXES))}, or a glob"
        )
    return paths


def name_pictures(paths: Sequence[Path]) -> dict[Path, Path]:
    """Where the picture of each image lies below the output's folder: as the images lie below their common folder.

    The ending becomes .jpg; where two would meet, also but for upper and lower case, it is added instead.
    """
    home = Path(os.path.commonpath([path.parent for path in paths]))
    whole = {path: Path(f"{path.relative_to(home)}.jpg") for path in paths}
    names = {path: path.relative_to(home).with_suffix(".jpg") for path in paths}
    while True:
        counts = Counter(str(name).lower() for name in names.values())
        twice = [path for path, name in names.items() if counts[str(name).lower()] > 1 and name != whole[path]]
        if not twice:
            return names
        names |= {path: whole[path] for path in twice}


def check_output(output: Path, pictures: Mapping[Path, Path]) -> None:
    """Raise ValueError when a file is in the way that no prediction wrote, or that is one of the images.

    pictures: of each image, below `output`.
    """
    images = {(found.st_dev, found.st_ino) for found in map(os.stat, filter(os.path.exists, pictures))}
    in_the_way = [(output / LISTING, "")] if os.path.lexists(output / LISTING) and not _is_listing(output) else []
    for target in (output / picture for picture in pictures.values()):
        if os.path.lexists(target) and not was_drawn(target):
            in_the_way.append((target, ""))
        elif target.exists() and (target.stat().st_dev, target.stat().st_ino) in images:
            in_the_way.append((target, ", which is one of the images"))
    if in_the_way:
        path, what = in_the_way[0]
        more = f" and {len(in_the_way) - 1} more files" if len(in_the_way) > 1 else ""
        raise UserError(
            f"--output {output}: {path}{what}{more} would be overwritten, and no prediction wrote it: nothing was "
            "done; write --output another/folder"
        )


def was_drawn(path: Path) -> bool:
    """Whether a file is a picture that was drawn here; a link is none."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK in file.read(256)


def _is_listing(output: Path) -> bool:
    """Whether OUTPUT/detections.json is one that was written here."""
    path = output / LISTING
    try:
        rows = msgspec.json.decode(path.read_bytes()) if path.is_file() and not path.is_symlink() else None
    except msgspec.DecodeError:
        return False
    return isinstance(rows, list) and all(
        isinstance(row, dict) and {"file", "detections"} <= row.keys() for row in rows
    )


def read_images(paths: Sequence[Path]) -> dict[Path, np.ndarray]:
    """The readable ones of some files as uint8 [H, W, 3] RGB; the others are named in a warning."""
    from detector.data.images import read_rgb

    images = {}
    for path in paths:
        try:
            images[path] = read_rgb(path)
        except (OSError, UserError) as error:
            log.warning("%s; it is left out", error)
    return images


def make_batch(images: Sequence[np.ndarray], transforms: "Transform", divisibility: int) -> "Batch":
    """Resized and padded images; their targets are empty but for the original sizes."""
    import torch

    from detector.data.loader import collate
    from detector.data.transforms import Sample
    from detector.structures import Target

    items = []
    for i, image in enumerate(images):
        nothing = Sample(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
        resized, _ = transforms(image, nothing, np.random.default_rng(0))
        boxes = torch.zeros(0, 4)
        target = Target(
            boxes=boxes,
            labels=boxes[:, 0].long(),
            ignore=boxes,
            image_id=i,
            original=(image.shape[0], image.shape[1]),
            draw=0,
        )
        items.append((torch.from_numpy(resized).permute(2, 0, 1), target))
    return collate(items, divisibility)


def describe(
    image: np.ndarray,
    detection: "Detection",
    classes: Sequence[str],
    category_ids: Sequence[int],
    thresholds: Sequence[float],
) -> dict[str, object]:
    """Width, height and detections of one image as plain values."""
    rows = zip(detection["boxes"].tolist(), detection["labels"].tolist(), detection["scores"].tolist(), strict=True)
    detections = [
        {
            "box": box,
            "score": score,
            "class": classes[label],
            "category_id": category_ids[label],
            "threshold": thresholds[label],
        }
        for box, label, score in rows
    ]
    return {"width": image.shape[1], "height": image.shape[0], "detections": detections}


def save_picture(path: Path, image: np.ndarray) -> None:
    """Write a uint8 RGB picture as a JPEG with the comment MARK. Raises OSError when it cannot be written."""
    import cv2

    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    data = encoded.tobytes()
    head = 4 + int.from_bytes(data[4:6], "big")  # the start, and the segment that says JFIF, which has to come first
    write_atomic(path, data[:head] + MARK + data[head:])
