"""From a model and images to detections in the pixels of the originals."""

from collections.abc import Iterator, Sequence

import torch

from detector.console import progress
from detector.data.loader import BatchLoader
from detector.engine.device import autocast
from detector.engine.stop import stoppable
from detector.models.detector import Detector
from detector.ops.boxes import rescale_boxes
from detector.structures import Batch, Detection, Target, real_outputs


@torch.inference_mode()
def detect(model: Detector, batch: Batch, precision: str = "off") -> list[Detection]:
    """Detections of a batch on the CPU, boxes in the pixels of the original images.

    precision: as TEST.AMP. The model has to be in eval mode.
    """
    device = model.mean.device
    with autocast(device, precision):
        found = model(batch.images.to(device, non_blocking=True), batch.sizes)
    return [
        Detection(
            boxes=rescale_boxes(f["boxes"].float(), size, target["original"]).cpu(),
            labels=f["labels"].cpu(),
            scores=f["scores"].float().cpu(),
        )
        for f, size, target in zip(found, batch.sizes, batch.targets, strict=True)
    ]


def detect_all(model: Detector, batches: BatchLoader, precision: str) -> Iterator[tuple[list[Detection], list[Target]]]:
    """Detections and targets batch by batch, under a progress bar; leaves the model in the mode it was in.

    Of several processes, each of which has batches of its own, one may have fewer of them.
    """
    mode = model.training
    model.eval()
    try:
        for batch in stoppable(progress(batches, desc="evaluate", unit="batch", leave=False), batches):
            yield detect(model, batch, precision), batch.targets
    finally:
        model.train(mode)


def of_real_classes(detections: list[Detection], names: Sequence[str], classes: Sequence[str]) -> list[Detection]:
    """Detections of the outputs `names` that stand for one of the data's classes, with the data's labels."""
    real = torch.tensor(real_outputs(names, classes), dtype=torch.bool)
    if real.all():
        return detections
    label = real.cumsum(0) - 1
    found = []
    for one in detections:
        kept = real[one["labels"]]
        labels = label[one["labels"][kept]]
        found.append(Detection(boxes=one["boxes"][kept], labels=labels, scores=one["scores"][kept]))
    return found
