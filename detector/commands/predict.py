"""Draw detections on an image, a folder or a glob of images, and list them in detections.json."""

import argparse
import glob
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm
from yacs.config import CfgNode

from detector.commands.base import output_folder, read_trained, run, split_words, trained_parser
from detector.errors import UserError
from detector.files import write_json

if TYPE_CHECKING:
    from detector.data.transforms import Transform
    from detector.structures import Batch, Detection

log = logging.getLogger("detector")

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}

EXAMPLE = """\
detector predict output/quickstart photos --output pictures --threshold 0.3
detector predict --config-file tv.yaml --input "photos/*.jpg" MODEL.WEIGHT tv.pth"""


def main(argv: Sequence[str] | None = None) -> None:
    """`RUN SOURCE | --config-file FILE --input SOURCE`, then `[--output FOLDER] [--threshold SCORE] [KEY VALUE ..]`."""
    parser = trained_parser(__doc__, "predict", EXAMPLE, "RUN SOURCE", "--config-file FILE --input SOURCE")
    parser.add_argument(
        "--input", metavar="SOURCE", help="an image, a folder of images, or a quoted glob, in place of the word SOURCE"
    )
    parser.add_argument("--output", default="output/predictions", metavar="FOLDER", help="where pictures and JSON go")
    parser.add_argument("--threshold", type=float, default=0.5, metavar="SCORE", help="lowest score that is shown")
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
    cfg: CfgNode, source: str, output: Path, threshold: float, weight: str | Path | None = None, which: str = "newest"
) -> list[dict[str, object]]:
    """Detect on all images of `source`; writes OUTPUT/<image>.jpg and OUTPUT/detections.json.

    weight, which: as `detector.tasks.trained.load_for_inference` takes them. Returns what the JSON holds: for each
    image its file, width, height and detections with box (xyxy, pixels), score, class and category_id. A file that
    cannot be read is named in a warning and left out.
    """
    paths = find_images(source)
    from detector.data.pipeline import build_transforms
    from detector.inference.detect import detect
    from detector.models.build import resolve_parts
    from detector.structures import Detection
    from detector.tasks.trained import load_for_inference
    from detector.visualize import draw

    model, classes, category_ids = load_for_inference(cfg, weight, which)
    cfg = resolve_parts(cfg)
    transforms = build_transforms(cfg, train=False)
    home = Path(os.path.commonpath([path.parent for path in paths]))
    output_folder(output)
    found: list[dict[str, object]] = []
    step = cfg.TEST.IMS_PER_BATCH
    with tqdm(total=len(paths), desc="predict", unit="image", dynamic_ncols=True) as bar:
        for start in range(0, len(paths), step):
            images = read_images(paths[start : start + step])
            if images:
                batch = make_batch(list(images.values()), transforms, cfg.DATALOADER.SIZE_DIVISIBILITY)
                for (path, image), one in zip(images.items(), detect(model, batch, cfg.TEST.AMP), strict=True):
                    kept = one["scores"] >= threshold
                    shown = Detection(boxes=one["boxes"][kept], labels=one["labels"][kept], scores=one["scores"][kept])
                    found.append({"file": str(path), **describe(image, shown, classes, category_ids)})
                    save_picture(output / path.relative_to(home).with_suffix(".jpg"), draw(image, shown, classes))
            bar.update(len(paths[start : start + step]))
    write_json(output / "detections.json", found)
    log.info("%d of %d images -> %s", len(found), len(paths), output)
    return found


def find_images(source: str) -> list[Path]:
    """The image files that a path, a folder or a glob names, sorted. Raises ValueError when there is none."""
    path = Path(source)
    if path.is_dir():
        paths = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
    else:
        paths = [path] if path.is_file() else sorted(map(Path, glob.glob(source, recursive=True)))
    if not paths:
        raise UserError(
            f"{source}: no image there; name an image, a folder of {', '.join(sorted(SUFFIXES))}, or a glob"
        )
    return paths


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
    image: np.ndarray, detection: "Detection", classes: Sequence[str], category_ids: Sequence[int]
) -> dict[str, object]:
    """Width, height and detections of one image as plain values."""
    rows = zip(detection["boxes"].tolist(), detection["labels"].tolist(), detection["scores"].tolist(), strict=True)
    detections = [
        {"box": box, "score": score, "class": classes[label], "category_id": category_ids[label]}
        for box, label, score in rows
    ]
    return {"width": image.shape[1], "height": image.shape[0], "detections": detections}


def save_picture(path: Path, image: np.ndarray) -> None:
    """Write a uint8 RGB picture. Raises OSError when it cannot be written."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    path.write_bytes(data.tobytes())
