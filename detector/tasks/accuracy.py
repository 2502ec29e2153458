"""Classification networks: what a weight file holds, and top-1 and top-5 accuracy on a folder of pictures."""

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detector.console import progress
from detector.data.capacity import check_shared_memory
from detector.data.image_folder import FolderLoader, ImageFolder, default_resize, eval_loader, eval_transform
from detector.distributed import largest, sum_over
from detector.engine.device import autocast, pick_device, say_slow_precisions
from detector.engine.stop import stoppable
from detector.errors import NonFiniteError, UserError
from detector.models.backbones import BACKBONES, Classifier, build_backbone, find_weights
from detector.tasks.classifier_weights import check_norm, load_trained, read_facts
from detector.weights.read import read_file
from detector.weights.record import Pixels

CROP = 224  # pixels, of a weight file that says nothing


class Accuracy(NamedTuple):
    """Top-1 and top-k accuracy in per cent, and mean cross-entropy; k is 5, or the number of classes if less."""

    images: int
    top1: float
    topk: float
    k: int
    loss: float

    def numbers(self) -> dict[str, float]:
        """By name: top1, top5 (or top4, .. where there are fewer classes) and loss."""
        return {"top1": self.top1, f"top{self.k}": self.topk, "loss": self.loss}


class PixelInput:
    """uint8 RGB images [N, 3, H, W] -> what a network's weights expect, float32, on the device and channels_last."""

    def __init__(self, pixels: Pixels, device: torch.device) -> None:
        self.bgr = pixels.order == "bgr"
        self.device = device
        self.mean = torch.tensor(pixels.mean, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(pixels.std, device=device).view(1, 3, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """The normalised images."""
        x = images.to(self.device, non_blocking=True)
        x = x.flip(1) if self.bgr else x
        return ((x.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def measure_accuracy(
    backbone: str,
    data: str | Path,
    weight: str = "imagenet",
    *,
    norm: str = "frozen_bn",
    passes: int = 0,
    crop: int = 0,
    resize: int = 0,
    interpolation: str = "bilinear",
    batch_size: int = 64,
    workers: int = 4,
    device: str = "auto",
    amp: str = "off",
) -> dict[str, Any]:
    """Top-1 and top-5 of a backbone's classification network on a folder that holds a folder for each class.

    weight: "imagenet" for the published file, or a path, or an address; passes, crop: 0 takes the weight file's word,
    else the registered passes, and the crop that the accuracy was published on, or 224; resize: the shorter side
    before cropping, 0 is crop * 256 / 224.
    Returns the settings and measured values by name; "published" holds the record's accuracies, per cent or None.
    Raises ValueError, OSError or KeyError naming what does not fit: the backbone, folder, picture, file or classes.
    """
    entry = BACKBONES[backbone]
    if batch_size < 1 or workers < 0:
        raise UserError(f"--batch-size is {batch_size} and --workers {workers}; they must be at least 1 and 0")
    where = pick_device(device)
    if not weight:
        raise UserError("--weight is empty, and random weights have no accuracy; name a file, an address or imagenet")
    path = find_weights(backbone, weight)
    file = read_file(path)
    facts = {} if weight == "imagenet" else read_facts(file)
    if facts and facts["backbone"] != backbone:
        raise UserError(f"{path} was trained as {facts['backbone']}: write --backbone {facts['backbone']}")
    check_norm(facts, path, norm)
    crop = crop or facts.get("crop") or (entry.weights.crop if weight == "imagenet" else CROP)
    resize = resize or default_resize(crop)
    check_shared_memory(workers, batch_size * 3 * crop**2, key="--workers")
    dataset = ImageFolder(data, eval_transform(crop, resize, interpolation))
    network = build_backbone(backbone, norm, passes=passes or facts.get("passes", 0))
    model = Classifier(network, len(dataset.classes))
    load_trained(network, model, entry.weights, file, facts, dataset)
    model.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    say_slow_precisions(where, {"--amp": amp})
    batches = eval_loader(dataset, batch_size, workers, where.type == "cuda")
    start = time.perf_counter()
    accuracy = evaluate(model, batches, PixelInput(entry.weights.pixels, where), amp)
    published = weight == "imagenet" and not passes
    return {
        "backbone": backbone,
        "weight": str(path),
        "data": str(data),
        "images": accuracy.images,
        "classes": len(dataset.classes),
        "crop": crop,
        "resize": resize,
        "interpolation": interpolation,
        "norm": norm,
        "amp": amp,
        **accuracy.numbers(),
        "images_per_s": accuracy.images / (time.perf_counter() - start),
        "published": {"top1": entry.weights.top1, "top5": entry.weights.top5} if published else None,
    }


@torch.inference_mode()
def evaluate(model: nn.Module, batches: FolderLoader, prepare: PixelInput, amp: str = "off") -> Accuracy:
    """Accuracy of `model`, which gives logits [N, C], in evaluation mode; its mode is restored at the end.

    Several processes, each with batches of its own, count together. amp: "off", "bf16" or "fp16".
    Raises NonFiniteError when a loss is infinite or no number, ValueError naming a picture that cannot be read.
    """
    training = model.training
    model.eval()
    images, hits1, hits5, loss, k = 0, 0.0, 0.0, 0.0, 1
    bar = progress(batches, desc="evaluate", unit="batch", leave=False)
    for batch in stoppable(bar, batches):
        labels = batch.labels.to(prepare.device, non_blocking=True)
        with autocast(prepare.device, amp):
            logits = model(prepare(batch.images))
        logits = logits.float()
        k = min(5, logits.shape[1])
        right = logits.topk(k).indices == labels[:, None]
        sums = torch.stack([right[:, 0].sum(), right.sum(), F.cross_entropy(logits, labels, reduction="sum")])
        first, any_of_k, total = sums.tolist()  # one transfer for all, as each waits for the device
        images, hits1, hits5, loss = images + len(labels), hits1 + first, hits5 + any_of_k, loss + total
        bar.set_postfix_str(f"top-1 {100 * hits1 / images:.2f} top-{k} {100 * hits5 / images:.2f}", refresh=False)
    (k,) = largest([k])  # 1 where no batch was left
    images, hits1, hits5, loss = sum_over(torch.tensor([images, hits1, hits5, loss], dtype=torch.float64)).tolist()
    model.train(training)
    if not math.isfinite(loss):
        remedy = "the network has diverged" if amp == "off" else f"write --amp off, as {amp} may be too coarse"
        raise NonFiniteError(f"the loss of the evaluation is {loss}: {remedy}")
    return Accuracy(int(images), 100 * hits1 / images, 100 * hits5 / images, k, loss / images)
