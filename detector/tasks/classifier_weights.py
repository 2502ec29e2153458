"""What a weight file of the pre-training says, and how it fills a classification network."""

import logging
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detector.data.image_folder import ImageFolder
from detector.errors import UserError
from detector.models.backbones import Backbone, Classifier
from detector.text import agreeing, counted
from detector.weights.load import count_outputs, load_backbone, say_report
from detector.weights.read import WeightFile
from detector.weights.record import Weights
from detector.weights.schema import check_entries

log = logging.getLogger("detector")

FACTS = ("backbone", "classes", "norm", "passes", "crop")
"""What a weight file of the pre-training says about itself beside its tensors."""


def read_facts(file: WeightFile) -> dict[str, Any]:
    """The FACTS in a weight file of the pre-training; nothing for any other file."""
    if not file.content.keys() >= set(FACTS):
        return {}
    content = check_entries(file).content
    return {name: content[name] for name in FACTS}


def check_norm(facts: Mapping[str, Any], path: Path, norm: str) -> None:
    """Raise ValueError when a weight file says that it was trained with another kind of norm, batch or group."""
    if facts and (facts["norm"] == "gn") != (norm == "gn"):
        remedy = "write --norm gn" if facts["norm"] == "gn" else "leave --norm out"
        raise UserError(f"{path} was trained with --norm {facts['norm']}: {remedy}")


def check_classes(trained: Sequence[str], path: Path, dataset: ImageFolder) -> None:
    """Raise ValueError with the first difference when a file was trained on other classes than the folders."""
    if list(trained) == dataset.classes:
        return
    pairs = zip_longest(trained, dataset.classes, fillvalue="nothing")
    label, (there, here) = next((label, pair) for label, pair in enumerate(pairs) if pair[0] != pair[1])
    raise UserError(
        f"{path} was trained on {counted(len(trained), 'class|classes')}, {dataset.root} has {len(dataset.classes)} "
        f"class folders; class {label} is {there} there and {here} here: name a folder with the classes of the training"
    )


def load_trained(
    backbone: Backbone,
    model: Classifier,
    weights: Weights,
    file: WeightFile,
    facts: Mapping[str, Any],
    dataset: ImageFolder,
) -> None:
    """Fill a network, with one output for each class folder, for evaluation.

    backbone: the one that `model` was made of. Raises ValueError as `load_backbone` does, and when the file names
    other classes than the folders, or holds another number of outputs, or none.
    """
    path = file.path
    if facts:
        check_classes(facts["classes"], path, dataset)
    load_backbone(backbone, weights, file)  # before the classifier is spoken of: is it a file of this network at all?
    outputs = count_outputs(model, weights, file)
    if outputs is None:
        raise UserError(f"{path} holds a backbone without classifier; `detector pretrain --weight` trains one")
    if outputs != len(dataset.classes):
        raise UserError(
            f"{dataset.root} has {len(dataset.classes)} class folders, {path} has {outputs} outputs and does not name "
            f"them: name a folder with all {counted(outputs, 'class|classes')} (ImageNet's validation set for "
            "published weights), or a weight file that `detector pretrain` trained on these classes"
        )
    load_backbone(model, weights, file)


def load_start(
    backbone: Backbone, model: Classifier, weights: Weights, file: WeightFile, norm: str, classes: Sequence[str]
) -> None:
    """Fill a network to train it further; a classifier of other classes is dropped, and the log says so.

    backbone: the one that `model` was made of. Raises ValueError as `load_backbone` does.
    """
    path, facts = file.path, read_facts(file)
    check_norm(facts, path, norm)
    outputs = count_outputs(model, weights, file)
    if outputs == len(classes) and facts.get("classes", classes) == list(classes):
        report = load_backbone(model, weights, file)
    else:
        report = load_backbone(backbone, weights, file)
        was = "no classifier" if outputs is None else f"a classifier of {outputs} other classes, which is dropped"
        these = f"{agreeing(len(classes), 'this|these')} {counted(len(classes), 'class|classes')}"
        log.warning("%s has %s: that of %s starts anew", path, was, these)
    say_report(path, report)


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
