"""MODEL.WEIGHT: weights only, into a whole detector or into its backbone."""

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from yacs.config import CfgNode

from detector.models.backbones import BACKBONES, find_weights
from detector.models.detector import Detector
from detector.structures import real_outputs
from detector.weights.load import load_backbone, load_state
from detector.weights.read import read_weights

log = logging.getLogger("detector")


def load_weights(model: Detector, cfg: CfgNode, *, drop_classifier: bool = False) -> None:
    """Load what MODEL.WEIGHT names: "" nothing, "imagenet" the backbone's record, else a path or an address.

    A file of a detector fills the whole model, any other one the backbone. drop_classifier: for fine-tuning; a
    detector trained on another number of classes then gives everything but its classifier, and says so.
    Raises ValueError or OSError naming the file and what does not fit.
    """
    if not cfg.MODEL.WEIGHT:
        return
    entry = BACKBONES[cfg.MODEL.BACKBONE.NAME]
    path = find_weights(entry.name, cfg.MODEL.WEIGHT)
    state = read_weights(path)
    if is_detector(state):
        load_detector(model, state, str(path), drop_classifier=drop_classifier)
    else:
        log.info("%s", load_backbone(model.backbone, entry.weights, path))


def is_detector(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is a whole detector's of ours: it has a backbone and a head."""
    parts = {key.partition(".")[0] for key in state}
    return {"backbone", "head"} <= parts


def load_detector(model: Detector, state: Mapping[str, Tensor], source: str, *, drop_classifier: bool = False) -> None:
    """Fill a detector strictly; see `load_weights`. source: the file's name, for messages."""
    own = model.state_dict()
    prefixes = tuple(f"head.{name}." for name in model.head.classifier)
    other = [k for k, v in state.items() if k.startswith(prefixes) and k in own and v.shape != own[k].shape]
    if other:
        classes = f"{len(state[other[0]])} class outputs, the config {len(own[other[0]])}"
        if not drop_classifier:
            raise ValueError(
                f"{source} has {classes} ({other[0]}): set MODEL.NUM_CLASSES to what it was trained with; only "
                "training may drop a classifier"
            )
        log.warning("%s has %s: its classifier is dropped and starts anew", source, classes)
    log.info("%s\n%s", source, load_state(model, state, drop=prefixes if other else (), source=source))


def check_classes(content: Mapping[str, Any], source: str, classes: list[str]) -> None:
    """Raise ValueError when a checkpoint names other classes than the data do, or in another order.

    Outputs of the checkpoint that stand for no class do not count.
    """
    names = content.get("classes") or classes
    trained = [name for name, real in zip(names, real_outputs(names, classes), strict=True) if real]
    if trained != list(classes):
        shared = min(len(trained), len(classes))
        i = next((i for i in range(shared) if trained[i] != classes[i]), shared)
        first = [names[i] if i < len(names) else "none" for names in (trained, classes)]
        raise ValueError(
            f"{source} was trained on {len(trained)} classes, the data lists {len(classes)}; class {i} is "
            f"{first[0]!r} there and {first[1]!r} here: evaluate on data with the classes of the training"
        )
