"""What every backbone is: its levels, its registration and weight file, its classifier."""

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from torch import Tensor, nn

from detector.errors import UserError
from detector.models.deform import Deformation
from detector.models.norm import Norm, norm_factory
from detector.registry import Registry
from detector.structures import Features, Level
from detector.weights.find import resolve
from detector.weights.record import EPS, Weights

B = TypeVar("B", bound="Backbone")
Builder = TypeVar("Builder", bound="Callable[[Norm], Backbone]")

PARTS = 5

DEFORMABLE = (
    "a ResNet, ResNeXt, SReResNet, SE-ResNet, iResNet or its relatives, a Res2Net or Res2NeXt that is no DLA, or a "
    "ResNeSt (resnet50, res2net101_v1b_26w_4s, resnest50, ..)"
)
"""The networks whose stages can be deformed, in words."""


class Backbone(nn.Module):
    """Images [N, 3, H, W] -> Features. A subclass fills `levels` and defines `forward` and `parts`."""

    levels: dict[str, Level]
    pads_to = 1
    """Pixels that the sides of images are padded to a multiple of, where they are not; a graph of any size cannot."""

    def __init__(self) -> None:
        """Without levels: a subclass fills them."""
        super().__init__()
        self.levels = {}
        self.frozen_parts = 0

    def forward(self, images: Tensor) -> Features:
        """Feature maps of all `levels`; images [N, 3, H, W] float, normalised as the weight record says."""
        raise NotImplementedError

    def parts(self) -> Sequence[Sequence[nn.Module]]:
        """The modules of the five parts that freezing counts: stem, layer1, .. layer4."""
        raise NotImplementedError

    def classifier(self, num_classes: int) -> nn.Sequential:
        """Coarsest level -> logits [N, num_classes]; its children carry the names of the official files."""
        channels = list(self.levels.values())[-1].channels
        fc = nn.Linear(channels, num_classes)
        return nn.Sequential(OrderedDict(avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=fc))

    def freeze(self, at: int) -> None:
        """Takes the gradient from the first `at` parts: 0 none, 1 stem, 2 stem and layer1, .. 5 all.

        Batch norms in them also keep their running statistics in training. Raises ValueError outside 0..5.
        """
        if not 0 <= at <= PARTS:
            raise UserError(f"MODEL.BACKBONE.FREEZE_CONV_BODY_AT is {at}; it must be 0 (no part) to {PARTS} (all)")
        self.frozen_parts = at
        for index, part in enumerate(self.parts()):
            for module in part:
                module.requires_grad_(index >= at)
        self.train(self.training)

    def train(self: B, mode: bool = True) -> B:
        """Sets the mode of all parts but the frozen ones, which stay in evaluation mode."""
        super().train(mode)
        if self.frozen_parts:
            for part in self.parts()[: self.frozen_parts]:
                for module in part:
                    module.eval()
        return self

    def set_passes(self, passes: int) -> None:
        """Runs every stage `passes` times. Raises ValueError in a backbone that has no stages to repeat."""
        raise UserError(
            f"{type(self).__name__} has no stages to repeat {passes} times; set MODEL.BACKBONE.PASSES to 0 for it"
        )

    def set_deformable(self, rule: Deformation) -> None:
        """Makes the 3x3 convolutions of some stages deformable, in place and once, before weights are loaded.

        Raises ValueError in a backbone that cannot, and for groups that do not divide its channels.
        """
        raise UserError(
            f"the stages of this {type(self).__name__} cannot be deformed: set MODEL.BACKBONE.DEFORM_STAGES to "
            f"{[False] * 4} for it, or MODEL.BACKBONE.NAME to {DEFORMABLE}"
        )

    def set_recomputed(self, stages: Collection[int]) -> None:
        """Keeps few activations of some stages, numbers from 1; the backward pass computes the others again.

        See `detector.models.recompute`; of frozen stages nothing is kept anyway.
        Raises ValueError in a backbone that has no such stage.
        """
        self.require_stages(stages, 0)

    def add_stem_level(self) -> None:
        """Puts out the rectified stem too, as level c1 at stride 2, in a backbone that can; else nothing changes."""

    def require_stages(self, stages: Collection[int], number: int) -> None:
        """Raise ValueError unless all of `stages` are in 1..number, the stages whose blocks can be computed again."""
        if missing := sorted(stage for stage in stages if not 1 <= stage <= number):
            has = f"can compute stages 1 to {number} again" if number else "has no stages that it can compute again"
            raise UserError(
                f"{type(self).__name__} {has}: leave {', '.join(f'{stage:g}' for stage in missing)} out of "
                "MODEL.BACKBONE.CHECKPOINT_STAGES"
            )


