"""What is kept of a training that stops on its way, whatever stopped it."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detector.distributed import follow_main
from detector.engine.run import Run
from detector.errors import UserError


class Statistics:
    """The running statistics of batch norms as a step found them: its losses move them before there is an update."""

    def __init__(self, model: nn.Module) -> None:
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        moved = [(norm.running_mean, norm.running_var, norm.num_batches_tracked) for norm in norms]
        self.buffers = [[b for b in same if b is not None] for same in zip(*moved, strict=True)]
        apart = [norm for norm in norms if not getattr(norm, "synchronised", False)]
        self.apart = [b for norm in apart for b in norm.buffers(recurse=False)]
        self.copies: list[list[Tensor]] = [[b.clone() for b in same] for same in self.buffers]

    def note(self) -> None:
        """Copy them."""
        _copy(self.copies, self.buffers)

    def restore(self) -> None:
        """Put the copies back."""
        _copy(self.buffers, self.copies)

    def share(self) -> None:
        """Take those of the first process, as each measured its own images: what is tested and kept is one model."""
        follow_main(self.apart)


@torch.no_grad()
def _copy(to: list[list[Tensor]], source: list[list[Tensor]]) -> None:
    for targets, tensors in zip(to, source, strict=True):
        if targets:
            torch._foreach_copy_(targets, tensors)  # one call, not one for each of a hundred small tensors


def keep(run: Run, start: int, steps: int) -> str:
    """Write the checkpoint of the finished steps, if it is not there yet; returns what became of them, for a message.

    start: the step that this process began with; steps: of the whole training.
    """
    if run.step == start:
        return "no step was finished, so no checkpoint was written" if run.source is None else _as_it_was(run)
    path = run.checkpoint(last=run.step == steps)
    if run.written != path:
        if not run.whole:
            return _as_it_was(run)
        try:
            run.save(last=run.step == steps)
        except UserError as error:
            return f"{error}; {_as_it_was(run)}"
    return f"step {run.step} of {steps} is kept in {path}: --resume goes on from there"


def _as_it_was(run: Run) -> str:
    newest = run.written or run.source
    return f"--resume goes on from {newest}" if newest else "there is no checkpoint to go on from"
