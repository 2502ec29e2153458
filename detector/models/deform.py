"""Deformable convolutions as layers: what stages are deformed by, and in the place of which convolution."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from detector.errors import UserError
from detector.models.narrow import convolve
from detector.ops.deform import deform_conv, deform_conv_by_sampling


class Deformation(NamedTuple):
    """How stages of a backbone are deformed; the fields are MODEL.BACKBONE's DEFORM keys.

    stages: whether each of them is, layer1 first; modulated: whether taps are weighed by masks, too; groups: of the
    channels that are moved alike; doubled: whether a mask is twice a sigmoid, which starts at one, not at a half.
    """

    stages: tuple[bool, ...]
    modulated: bool = True
    groups: int = 1
    doubled: bool = False


class DeformConv2d(nn.Conv2d):
    """A deformable convolution with the weights of another one. Zhu et al. 2019, sec. 3.2.

    It is told its shifts, or has a convolution of its own for them, `conv_offset`.
    """

    conv_offset: nn.Conv2d | None

    def __init__(self, conv: nn.Conv2d, rule: Deformation, *, own_offsets: bool = False) -> None:
        """Raises ValueError where the groups do not divide the channels."""
        shape = conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups
        super().__init__(conv.in_channels, conv.out_channels, *shape, bias=conv.bias is not None, device="meta")  # type: ignore[arg-type]
        if conv.in_channels % rule.groups:
            raise UserError(
                f"MODEL.BACKBONE.DEFORM_GROUPS {rule.groups} does not divide the {conv.in_channels} channels that a "
                "deformable convolution of this backbone takes"
            )
        self.weight, self.bias = conv.weight, conv.bias
        self.modulated, self.doubled, self.by_sampling = rule.modulated, rule.doubled, False
        self.conv_offset = offset_conv(conv, rule) if own_offsets else None
        self.train(conv.training)

    def forward(self, input: Tensor, shifts: Tensor | None = None) -> Tensor:
        """[N, in, H, W] -> [N, out, H', W']; shifts: what `offset_conv` gives; None: the layer's own."""
        return self.convolve(input, self.weight, self.bias, shifts)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, shifts: Tensor | None = None) -> Tensor:
        """`forward` with other filters, into which a norm was folded."""
        if shifts is None:
            if self.conv_offset is None:
                raise TypeError("a deformable convolution without offsets of its own has to be told its shifts")
            shifts = convolve(self.conv_offset, x)
        offsets, masks = shifts, None
        if self.modulated:
            taps = shifts.shape[1] // 3
            offsets, masks = shifts[:, : 2 * taps], shifts[:, 2 * taps :].sigmoid()
            masks = 2 * masks if self.doubled else masks
        compute = deform_conv_by_sampling if self.by_sampling else deform_conv
        return compute(x, weight, bias, offsets, masks, self.stride, self.padding, self.dilation)  # type: ignore[arg-type]


def use_sampling(model: nn.Module) -> None:
    """Let deformable convolutions be computed by operators that every runtime has, in place; for what is exported.

    ONNX's own one, DeformConv, is no operator of OpenVINO nor of older versions of onnxruntime, and no quicker there.
    """
    for module in model.modules():
        if isinstance(module, DeformConv2d):
            module.by_sampling = True


def offset_conv(conv: nn.Conv2d, rule: Deformation, groups: int = 1) -> nn.Conv2d:
    """The convolution that says how the taps of another one move; it starts at zero, so that none does.

    Its channels, for every group of `rule` and tap: 2, an offset down and one to the right, in the order of
    `ops.deform.deform_conv`; and modulated, behind all offsets, 1 of the mask before its sigmoid. groups: its own.
    """
    channels = (3 if rule.modulated else 2) * rule.groups * conv.kernel_size[0] * conv.kernel_size[1]
    # Not drawn: a network with deformable stages starts with the random weights of the one without.
    offsets = skip_init(
        nn.Conv2d, conv.in_channels, channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation, groups,
        device=conv.weight.device, dtype=conv.weight.dtype,
    )  # fmt: skip
    with torch.no_grad():
        offsets.weight.zero_()
        offsets.bias.zero_()
    return offsets
