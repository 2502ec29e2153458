"""The moving average of a network's weights."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Tensors = tuple[Tensor, ...] | list[Tensor]


def average_weights(model: nn.Module, decay: float, warmup: bool = False) -> AveragedModel:
    """The exponential moving average of a network's weights and running statistics; its first update copies them.

    decay: what stays of the average in an update; warmup: less of it does after few of them, see `warmed_up`.
    Integers, which count batches, are always copied.
    """

    @torch.no_grad()
    def update(averages: Tensors, values: Tensors, count: Tensor | int) -> None:
        if averages[0].is_floating_point():
            # the model's own count, which lies on the CPU: the one that is given would be waited for
            stays = warmed_up(decay, int(averaged.n_averaged)) if warmup else decay
            get_ema_multi_avg_fn(stays)(averages, values, count)
        else:
            for mean, value in zip(averages, values, strict=True):
                mean.copy_(value)

    averaged = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    return averaged


def warmed_up(decay: float, updates: int) -> float:
    """The decay of an average that was updated so often: at most (1 + n) / (10 + n), about the last ninth of them.

    So the first weights, which know nothing, have no share of it that stays.
    """
    return min(decay, (1 + updates) / (10 + updates))
