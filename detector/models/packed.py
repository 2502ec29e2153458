"""Layers in bf16 on a CPU whose weights are laid out once, and which rectify or add what follows them by themselves."""

from collections import Counter
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from detector.models.narrow import is_narrow
from detector.models.winograd import WideConv2d

MAP = (60, 80)  # height and width of a map; by its size oneDNN chooses the layout of weights, of which most fit all
ROWS = 1000  # likewise, of a linear layer's input


class PackedConv2d(nn.Conv2d):
    """A convolution for prediction in bf16 on a CPU, with the weights of another.

    torch lays the weights out anew in each call. Here they are kept twice, the second time as oneDNN wants them.
    rectifies: whether a rectifier behind it is a part of it.
    It gives the plain convolution where that does not apply: other dtypes, gradients, while a graph is made.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        shape: dict[str, Any] = {
            name: getattr(conv, name) for name in ("kernel_size", "stride", "padding", "dilation", "groups")
        }
        bias = conv.bias is not None
        super().__init__(conv.in_channels, conv.out_channels, bias=bias, device="meta", **shape)
        self.weight, self.bias = conv.weight, conv.bias
        self.rectifies = False
        self.shape = list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups
        self.pack()
        self.train(conv.training)

    def pack(self) -> None:
        """Lay the weights out."""
        weight = self.weight.detach().contiguous(memory_format=torch.channels_last)
        self.packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.shape, [1, self.in_channels, *MAP])

    def __getstate__(self) -> dict[str, Any]:
        """Without what cannot be copied."""
        return {name: value for name, value in self.__dict__.items() if name != "packed"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Lay them out again."""
        nn.Module.__setstate__(self, state)
        self.pack()

    def forward(self, input: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H', W'], rectified if it `rectifies`."""
        if not applies(input):
            y = super().forward(input)
            return y.relu_() if self.rectifies else y
        return self.computed(input, "relu" if self.rectifies else "none")

    def computed(self, x: Tensor, then: str) -> Tensor:
        """The convolution of an x that `applies`; then: "relu" or "none"."""
        return torch.ops.mkldnn._convolution_pointwise(_laid_out(x), self.packed, self.bias, *self.shape, then, [], "")

    def summed(self, x: Tensor, other: Tensor, then: str | None) -> Tensor:
        """The convolution of an x that `applies`, plus a tensor of the output's shape; then: "relu" or None."""
        if self.groups > 1:  # torch has no such kernel
            total = self.computed(x, "none").add_(other)
            return total.relu_() if then else total
        return torch.ops.mkldnn._convolution_pointwise.binary(
            _laid_out(x), _laid_out(other), self.packed, self.bias, *self.shape, "add", 1.0, then, [], ""
        )


class PackedLinear(nn.Linear):
    """The same of a linear layer."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.pack()
        self.train(layer.training)

    def pack(self) -> None:
        """Lay the weights out."""
        self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach(), ROWS)

    __getstate__, __setstate__ = PackedConv2d.__getstate__, PackedConv2d.__setstate__

    def forward(self, input: Tensor, then: str = "none") -> Tensor:
        """[..., in] -> [..., out]; then: "relu" or "none"."""
        if not applies(input):
            y = super().forward(input)
            return y.relu_() if then == "relu" else y
        x = input.to(torch.bfloat16).contiguous()
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, then, [], "")


def applies(x: Tensor) -> bool:
    """Whether packed layers compute x in bf16 without gradients."""
    if x.device.type != "cpu" or not x.numel() or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16
    return x.dtype == torch.bfloat16


def packed_for(conv: nn.Module, x: Tensor) -> PackedConv2d | None:
    """The convolution, if it is a packed one that can be computed together with what follows it."""
    if not isinstance(conv, PackedConv2d) or not applies(x) or is_narrow(conv, x):
        return None
    return None if conv.rectifies or conv._forward_hooks or conv._forward_pre_hooks else conv


def conv_plus(conv: nn.Module, x: Tensor, other: Tensor | None) -> Tensor:
    """conv(x) + other, if there is another."""
    if other is None:
        return conv(x)
    packed = packed_for(conv, x)
    return conv(x) + other if packed is None else packed.summed(x, other, None)


def use_packed(model: nn.Module) -> int:
    """Put packed layers in the place of all that are in bf16, in place; returns their number.

    0 where this processor or this torch has no such layers. Those with hooks stay as they are; one that is used in
    several places stays one. A rectifier right behind a convolution of an nn.Sequential becomes a part of it.
    """
    if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return 0
    made: dict[nn.Module, nn.Module] = {}
    places: Counter[nn.Module] = Counter()
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if path and _fits(module):
            if module not in made:
                made[module] = PackedLinear(module) if isinstance(module, nn.Linear) else PackedConv2d(module)  # type: ignore[arg-type]
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, made[module])
            places[made[module]] += 1
    for row in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        layers = [name for name, layer in row.named_children() if type(layer) is not nn.Identity]
        for name, behind in pairwise(layers):
            conv, rectifier = getattr(row, name), getattr(row, behind)
            alone = isinstance(conv, PackedConv2d) and places[conv] == 1
            if alone and type(rectifier) is nn.ReLU and not rectifier._forward_hooks:
                conv.rectifies = True
                setattr(row, behind, nn.Identity())
    return len(made)


def _fits(module: nn.Module) -> bool:
    if type(module) not in (nn.Conv2d, WideConv2d, nn.Linear):
        return False
    if module._forward_hooks or module._forward_pre_hooks:
        return False
    if isinstance(module, nn.Conv2d) and (module.padding_mode != "zeros" or isinstance(module.padding, str)):
        return False
    weight = module.weight
    return weight.dtype == torch.bfloat16 and weight.device.type == "cpu"  # type: ignore[union-attr, operator]


def _laid_out(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
