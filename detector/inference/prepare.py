"""A trained model made ready for prediction: norms merged, layers laid out and rounded once."""

import torch
from torch import nn

from detector.engine.device import AMP, chosen_precision
from detector.models.detector import Detector
from detector.models.heads.box_head import BoxHead
from detector.models.norm import fold_norms
from detector.models.packed import use_packed
from detector.models.winograd import use_winograd


@torch.no_grad()
def prepare_for_inference(model: Detector, precision: str = "off") -> Detector:
    """Merge norms into convolutions, lay weights out as they are used, round them to `precision` (as TEST.AMP) once.

    In float32 on a CPU, wide 3x3 convolutions are computed by Winograd's minimal filtering; in bf16 the weights are
    laid out once. In place; the detections are the same but for rounding, and the model is for prediction only.
    """
    merge_norms(model)
    for module in model.modules():
        if isinstance(module, BoxHead):
            module.prepare()
    if dtype := AMP[chosen_precision(model.mean.device, precision)]:
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.to(dtype)
        use_packed(model)
    else:
        use_winograd(model)
    return model


@torch.no_grad()
def merge_norms(model: Detector) -> Detector:
    """Put the model in eval mode and merge its norms into its convolutions, in place."""
    model.eval()
    side = 2 * max(level.stride for level in model.neck.levels.values())  # group norm wants more than one cell
    blank = torch.zeros(1, 3, side, side, dtype=torch.uint8, device=model.mean.device)
    fold_norms(model, lambda: model(blank, [(side, side)]))
    return model
