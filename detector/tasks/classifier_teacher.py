"""The teacher of a pre-training: a frozen classification network, and what a student learns of it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from detector.data.image_folder import ImageFolder
from detector.distributed import first_here
from detector.engine.device import autocast
from detector.errors import UserError
from detector.models.backbones import BACKBONES, Classifier, build_backbone, find_weights
from detector.ops.soft_targets import label_loss, soft_target_loss
from detector.tasks.accuracy import PixelInput
from detector.tasks.classifier_weights import load_trained, read_facts
from detector.tasks.measured import state_digest
from detector.tasks.recipe import Recipe
from detector.weights.read import read_file
from detector.weights.record import EPS

FLAGS = {"MODEL.WEIGHT": "--teacher-weight", "MODEL.BACKBONE.NAME": "--teacher"}
"""Config key -> what it is called for a teacher."""


class Teacher:
    """A classification network in evaluation mode, without gradient; digest: of its tensors, as weights.pth has them.

    model: gives logits [N, C]; prepare: from pixels to what its weights expect; norm_eps: of its record.
    """

    def __init__(self, model: nn.Module, prepare: PixelInput, recipe: Recipe, norm_eps: float = EPS) -> None:
        self.model, self.prepare, self.recipe = model.eval().requires_grad_(False), prepare, recipe
        state = model.state_dict()
        for name, module in model.named_modules():  # a checkpoint's are those of weights.pth before `export_state`
            if isinstance(module, FrozenBatchNorm2d) and module.eps != norm_eps:
                key = f"{name}.running_var"
                state[key] = state[key] + (module.eps - norm_eps)
        self.digest = state_digest(state)

    def logits(self, images: Tensor) -> Tensor:
        """Logits [N, C], float32, of RGB pixels [N, 3, H, W] in 0..255: computed in its own precision, not the loop's.

        images: as the student sees them, cropped and mixed.
        """
        device = self.prepare.device
        with torch.no_grad(), torch.autocast(device.type, enabled=False), autocast(device, self.recipe.teacher_amp):
            return self.model(self.prepare(images)).float()

    def losses(self, logits: Tensor, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """What the student's logits [N, C] are off, in weighted terms: from the teacher, and from the true labels.

        images: as in `logits`; labels: [N] in 0..C, or shares [N, C + 1] of a mixed batch, where C is the place of what
        has no label. Of such a picture nothing but the teacher's term counts.
        """
        share, classes = self.recipe.labels, logits.shape[1]
        far = soft_target_loss(logits, self.logits(images), self.recipe.distill, self.recipe.temperature)
        terms = {"distill": (1 - share) * far.mean()}
        if share:
            labels = F.one_hot(labels, classes + 1).to(logits.dtype) if labels.ndim == 1 else labels
            terms["labels"] = share * label_loss(logits, labels[:, :classes], self.recipe.label_smoothing).mean()
        return terms


def load_teacher(recipe: Recipe, device: torch.device, dataset: ImageFolder) -> Teacher:
    """The teacher that a recipe names: a published file, or one of a pre-training, weights or checkpoint.

    Raises ValueError or OSError, naming flag or file, for weights that are not there or do not fit, and for classes
    that are not those of the folders.
    """
    with _named_as_flags():
        entry = BACKBONES[recipe.teacher]
        with first_here():
            file = read_file(find_weights(recipe.teacher, recipe.teacher_weight))
        facts = read_facts(file)
        if facts and facts["backbone"] != recipe.teacher:
            raise UserError(f"{file.path} was trained as {facts['backbone']}: write --teacher {facts['backbone']}")
        norm = "gn" if facts and facts["norm"] == "gn" else "frozen_bn"
        # A checkpoint holds variances as a batch norm measures them, weights.pth as the eps of the record needs them.
        measured = "settings" in file.content and facts.get("norm") == "bn"
        network = build_backbone(recipe.teacher, norm, EPS if measured else None, facts.get("passes", 0))
        model = Classifier(network, len(dataset.classes))
        load_trained(network, model, entry.weights, file, facts, dataset)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Teacher(model, PixelInput(entry.weights.pixels, device), recipe, entry.weights.norm_eps)


@contextmanager
def _named_as_flags() -> Iterator[None]:
    """Errors about a network and its weights speak of the teacher's flags."""
    try:
        yield
    except UserError as error:
        text = str(error)
        for key, flag in FLAGS.items():
            text = text.replace(key, flag)
        raise type(error)(text) from error
