"""Made-up objects and detections for what stands on matching."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.evaluation.matching import Guesses, Truth


def scene(seed, images=25, objects=240, detections=2500, classes=5):
    """Objects and detections with ties of scores and overlaps, areas on the borders, crowds, and a class without."""
    rng = np.random.default_rng(seed)
    xywh = (
        np.concatenate([rng.integers(0, 40, (objects, 2)), rng.choice([8, 16, 32, 96, 50, 51], (objects, 2))], 1) * 1.0
    )
    areas = np.where(rng.random(objects) < 0.7, xywh[:, 2:].prod(1), rng.uniform(1, 99**2, objects))
    areas[:20] = np.repeat([32.0**2, 96.0**2], 10)
    image, labels = rng.integers(0, images, objects), rng.integers(0, classes - 1, objects)
    order = np.argsort(image, kind="stable")
    truth = Truth(image[order], labels[order], xywh[order], areas[order], (rng.random(objects) < 0.15)[order])
    copied = rng.integers(0, objects, detections)
    moved = xywh[copied] + rng.integers(-2, 3, (detections, 4))  # whole numbers: many equal overlaps
    moved[:, 2:] = np.maximum(moved[:, 2:], 0)
    label = np.where(rng.random(detections) < 0.8, labels[copied], rng.integers(0, classes, detections))
    of_image = np.where(rng.random(detections) < 0.9, image[copied], rng.integers(0, images, detections))
    of_image[:400], label[:400] = 3, 1  # more than a hundred in an image and a class
    order = np.argsort(of_image, kind="stable")
    scores = rng.choice(np.linspace(0.1, 1, 12), detections)
    return truth, Guesses(of_image[order], label[order], moved[order], scores[order])


def evaluated(truth, guesses, images, classes):
    """pycocotools' evaluation of objects and detections, matched and accumulated."""
    rows = zip(
        truth.image.tolist(), truth.labels.tolist(), truth.xywh.tolist(), truth.areas.tolist(), truth.crowd.tolist()
    )
    annotations = [
        {"id": i, "image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": int(crowd)}
        for i, (image, label, box, area, crowd) in enumerate(rows, 1)
    ]
    rows = zip(*(column.tolist() for column in guesses), strict=True)
    results = [{"image_id": i, "category_id": k, "bbox": box, "score": score} for i, k, box, score in rows]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i} for i in range(images)],
            "categories": [{"id": k, "name": str(k)} for k in range(classes)],
            "annotations": annotations,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation
