"""Classification networks: what a weight file holds, and top-1 and top-5 accuracy on a folder of pictures."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from detector.data.image_folder import FolderLoader, ImageFolder, default_resize, eval_loader, eval_transform
from detector.engine.device import autocast, pick_device
from detector.engine.trainer import NonFiniteError
from detector.models.backbones import BACKBONES, Backbone, Classifier, build_backbone, find_weights
from detector.weights.checkpoint import read_checkpoint
from detector.weights.load import load_backbone
from detector.weights.read import read_weights
from detector.weights.record import Pixels, Weights
from detector.weights.rename import translate

log = logging.getLogger("detector")

FACTS = ("backbone", "classes", "norm", "passes", "crop")
"""What a weight file of the pre-training says about itself beside its tensors."""

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
        raise ValueError(f"--batch-size is {batch_size} and --workers {workers}; they must be at least 1 and 0")
    where = pick_device(device)
    if not weight:
        raise ValueError("--weight is empty, and random weights have no accuracy; name a file, an address or imagenet")
    path = find_weights(backbone, weight)
    facts = {} if weight == "imagenet" else read_facts(path)
    if facts and facts["backbone"] != backbone:
        raise ValueError(f"{path} was trained as {facts['backbone']}: write --backbone {facts['backbone']}")
    check_norm(facts, path, norm)
    crop = crop or facts.get("crop") or (entry.weights.crop if weight == "imagenet" else CROP)
    resize = resize or default_resize(crop)
    dataset = ImageFolder(data, eval_transform(crop, resize, interpolation))
    network = build_backbone(backbone, norm, passes=passes or facts.get("passes", 0))
    model = Classifier(network, len(dataset.classes))
    load_trained(network, model, entry.weights, path, facts, dataset)
    model.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
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
    """Accuracy of `model`, which gives logits [N, C], in evaluation mode; its mode is restored.

    amp: "off", "bf16" or "fp16". Raises NonFiniteError when a loss is infinite or no number, ValueError naming a
    picture that cannot be read.
    """
    training = model.training
    model.eval()
    images, hits1, hits5, loss, k = 0, 0.0, 0.0, 0.0, 1
    bar = tqdm(batches, desc="evaluate", unit="batch", leave=False, dynamic_ncols=True)
    for batch in bar:
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
    model.train(training)
    if not math.isfinite(loss):
        remedy = "the network has diverged" if amp == "off" else f"write --amp off, as {amp} may be too coarse"
        raise NonFiniteError(f"the loss of the evaluation is {loss}: {remedy}")
    return Accuracy(images, 100 * hits1 / images, 100 * hits5 / images, k, loss / images)


def read_facts(path: Path) -> dict[str, Any]:
    """The FACTS in a weight file of the pre-training; nothing for any other file, whatever is wrong with it."""
    try:
        content = read_checkpoint(path, *FACTS)
    except ValueError:
        return {}
    return {name: content[name] for name in FACTS}


def check_norm(facts: Mapping[str, Any], path: Path, norm: str) -> None:
    """Raise ValueError when a weight file says that it was trained with another kind of norm, batch or group."""
    if facts and (facts["norm"] == "gn") != (norm == "gn"):
        remedy = "write --norm gn" if facts["norm"] == "gn" else "leave --norm out"
        raise ValueError(f"{path} was trained with --norm {facts['norm']}: {remedy}")


def check_classes(trained: Sequence[str], path: Path, dataset: ImageFolder) -> None:
    """Raise ValueError with the first difference when a file was trained on other classes than the folders."""
    if list(trained) == dataset.classes:
        return
    pairs = zip_longest(trained, dataset.classes, fillvalue="nothing")
    label, (there, here) = next((label, pair) for label, pair in enumerate(pairs) if pair[0] != pair[1])
    raise ValueError(
        f"{path} was trained on {len(trained)} classes, {dataset.root} has {len(dataset.classes)} class folders; class "
        f"{label} is {there} there and {here} here: name a folder with the classes of the training"
    )


def load_trained(
    backbone: Backbone,
    model: Classifier,
    weights: Weights,
    path: Path,
    facts: Mapping[str, Any],
    dataset: ImageFolder,
) -> None:
    """Fill a network, with one output for each class folder, for evaluation.

    backbone: the one that `model` was made of. Raises ValueError as `load_backbone` does, and when the file names
    other classes than the folders, or holds another number of outputs, or none.
    """
    if facts:
        check_classes(facts["classes"], path, dataset)
    load_backbone(backbone, weights, path)  # before the classifier is spoken of: is it a file of this network at all?
    outputs = count_outputs(model, weights, path)
    if outputs is None:
        raise ValueError(f"{path} holds a backbone without classifier; tools/train_classifier.py --weight trains one")
    if outputs != len(dataset.classes):
        raise ValueError(
            f"{dataset.root} has {len(dataset.classes)} class folders, {path} has {outputs} outputs and does not name "
            f"them: name a folder with all {outputs} classes (ImageNet's validation set for published weights), or a "
            "weight file that tools/train_classifier.py trained on these classes"
        )
    load_backbone(model, weights, path)


def load_start(
    backbone: Backbone, model: Classifier, weights: Weights, path: Path, norm: str, classes: Sequence[str]
) -> None:
    """Fill a network to train it further; a classifier of other classes is dropped, and the log says so.

    backbone: the one that `model` was made of. Raises ValueError as `load_backbone` does.
    """
    facts = read_facts(path)
    check_norm(facts, path, norm)
    outputs = count_outputs(model, weights, path)
    if outputs == len(classes) and facts.get("classes", classes) == list(classes):
        report = load_backbone(model, weights, path)
    else:
        report = load_backbone(backbone, weights, path)
        was = "no classifier" if outputs is None else f"a classifier of {outputs} other classes, which is dropped"
        log.warning("%s has %s: that of these %d classes starts anew", path, was, len(classes))
    log.info("%s\n%s", path, report)


def count_outputs(model: Classifier, weights: Weights, path: Path) -> int | None:
    """How many classes the classifier in a weight file tells apart; None if it holds none."""
    own = list(model.state_dict())
    try:
        state, _ = translate(read_weights(path), weights, own)
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    return len(state[own[-1]]) if own[-1] in state else None


def export_state(model: nn.Module, norm: str, norm_eps: float) -> dict[str, Tensor]:
    """The state dict with which a backbone, frozen_bn in place of bn, computes what `model` does in evaluation.

    norm: of `model`; norm_eps: what frozen_bn will add to the variance. A batch norm adds its own eps, so that the
    difference goes into `running_var`. The tensors are copies on the CPU.
    """
    state = {key: value.detach().to("cpu", copy=True) for key, value in model.state_dict().items()}
    for name, module in model.named_modules():
        # The batch norms beside group norms, of maps pooled to one cell, are never frozen.
        if norm != "gn" and isinstance(module, _BatchNorm) and module.eps != norm_eps:
            state[f"{name}.running_var"] += module.eps - norm_eps
    return state
