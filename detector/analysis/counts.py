"""Parameters, multiply-adds and activations of networks, counted on the meta device: no memory, no arithmetic."""

from dataclasses import dataclass
from typing import Any

import torch
import torchvision.ops  # noqa: F401 - registers its operators
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from yacs.config import CfgNode

from detector.config.tasks import BOXES
from detector.errors import UserError
from detector.models.backbones import Classifier, build_backbone
from detector.models.build import build_detector, resolve_parts
from detector.models.saliency import build_saliency
from detector.structures import Size

MIN_SIDE = 32
"""Pixels: the coarsest stride of the backbones; below it a level would have no cell of its own."""

_ATEN = torch.ops.aten
_DEFORM = torch.ops.torchvision.deform_conv2d
_LAYERS = {_ATEN.convolution, _ATEN.mm, _ATEN.addmm, _ATEN.bmm, _ATEN.baddbmm, _DEFORM}


@dataclass(frozen=True)
class Counts:
    """What a network costs for one input.

    params: its parameters, whether they train and are used or not; an affine that is held in buffers (frozen_bn) has
    none. macs: multiply-adds of convolutions and linear layers (matrix products); biases, norms, pooling, sums of
    feature maps and the reading between cells of deformable convolutions are left out. activations: output elements of
    the same layers. Radosavovic et al. 2020, sec. 4. A layer that runs several times counts as often in the latter two.
    """

    params: int
    macs: int
    activations: int

    @property
    def flops(self) -> int:
        """A multiplication and an addition for every multiply-add."""
        return 2 * self.macs

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.params + other.params, self.macs + other.macs, self.activations + other.activations)


class _Activations(TorchDispatchMode):
    """Adds up the output elements of convolutions and matrix products, called through a module or not."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in _LAYERS:
            self.total += out.numel()
        return out


def _deform_flops(x: torch.Size, weight: torch.Size, *rest: Any, out_shape: torch.Size, **named: Any) -> int:  # noqa: ANN401
    """Of a deformable convolution: those of a plain one."""
    return 2 * out_shape.numel() * weight[1:].numel()


@torch.no_grad()
def count(module: nn.Module, *inputs: Any, method: str = "forward") -> tuple[Counts, Any]:  # noqa: ANN401
    """Counts of one call in evaluation mode, and what the call returned, e.g. as input of the next part.

    inputs: arguments of the call, tensors on the device of `module` (meta is enough); method: which one is called.
    """
    module.eval()
    counter = FlopCounterMode(display=False, custom_mapping={_DEFORM: _deform_flops})
    with counter as flops, _Activations() as activations:
        outputs = getattr(module, method)(*inputs)
    params = sum(p.numel() for p in module.parameters())
    return Counts(params, flops.get_total_flops() // 2, activations.total), outputs


def count_classifier(name: str, size: Size = (224, 224), *, norm: str = "bn", passes: int = 0) -> Counts:
    """Counts of a registered backbone with its classifier of 1000 classes, for one image.

    size: of the image, pixels; norm: as MODEL.BACKBONE.NORM, "bn" gives the published numbers; passes: how often each
    stage runs, 0 is as registered. Raises KeyError and ValueError as `build_backbone` does, ValueError for a side
    below 32.
    """
    images = (1, 3, *_checked(size))
    with torch.device("meta"):
        model = Classifier(build_backbone(name, norm, passes=passes))
        return count(model, torch.empty(images))[0]


def count_detector(cfg: CfgNode, size: Size | None = None) -> dict[str, Counts]:
    """Counts of "backbone", "neck" and "head" of the detector that a config describes, for one image.

    A network of salient objects has no neck.

    size: of the network's input, pixels; None is `largest_test_size`. The head counts up to its raw outputs, without
    selection and NMS. That is its `forward`; a head whose arithmetic depends on values, as proposals do, has instead a
    method `fixed_forward(features)` that works on a fixed number of them. Errors as in `build_detector`, and
    ValueError for a side below 32.
    """
    images = (1, 3, *_checked(largest_test_size(cfg) if size is None else size))
    with torch.device("meta"):
        if cfg.MODEL.TASK != BOXES:
            salient = build_saliency(cfg)
            backbone, features = count(salient.backbone, torch.empty(images))
            return {"backbone": backbone, "head": count(salient.head, features)[0]}
        model = build_detector(cfg)
        backbone, features = count(model.backbone, torch.empty(images))
        neck, pyramid = count(model.neck, features)
        method = "fixed_forward" if hasattr(model.head, "fixed_forward") else "forward"
        head, _ = count(model.head, pyramid, method=method)
    return {"backbone": backbone, "neck": neck, "head": head}


def largest_test_size(cfg: CfgNode) -> Size:
    """The largest landscape input of a test, pixels: MIN_SIZE_TEST x MAX_SIZE_TEST, padded to SIZE_DIVISIBILITY.

    With SQUARE_SIZE that square, padded likewise.
    """
    cfg = resolve_parts(cfg)
    step, longest = cfg.DATALOADER.SIZE_DIVISIBILITY, cfg.INPUT.SQUARE_SIZE or cfg.INPUT.MAX_SIZE_TEST
    shortest = cfg.INPUT.SQUARE_SIZE or min(cfg.INPUT.MIN_SIZE_TEST, longest)
    height, width = (-(-side // step) * step for side in (shortest, longest))
    return height, width


def _checked(size: Size) -> Size:
    if min(size) < MIN_SIDE:
        raise UserError(f"input size {size[0]}x{size[1]}: both sides must be {MIN_SIDE} pixels or more")
    return size
