"""Can a detector learn a few images by heart? Prints AP50 on them beside the best that its head allows."""

import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from yacs.config import CfgNode

from detector.commands.base import config_parser, read_config, run
from detector.data.catalog import load_dataset
from detector.data.dataset import CocoDetection
from detector.data.images import read_rgb
from detector.data.loader import build_test_datasets, test_loader
from detector.engine.device import autocast
from detector.evaluation.coco import CocoEvaluator
from detector.files import write_json
from detector.inference.detect import detect_all
from detector.models.detector import Detector
from detector.structures import Detection, Target
from detector.tasks.detection import train
from detector.tasks.resolve import resolve_model
from detector.tasks.several import to_device
from detector.tasks.trained import load_for_inference
from detector.visualize import draw

log = logging.getLogger("detector")


def main(argv: Sequence[str] | None = None) -> None:
    """`--config-file FILE [--images 8] [--resume] [KEY VALUE ...]`."""
    parser = config_parser(__doc__)
    parser.add_argument("--images", type=int, default=8, metavar="N", help="the first N by image id")
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint of OUTPUT_DIR")
    args = parser.parse_intermixed_args(argv)
    run(lambda: overfit(read_config(args), args.images, args.resume))


def overfit(cfg: CfgNode, number: int, resume: bool = False) -> dict[str, float]:
    """Train and evaluate on the first images of DATASETS.TRAIN, as they are: no augmentation.

    Returns {"AP50", "bound", "share"}: fractions; the bound is the AP50 of the ground truth's own boxes, less those
    that no location or anchor answers for. Draws every image with its detections (score 0.5 and more) and dashed truth.
    """
    output = Path(cfg.OUTPUT_DIR)
    entry = first_images(cfg.DATASETS.TRAIN[0], cfg.DATASETS.ROOT, number, output)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (entry,)
    cfg.INPUT.AUGMENTATION, cfg.INPUT.HORIZONTAL_FLIP_PROB_TRAIN = "flip", 0.0
    cfg.freeze()
    (metrics,) = train(cfg, resume).values()
    (dataset,) = build_test_datasets(cfg).values()
    cfg = resolve_model(cfg, len(dataset.classes))
    model, *_ = load_for_inference(cfg)
    bound, lost = answered_bound(model, dataset, cfg)
    draw_all(model, dataset, cfg, output / "pictures")
    result = {"AP50": metrics["AP50"], "bound": bound, "share": metrics["AP50"] / bound}
    log.info(
        "AP50 %.3f on %d images; %d boxes are answered for by nothing, so at most %.3f: %.3f of it",
        *(result["AP50"], len(dataset), lost, bound, result["share"]),
    )
    return result


def first_images(entry: str, root: str, number: int, output: Path) -> str:
    """Write the first images of any data set, by id, as a file in COCO's format; returns its DATASETS entry.

    Difficult objects of VOC become crowds: neither trained on nor counted.
    """
    source = load_dataset(entry, root)
    index = source.index
    images, annotations = [], []
    for i in np.argsort(index.image_ids)[:number].tolist():
        height, width = index.size(i)
        name = str(index.file_names[i])
        images.append({"id": index.image_id(i), "file_name": name, "height": height, "width": width})
        rows = index.rows(i)
        annotations += [
            {
                "id": index.annotation_ids[row].item(),
                "image_id": index.image_id(i),
                "category_id": index.category_ids[index.labels[row]],
                "bbox": index.boxes_xywh[row].tolist(),
                "area": float(index.areas[row]),
                "iscrowd": int(index.crowd[row] | index.difficult[row]),
            }
            for row in range(rows.start, rows.stop)
        ]
    categories = [{"id": id, "name": name} for id, name in zip(index.category_ids, index.classes, strict=True)]
    path = output / f"first_{number}.json"
    write_json(path, {"images": images, "annotations": annotations, "categories": categories})
    return f"{source.folder.resolve()}:{path.resolve()}"


@torch.inference_mode()
def answered_bound(model: Detector, dataset: CocoDetection, cfg: CfgNode) -> tuple[float, int]:
    """AP50 of the true boxes that the head assigns a location or anchor, at score 1; and how many boxes have none."""
    evaluator, lost = CocoEvaluator(dataset), 0
    device = model.mean.device
    for batch in test_loader(cfg, dataset):
        with autocast(device, cfg.TEST.AMP):
            features = model.neck(model.backbone(model.normalize(batch.images.to(device), batch.sizes)))
        answered = model.head.answered(features, [to_device(target, device) for target in batch.targets])
        for found, target in zip(answered, batch.targets, strict=True):
            lost += len(target["boxes"]) - len(found)
            index = dataset.index
            rows = index.rows(index.image_ids.tolist().index(target["image_id"]))
            kept = index.usable[rows] & ~index.crowd[rows]
            found = found.cpu()
            truth = torch.from_numpy(index.boxes[rows][kept])[found]
            one = Detection(boxes=truth, labels=target["labels"][found], scores=torch.ones(len(found)))
            evaluator.add([one], [target])
    return evaluator.compute()["AP50"], lost


def draw_all(model: Detector, dataset: CocoDetection, cfg: CfgNode, folder: Path) -> None:
    """Every image of a data set with its detections and its true boxes, as FOLDER/<file name>."""
    folder.mkdir(parents=True, exist_ok=True)
    index = dataset.index
    ids = index.image_ids.tolist()
    for detections, targets in detect_all(model, test_loader(cfg, dataset), cfg.TEST.AMP):
        for found, target in zip(detections, targets, strict=True):
            position = ids.index(target["image_id"])
            shown = found["scores"] >= 0.5
            one = Detection(boxes=found["boxes"][shown], labels=found["labels"][shown], scores=found["scores"][shown])
            boxes = torch.from_numpy(index.boxes[index.rows(position)])
            truth: Target = {**target, "boxes": boxes, "ignore": boxes[:0]}
            image = read_rgb(dataset.folder / str(index.file_names[position]), index.size(position))
            picture = draw(image, one, dataset.classes, truth)
            cv2.imwrite(str(folder / Path(str(index.file_names[position])).name), picture[..., ::-1])


if __name__ == "__main__":
    main()
