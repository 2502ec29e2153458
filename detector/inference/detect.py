"""From a model and images to detections in the pixels of the originals."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

import torch

from detector.console import progress
from detector.data.loader import BatchLoader
from detector.engine.device import autocast
from detector.engine.stop import stoppable
from detector.inference.augmented import Augmentation, mirrored, mirrored_batch
from detector.models.detector import Detector
from detector.ops.boxes import rescale_boxes
from detector.structures import Batch, Detection, Size, Target, real_outputs


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


@torch.inference_mode()
def detect_views(
    model: Detector, batches: Iterable[Batch], precision: str, augmentation: Augmentation | None
) -> list[Detection]:
    """`detect` on the same pictures in several sizes, a batch for each, and mirrored, all merged.

    augmentation: says how; None: there is a single batch, of which the detections are as they are. A size that a
    picture has already been seen in, as where both are bound by the longer side, does not count twice.
    """
    if augmentation is None:
        (batch,) = batches
        return detect(model, batch, precision)
    found: list[list[Detection]] = []
    seen: list[set[tuple[Size, bool]]] = []
    for batch, mirrors in zip(batches, augmentation.mirrored, strict=True):
        found = found or [[] for _ in batch.sizes]
        seen = seen or [set() for _ in batch.sizes]
        batch = batch._replace(images=batch.images.to(model.mean.device, non_blocking=True))
        for mirror in (False, True)[: 1 + mirrors]:
            new = [(size, mirror) not in known for size, known in zip(batch.sizes, seen, strict=True)]
            if not any(new):
                continue
            views = detect(model, mirrored_batch(batch) if mirror else batch, precision)
            for i, (view, size, target) in enumerate(zip(views, batch.sizes, batch.targets, strict=True)):
                if new[i]:
                    seen[i].add((size, mirror))
                    found[i].append(mirrored(view, target["original"]) if mirror else view)
    return augmentation.merged(found)


def detect_all(
    model: Detector, batches: BatchLoader, precision: str, augmentation: Augmentation | None = None
) -> Iterator[tuple[list[Detection], list[Target]]]:
    """Detections and targets batch by batch, under a progress bar; leaves the model in the mode it was in.

    augmentation: with it each batch comes in every size in a row, as `view_loader` gives them; the targets are those of
    the first. Of several processes, each of which has batches of its own, one may have fewer of them.
    """
    mode = model.training
    model.eval()
    sizes = len(augmentation.mirrored) if augmentation else 1
    try:
        rest = iter(stoppable(progress(batches, desc="evaluate", unit="batch", leave=False), batches))
        for first in rest:
            views = chain([first], islice(rest, sizes - 1))
            yield detect_views(model, views, precision, augmentation), first.targets
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
