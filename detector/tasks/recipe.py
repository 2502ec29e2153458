"""The recipe of a pre-training: its settings, and what is made of them: groups, schedule, mixing."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor, nn
from torchvision.transforms import v2

from detector.engine.device import AMP
from detector.engine.optim import STAGES, by_stage, rate_for_batch
from detector.errors import UserError
from detector.models.backbones import Classifier
from detector.ops.soft_targets import DISTILL

BASE = {"sgd": (0.1, 1e-4), "adamw": (1e-3, 0.05)}
"""Optimiser -> its usual learning rate for 256 images a step, and its usual weight decay."""

Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(images, labels [N]) -> (images, labels [N] or probabilities [N, C])."""


@dataclass
class Recipe:
    """What is trained, on what, and how; the fields are the flags of `detector pretrain`.

    data: a folder with train/ and val/, each with a folder for each class; output: where the run is kept; weight: what
    to start from, "" nothing, "imagenet", a path or an address; lr, weight_decay: None takes the optimiser's usual one,
    the rate fitted to the batch by `rate_for_batch`; warmup_epochs: None takes a tenth of them, at most 5;
    mixup, cutmix: alpha of their Beta distribution, 0 is none; ema: decay a step, 0 is none; patience: epochs in a row
    without a better top-1 that end it, 0 is none; passes: how often stages run, 0 as registered; checkpoint_steps:
    between checkpoints inside an epoch, 0 is none; checkpoint_stages: whose activations are computed again in the
    backward pass; tensorboard: whether OUTPUT/tensorboard is written.
    teacher: the backbone that teaches, "" is none; teacher_weight: its weights; distill, temperature: see
    `soft_target_loss`, "" is "kl" where there is a teacher; labels: share of the true labels' cross entropy in the
    loss, the rest is the teacher's; teacher_amp: its precision; unlabelled: folders of further pictures without
    classes; stage_lr_factors: see `by_stage`.
    Raises ValueError naming a flag that is wrong.
    """

    backbone: str
    data: str
    output: str
    epochs: int = 90
    batch_size: int = 64
    optimizer: str = "sgd"
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float | None = None
    warmup_epochs: float | None = None
    label_smoothing: float = 0.1
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0
    patience: int = 0
    amp: str = "off"
    crop: int = 224
    norm: str = "bn"
    passes: int = 0
    weight: str = ""
    workers: int = 4
    seed: int = 0
    checkpoint_steps: int = 1000
    checkpoint_stages: tuple[int, ...] = ()
    device: str = "auto"
    tensorboard: bool = False
    teacher: str = ""
    teacher_weight: str = ""
    distill: str = ""
    temperature: float = 1.0
    labels: float = 0.0
    teacher_amp: str = "off"
    unlabelled: tuple[str, ...] = ()
    stage_lr_factors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        self.data, self.output = os.path.expanduser(self.data), os.path.expanduser(self.output)
        self.unlabelled = tuple(map(os.path.expanduser, self.unlabelled))
        for name in ("epochs", "batch_size"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        self._require("optimizer", self.optimizer in BASE, f"one of {', '.join(BASE)}")
        for name in ("amp", "teacher_amp"):
            self._require(name, getattr(self, name) in AMP, f"one of {', '.join(AMP)}")
        rate, decay = BASE[self.optimizer]
        self.lr = rate * rate_for_batch(self.optimizer, self.batch_size / 256) if self.lr is None else self.lr
        self.weight_decay = decay if self.weight_decay is None else self.weight_decay
        self.warmup_epochs = min(5.0, self.epochs / 10) if self.warmup_epochs is None else self.warmup_epochs
        self._require("lr", 0 < self.lr < math.inf, "above 0")
        for name in ("label_smoothing", "momentum", "ema", "labels"):
            self._require(name, 0 <= getattr(self, name) < 1, "0 or more and below 1")
        for name in ("weight_decay", "mixup", "cutmix", "patience", "workers", "seed", "passes", "checkpoint_steps"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "0 or more")
        self._require("checkpoint_stages", {*self.checkpoint_stages} <= {1, 2, 3, 4}, "numbers from 1 to 4")
        self._require(
            "warmup_epochs", 0 <= self.warmup_epochs < self.epochs, f"0 or more, below --epochs {self.epochs}"
        )
        self._require("temperature", 0 < self.temperature < math.inf, "above 0")
        self._require(
            "stage_lr_factors",
            len(self.stage_lr_factors) in (0, STAGES, STAGES + 1)
            and all(0 < x < math.inf for x in self.stage_lr_factors),
            "five numbers above 0, of the stem and the four stages, or six with the classifier",
        )
        self._check_teacher()

    def _check_teacher(self) -> None:
        if not self.teacher:
            lone = {name: getattr(self, name) for name in ("teacher_weight", "distill", "labels", "unlabelled")}
            lone |= {name: getattr(self, name) != DEFAULTS[name] for name in ("temperature", "teacher_amp")}
            for name in (name for name, value in lone.items() if value):
                raise UserError(f"--{name.replace('_', '-')} is for a student: write --teacher NAME, or leave it out")
            return
        if not self.teacher_weight:
            raise UserError(f"--teacher {self.teacher} needs its weights: write --teacher-weight FILE, or imagenet")
        self.distill = self.distill or DISTILL[0]
        self._require("distill", self.distill in DISTILL, f"one of {', '.join(DISTILL)}")

    def _require(self, name: str, holds: bool, must: str) -> None:
        if not holds:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be {must}")


DEFAULTS = {field.name: field.default for field in fields(Recipe)}
"""Setting -> what it is where nobody names it, and what it was in checkpoints of before it was there."""


def parameter_groups(model: Classifier, recipe: Recipe) -> list[dict[str, Any]]:
    """Weights of convolutions and linear layers with weight decay; norms and biases, which are vectors, without.

    He et al. 2019, sec. 3.1. "base_lr" is what `set_learning_rate` multiplies; rates of the stages as `by_stage` says.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [{**group, "lr": recipe.lr, "base_lr": recipe.lr} for group in groups]
    return by_stage(groups, model.backbone.parts(), recipe.stage_lr_factors) if recipe.stage_lr_factors else groups


def rate_factor(step: int, steps: int, warmup: int) -> float:
    """What the learning rate is multiplied by at `step` (from 0) of `steps`.

    1 / warmup, 2 / warmup, .. 1 in the first `warmup` steps, then half a cosine from 1 to 0, which would be reached
    after the last step. Goyal et al. 2017, sec. 2.2; Loshchilov and Hutter 2017, eq. 5.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def build_mix(recipe: Recipe, num_classes: int) -> Mix:
    """Mixup, CutMix, one of both at random, or nothing. Zhang et al. 2018; Yun et al. 2019.

    Their chance comes from torch's global state, which the loop seeds at every step.
    """
    mixes: list[nn.Module] = []
    if recipe.mixup:
        mixes.append(v2.MixUp(alpha=recipe.mixup, num_classes=num_classes))
    if recipe.cutmix:
        mixes.append(v2.CutMix(alpha=recipe.cutmix, num_classes=num_classes))
    if not mixes:
        return lambda images, labels: (images, labels)
    return v2.RandomChoice(mixes)