class BackboneEntry(NamedTuple):
    """A registered backbone: build(norm) makes it with random weights."""

    name: str
    build: Callable[[Norm], Backbone]
    weights: Weights


BACKBONES: Registry[BackboneEntry] = Registry("backbone", "backbones")


def register_backbone(name: str, weights: Weights) -> Callable[[Builder], Builder]:
    """Decorator that files a builder and its weight record under `name`; a plugin uses it as the families here do."""

    def add(build: Builder) -> Builder:
        BACKBONES.register(name)(BackboneEntry(name, build, weights))
        return build

    return add


def list_backbones() -> list[str]:
    """Names of all registered backbones, sorted."""
    return sorted(BACKBONES)


def find_weights(name: str, weight: str = "imagenet") -> Path:
    """The local file of weights for a registered backbone; `weight` and errors as in `detector.weights.find.resolve`.

    Raises KeyError for an unknown name.
    """
    return resolve(weight, name, BACKBONES[name].weights, {entry.name: entry.weights for entry in BACKBONES.values()})


def build_backbone(
    name: str,
    norm: str = "frozen_bn",
    norm_eps: float | None = None,
    passes: int = 0,
    recomputed: Collection[int] = (),
    deformation: Deformation | None = None,
) -> Backbone:
    """A registered backbone with random weights.

    norm_eps: of frozen_bn; None takes it from the weight record. passes: how often each stage runs; 0 is as registered.
    recomputed: numbers of the stages whose activations are computed again in the backward pass. deformation: of some
    stages; None: of none.
    Raises KeyError for an unknown name; ValueError for an unknown norm, for a norm_eps with another norm, and for
    passes or stages that the backbone does not have or that it cannot deform.
    """
    entry = BACKBONES[name]
    if norm_eps is None:
        norm_eps = entry.weights.norm_eps
    elif norm != "frozen_bn":
        raise UserError(f"norm_eps is for frozen_bn only; {norm} always has {EPS}, so leave it out")
    backbone = entry.build(norm_factory(norm, norm_eps))
    if deformation:
        backbone.set_deformable(deformation)
    if passes:
        backbone.set_passes(passes)
    if recomputed:
        backbone.set_recomputed(recomputed)
    return backbone


class Classifier(nn.Module):
    """A backbone and its classifier, under the key names of the official files."""

    def __init__(self, backbone: Backbone, num_classes: int = 1000) -> None:
        """Takes the children of `backbone`, which must not be changed afterwards."""
        super().__init__()
        # A tuple hides both from registration: official keys have no prefix, and no tensor may stand under two names.
        self._stack = (backbone, backbone.classifier(num_classes))
        for module in self._stack:
            for name, child in module.named_children():
                self.add_module(name, child)

    @property
    def backbone(self) -> Backbone:
        """What the children are of."""
        return self._stack[0]

    def features(self, images: Tensor) -> Features:
        """Feature maps of all levels of the backbone."""
        return self.backbone(images)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] -> logits [N, num_classes]."""
        features = self.features(images)
        return self._stack[1](list(features.values())[-1])


def build_classifier(name: str, num_classes: int = 1000, norm: str = "bn") -> Classifier:
    """The classification network of a registered backbone, with random weights. Errors as in `build_backbone`."""
    return Classifier(build_backbone(name, norm), num_classes)
