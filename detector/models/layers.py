"""Layers of necks and heads in SSD's line: convolutions with a bias or a norm, initialised as Caffe's."""

from torch import nn

from detector.models.backbones.resnet import Bottleneck
from detector.models.backbones.trunk import Place, conv_shortcut
from detector.models.norm import ConvNorm, Norm, norm_factory
from detector.models.winograd import WideConv2d


def optional_norm(name: str, key: str) -> Norm | None:
    """The norm layer of a config value: none (None), bn, sync_bn or gn. key: where it stands, for the ValueError."""
    return None if name == "none" else norm_factory(name, key=key)


def conv_layer(channels: int, out: int, kernel: int, stride: int = 1, norm: Norm | None = None) -> nn.Sequential:
    """A convolution that keeps the size but for its stride; with a bias, or with a norm behind it."""
    conv = WideConv2d(channels, out, kernel, stride, kernel // 2, bias=norm is None)
    return _layer(conv, norm)


def deconv_layer(channels: int, norm: Norm | None = None) -> nn.Sequential:
    """A deconvolution to twice the size: [N, channels, H, W] -> [N, channels, 2 * H, 2 * W]."""
    return _layer(nn.ConvTranspose2d(channels, channels, 2, 2, bias=norm is None), norm)


def _layer(conv: nn.Conv2d | nn.ConvTranspose2d, norm: Norm | None) -> nn.Sequential:
    if norm is not None:
        nn.init.normal_(conv.weight, std=0.01)
        return ConvNorm(conv, norm(conv.out_channels))
    initialise_caffe(conv)
    return nn.Sequential(conv)


def initialise_caffe(conv: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Uniform weights in +-sqrt(3 / fan-in), Caffe's "xavier", and zero biases."""
    nn.init.kaiming_uniform_(conv.weight, nonlinearity="linear")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def projection_bottleneck(channels: int, width: int, stride: int, norm: Norm) -> Bottleneck:
    """A bottleneck to 4 * width channels whose shortcut is always a convolution; its stride is in the first 1x1."""
    shortcut = conv_shortcut(channels, width * Bottleneck.expansion, stride, norm)
    block = Bottleneck(channels, width, stride, shortcut, norm, Place(0, 1), stride_in_1x1=True)
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.01)
    return block
