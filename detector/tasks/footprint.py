"""What a training step of a detector holds in memory, counted without memory: its tensors have sizes and no values."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.batchnorm import _BatchNorm
from yacs.config import CfgNode

from detector.analysis.fake import Assumed, fake_tensors
from detector.analysis.memory import Ledger
from detector.distributed import world_size
from detector.engine.device import autocast
from detector.errors import UserError
from detector.models.build import build_detector
from detector.structures import Size, Target
from detector.tasks.distilled import counted
from detector.tasks.solver import build_optimizer

BOXES = 8
"""Of an image, assumed; COCO has 7 on average."""

PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimiser": "state of the optimiser",
    "average": "average of the weights",
    "teacher": "the teacher",
    "buckets": "gradients on their way to other processes",
    "images": "images",
    "backbone": "activations of the backbone",
    "neck": "activations of the neck",
    "head": "activations of the head",
    "losses": "losses and what assigns boxes",
    "backward": "gradients of activations, and what is computed again",
}
"""What memory goes to, and its words, in the order of a table."""


class Step(NamedTuple):
    """What of a training step decides on its memory, in one process.

    images: of the whole step; size: of the padded images, pixels; precision: as SOLVER.AMP; parts: micro-batches, as
    SOLVER.ACCUM_ITERS; stages: as MODEL.BACKBONE.CHECKPOINT_STAGES.
    """

    images: int
    size: Size
    precision: str = "off"
    parts: int = 1
    stages: tuple[int, ...] = ()


class Memory(NamedTuple):
    """Bytes at the moment of a step when tensors hold the most; parts: their sum by the names of PARTS."""

    total: int
    parts: dict[str, int]


class Footprint:
    """The detector that a config describes, ready to count steps. MODEL.NUM_CLASSES must not be 0.

    What values decide is assumed, see `detector.analysis.fake`. Tensors are those of a step on the CPU; on CUDA they
    are the same but for RoIAlign's, and without what convolutions by rows hold meanwhile. recomputable: stages that
    MODEL.BACKBONE.CHECKPOINT_STAGES could name; least: images of a micro-batch at least. Raises ValueError and KeyError
    as `build_detector` does.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self._fake = FakeTensorMode()
        with torch.device("meta"):
            self._model = build_detector(cfg).train()
            self._called, self._teacher = counted(self._model, cfg)
        with self._fake:
            fake_tensors(self._model)
            if self._teacher is not None:
                fake_tensors(self._teacher)
            tensors = [*self._model.parameters(), *self._model.buffers()]
            self._average = [torch.empty_like(x) for x in tensors] if cfg.SOLVER.EMA_DECAY else []
            self._optimizer = build_optimizer(cfg.SOLVER, self._model)
            self._fill_gradients()
            self._optimizer.step()  # which makes its state
        self._found: dict[Step, Memory] = {}
        self.recomputable = self._stages(cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT)
        # Norms of pooled maps see one value of each image, and a single one has no variance.
        norms = [m for m in self._model.modules() if isinstance(m, _BatchNorm) and m.training]
        self.least = 2 if any(getattr(norm, "pooled", False) for norm in norms) else 1

    def peak(self, step: Step) -> Memory:
        """The memory of a step; of the micro-batches the largest counts, which is not the first one."""
        if step not in self._found:
            self._found[step] = self._run(step)
        return self._found[step]

    def test(self, images: int, size: Size, precision: str) -> int:
        """Bytes of a test in the middle of a training: all that stays of it, a copy of the weights, a batch's maps.

        precision: as TEST.AMP. Of the head only its layers are counted: what is selected from their outputs is small.
        """
        model = self._model.eval()
        with self._fake, Ledger() as ledger, torch.no_grad():
            self._note(ledger, several=True)  # gradients stay until the next step
            ledger.part = "average"
            copy = [torch.empty_like(x) for x in (*model.parameters(), *model.buffers())]
            ledger.part = "images"
            pictures = torch.empty(images, 3, *size, dtype=torch.uint8)
            ledger.restart()
            with autocast(torch.device("cpu"), precision):
                features = model.neck(model.backbone(model.normalize(pictures, [size] * images)))
                getattr(model.head, "fixed_forward", model.head)(features)
            del copy
        model.train()
        return ledger.peak

    def _stages(self, frozen: int) -> list[int]:
        """The stages whose activations are kept, as they are trained, and could be computed again."""
        try:
            self._model.backbone.set_recomputed((1, 2, 3, 4))
        except UserError:  # a plugin's
            return []
        return [number for number in (1, 2, 3, 4) if number >= frozen]

    def _fill_gradients(self) -> None:
        for parameter in self._model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)

    def _run(self, step: Step) -> Memory:
        model, images = self._model, -(-step.images // step.parts)
        model.backbone.set_recomputed(step.stages)
        self._optimizer.zero_grad(set_to_none=True)
        with self._fake, Ledger() as ledger, Assumed(images):
            self._note(ledger, several=step.parts > 1)
            ledger.part = "images"
            pictures = torch.empty(step.images, 3, *step.size, dtype=torch.uint8)[:images]
            targets = [_target(step.size) for _ in range(images)]
            ledger.restart()
            with self._watched(ledger):
                with autocast(torch.device("cpu"), step.precision):
                    losses = self._called(pictures, [step.size] * images, targets)
                total = torch.stack([loss.float() for loss in losses.values()]).sum()
                del losses
                ledger.part = "backward"
                total.backward()
            self._optimizer.step()
        parts = {name: number for name in PARTS if (number := ledger.at_peak[name])}
        return Memory(ledger.peak, parts)

    def _note(self, ledger: Ledger, *, several: bool) -> None:
        """Count what is there before the forward pass."""
        for tensor in [*self._model.parameters(), *self._model.buffers()]:
            ledger.note(tensor, "weights")
        for state in self._optimizer.state.values():
            for value in state.values():
                if isinstance(value, torch.Tensor):
                    ledger.note(value, "optimiser")
        for tensor in self._average:
            ledger.note(tensor, "average")
        if self._teacher is not None:
            for tensor in [*self._teacher.parameters(), *self._teacher.buffers()]:
                ledger.note(tensor, "teacher")
        ledger.part = "gradients"
        if several:
            self._fill_gradients()
        ledger.part = "buckets"
        trained = [p for p in self._model.parameters() if p.requires_grad]
        self._buckets = [torch.empty_like(p) for p in trained] if world_size() > 1 else []

    @contextmanager
    def _watched(self, ledger: Ledger) -> Iterator[None]:
        """A block in which tensors are those of the part that makes them."""
        model, before = self._model, list[str]()
        inner = [x for child in model.head.children() for x in (child.children() if _is_list(child) else [child])]
        names = {model.backbone: "backbone", model.neck: "neck", **dict.fromkeys([model.head, *inner], "head")}
        if self._teacher is not None:
            names |= dict.fromkeys([self._teacher.backbone, self._teacher.neck], "teacher")

        def enter(module: nn.Module, inputs: object) -> None:
            before.append(ledger.part)
            ledger.part = names[module]

        def leave(module: nn.Module, inputs: object, output: object) -> None:
            last = before.pop()
            ledger.part = "losses" if module is model.neck else last

        handles = [module.register_forward_pre_hook(enter) for module in names]
        handles += [module.register_forward_hook(leave) for module in names]
        for parameter in model.parameters():
            if parameter.requires_grad:
                handles.append(
                    parameter.register_post_accumulate_grad_hook(
                        lambda p: None if p.grad is None else ledger.move(p.grad, "gradients")
                    )
                )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _is_list(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList)


def _target(size: Size) -> Target:
    return Target(
        boxes=torch.empty(BOXES, 4),
        labels=torch.empty(BOXES, dtype=torch.int64),
        ignore=torch.empty(0, 4),
        image_id=0,
        original=size,
        draw=1,
    )
