"""The moving average of a network's weights."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Tensors = tuple[Tensor, ...] | list[Tensor]


def average_weights(model: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of a network's weights and running statistics; its first update copies them.

    decay: what stays of the average in an update. Integers, which count batches, are always copied.
    """
    average = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(averages: Tensors, values: Tensors, count: Tensor | int) -> None:
        if averages[0].is_floating_point():
            average(averages, values, count)
        else:
            for mean, value in zip(averages, values, strict=True):
                mean.copy_(value)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)
