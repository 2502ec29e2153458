"""What a detector finds on the first pictures of its test sets, drawn beside the truth."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from yacs.config import CfgNode

from detector.data.dataset import CocoDetection, RecordError
from detector.data.loader import collate, views_of
from detector.data.transforms import UNCHANGED
from detector.inference.augmented import build_augmentation
from detector.inference.detect import detect_views
from detector.models.detector import Detector
from detector.ops.boxes import rescale_boxes
from detector.structures import Detection, Size
from detector.visualize import draw

LOWEST = 0.3  # score that is drawn
LONGEST = 640  # pixels, side of a picture: they are looked at side by side, and kept of every evaluation


def drawn(model: Detector, datasets: Mapping[str, CocoDetection], cfg: CfgNode) -> dict[str, np.ndarray]:
    """The first LOG.PICTURES pictures of each test set by "SET/ID", uint8 RGB [H, W, 3].

    They are the pictures as they lie on disk, at most LONGEST wide and high, whatever the network sees. Detections of
    at least LOWEST in solid lines, as the test finds them, in all views of TEST.BBOX_AUG; the truth in dashes. Pictures
    that cannot be read are left out: of them the evaluation speaks. The model stays in the mode it was in.
    """
    mode = model.training
    model.eval()
    try:
        return {
            f"{name}/{dataset.image_ids[place]}": picture
            for name, dataset in datasets.items()
            for sources in [(dataset.transformed(UNCHANGED), *views_of(cfg, dataset))]
            for place in range(min(cfg.LOG.PICTURES, len(dataset)))
            if (picture := _picture(model, sources, place, cfg)) is not None
        }
    finally:
        model.train(mode)


def _picture(model: Detector, sources: Sequence[CocoDetection], place: int, cfg: CfgNode) -> np.ndarray | None:
    """sources: the data set as it lies on disk, then its views."""
    try:
        (whole, target), *seen = [source[place] for source in sources]
    except RecordError:
        return None
    batches = [collate([one], cfg.DATALOADER.SIZE_DIVISIBILITY) for one in seen]
    (found,) = detect_views(model, batches, cfg.TEST.AMP, build_augmentation(cfg))
    size = shown_size(target["original"])
    pixels = cv2.resize(whole.permute(1, 2, 0).numpy(), size[::-1], interpolation=cv2.INTER_AREA)
    kept = found["scores"] >= LOWEST
    shown = Detection(
        boxes=rescale_boxes(found["boxes"][kept], target["original"], size),
        labels=found["labels"][kept],
        scores=found["scores"][kept],
    )
    truth = {key: rescale_boxes(target[key], target["original"], size) for key in ("boxes", "ignore")}  # type: ignore[literal-required]
    return draw(pixels, shown, sources[0].classes, {**target, **truth})  # type: ignore[arg-type]


def shown_size(size: Size) -> Size:
    """A picture's size where it is drawn: no side is longer than LONGEST."""
    scale = min(1.0, LONGEST / max(size))
    height, width = (max(1, round(side * scale)) for side in size)
    return height, width
