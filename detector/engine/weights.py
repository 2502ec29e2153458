"""MODEL.WEIGHT: weights only, into a whole detector or into its backbone."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from yacs.config import CfgNode

from detector.models.backbones import BACKBONES, find_weights
from detector.models.detector import Detector
from detector.structures import real_outputs
from detector.weights.load import is_detector, load_backbone, load_detector
from detector.weights.read import read_file

log = logging.getLogger("detector")


def load_weights(
    model: Detector, cfg: CfgNode, classes: Sequence[str] | None = None, *, fine_tune: bool = False
) -> None:
    """Load what MODEL.WEIGHT names: "" nothing, "imagenet" the backbone's record, else a path or an address.

    A file of a detector fills the whole model, any other one the backbone. classes, fine_tune: as in `load_detector`.
    Raises ValueError or OSError naming the file and what does not fit.
    """
    if not cfg.MODEL.WEIGHT:
        return
    entry = BACKBONES[cfg.MODEL.BACKBONE.NAME]
    file = read_file(find_weights(entry.name, cfg.MODEL.WEIGHT))
    if is_detector(file):
        load_detector(model, file, classes, fine_tune=fine_tune)
    else:
        log.info("%s", load_backbone(model.backbone, entry.weights, file))


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
