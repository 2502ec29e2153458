"""What several processes, and micro-batches, ask of a batch and a model, so that a step is the same in all of them."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from detector.distributed import world_size
from detector.structures import Batch, Target, Whole


def padded(batch: Batch, height: int, width: int) -> Batch:
    """A batch whose images are this high and wide, by zeros to the right and at the bottom."""
    here = batch.images
    if here.shape[2:] == (height, width):
        return batch
    images = here.new_zeros(len(here), height, width, 3).permute(0, 3, 1, 2)
    images[:, :, : here.shape[2], : here.shape[3]] = here
    return batch._replace(images=images)


def divided(batch: Batch, number: int, device: torch.device) -> list[Batch]:
    """A batch as micro-batches, of which images m, m + number, .. are the m-th; their targets lie on `device`."""
    targets = [to_device(target, device) for target in batch.targets]
    whole = Whole(targets, number)
    every = (slice(m, None, number) for m in range(number))
    return [Batch(batch.images[own], batch.sizes[own], targets[own], whole) for own in every]


def to_device(target: Target, device: torch.device) -> Target:
    """A target whose tensors lie on `device`; the host does not wait until they are there."""
    moved = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in target.items()}
    return moved  # type: ignore[return-value]


def images_together(model: nn.Module, cfg: CfgNode) -> tuple[int, list[str]]:
    """The images that a trained batch norm measures together, and what would make them more, but for a larger batch.

    They are those of a micro-batch, and with sync_bn those of all processes.
    """
    parts, ways = cfg.SOLVER.ACCUM_ITERS, []
    if parts > 1:
        ways.append("a smaller SOLVER.ACCUM_ITERS")
    if world_size() > 1 and any(type(module) is nn.BatchNorm2d for module in model.modules()):
        parts *= world_size()
        ways += ["MODEL.BACKBONE.NORM sync_bn"] * (cfg.MODEL.BACKBONE.NORM == "bn")
    return max(1, cfg.SOLVER.IMS_PER_BATCH // parts), ways


def unreached(losses: Callable[[nn.Module, Batch], dict[str, Tensor]], model: nn.Module, cfg: CfgNode) -> list[str]:
    """Names of trained parameters that no loss depends on, such as those of a level that the neck does not take.

    losses: as a task gives them of a batch; cfg: resolved.
    """
    step, state = cfg.DATALOADER.SIZE_DIVISIBILITY, deepcopy(model.state_dict())
    side = -(-(cfg.INPUT.SQUARE_SIZE or 128) // step) * step
    target = Target(
        boxes=torch.tensor([[8.0, 8.0, 72.0, 72.0]]),
        labels=torch.zeros(1, dtype=torch.int64),
        ignore=torch.zeros(0, 4),
        image_id=0,
        original=(side, side),
        draw=1,
    )
    both = {**target, "mask": torch.zeros(side, side, dtype=torch.uint8)}  # whatever the task
    batch = Batch(torch.zeros(2, 3, side, side, dtype=torch.uint8), [(side, side)] * 2, [both] * 2)  # type: ignore[list-item]
    torch.stack(list(losses(model, batch).values())).sum().backward()
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    found = [name for name, parameter in trained if parameter.grad is None]
    model.zero_grad(set_to_none=True)
    model.load_state_dict(state)
    return found
