"""What classifies and refines a pooled region: convolutions, fully connected layers, two predictors."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.models.norm import ConvNorm, norm_factory
from detector.models.packed import PackedLinear


class BoxHead(nn.Module):
    """Class logits and deltas of pooled regions. Lin et al. 2017, FPN, sec. 4.2; Wu and He 2018, sec. 4.2 (4conv1fc).

    channels, resolution: of the regions; num_conv 3x3 convolutions of conv_head_dim channels come first, then num_fc
    fully connected layers of mlp_head_dim. norm: after each convolution, "none" or a name of `norm_factory`; a
    convolution before a norm has no bias. cls_agnostic: one box for all classes.
    """

    def __init__(
        self,
        channels: int,
        resolution: int,
        num_classes: int,
        *,
        num_conv: int = 0,
        conv_head_dim: int = 256,
        num_fc: int = 2,
        mlp_head_dim: int = 1024,
        norm: str = "none",
        cls_agnostic: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(num_conv):
            layers.append(nn.Conv2d(channels, conv_head_dim, 3, padding=1, bias=norm == "none"))
            if norm != "none":
                layers.append(norm_factory(norm, key="MODEL.ROI_BOX_HEAD.NORM")(conv_head_dim))
            layers.append(nn.ReLU(inplace=True))
            channels = conv_head_dim
        self.resolution, self.cells_first = resolution, False
        self.convs = nn.Sequential(*layers) if norm == "none" else ConvNorm(*layers)
        width = channels * resolution**2
        self.fcs = nn.ModuleList()
        for _ in range(num_fc):
            self.fcs.append(nn.Linear(width, mlp_head_dim))
            width = mlp_head_dim
        self.cls_logits = nn.Linear(width, num_classes + 1)
        self.deltas = nn.Linear(width, 4 * (1 if cls_agnostic else num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, a=1)
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.cls_logits.weight, std=0.01)
        nn.init.normal_(self.deltas.weight, std=0.001)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits [R, C + 1], background last, and deltas [R, C or 1, 4] of regions [R, channels, size, size]."""
        x = self.convs(regions)
        x = (x.permute(0, 2, 3, 1) if self.cells_first else x).flatten(1)
        for fc in self.fcs:
            x = fc(x, "relu") if isinstance(fc, PackedLinear) else F.relu(fc(x))
        dtype = torch.promote_types(x.dtype, torch.float32)
        return self.cls_logits(x).to(dtype), self.deltas(x).to(dtype).unflatten(1, (-1, 4))

    @torch.no_grad()
    def prepare(self) -> None:
        """Turn the first fully connected layer to regions in channels_last, which then need no copy; for prediction."""
        layer = self.fcs[0] if len(self.fcs) else None
        if isinstance(layer, nn.Linear) and not self.cells_first:
            weight = layer.weight.unflatten(1, (-1, self.resolution, self.resolution))
            layer.weight = nn.Parameter(weight.permute(0, 2, 3, 1).flatten(1), False)
            self.cells_first = True
