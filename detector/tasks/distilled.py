"""Distillation between detectors: a student whose neck learns the levels of a trained one, beside its own losses.

The loop sees a model that gives one loss more. The teacher is no part of what is trained, averaged, counted or kept:
what such a training writes is a plain detector.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from detector.config.defaults import flat
from detector.config.tasks import require_boxes
from detector.distributed import from_main, is_main
from detector.engine.device import AMP, chosen_precision
from detector.errors import MissingFileError, UserError
from detector.files import user_path
from detector.inference.prepare import prepare_for_inference
from detector.models.build import build_detector
from detector.models.detector import Detector
from detector.models.heads.base import shared
from detector.models.necks import FPN
from detector.ops.imitation import channel_divergence, pearson_loss
from detector.structures import Detection, Features, Level, Size, Target, Whole
from detector.tasks.compare import STOPS, Change
from detector.tasks.measured import state_digest
from detector.tasks.resolve import resolve_model
from detector.tasks.trained import Trained, find_trained, load_found, run_config
from detector.text import printable
from detector.weights.checkpoint import newest_config
from detector.weights.read import WeightFile, read_plain

log = logging.getLogger("detector")

LOSS = "loss_distill"
"""What the loss is called beside those of the head."""

FACT = "teacher"
"""The entry of a checkpoint that says who taught: file, digest of its weights, settings that its levels depend on."""

EFFECTIVE = ("MODEL.BACKBONE.", "MODEL.NECK.")
"""Sections of a teacher's config that its levels depend on, beside its weights, pixels and precision .."""

IDLE = ("MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "MODEL.BACKBONE.CHECKPOINT_STAGES")
""".. but for these keys, which are of its own training."""

NUMBER = {"pkd": 4, "cwd": 5}
"""Method -> how many of the finest levels were published with it."""


@dataclass(frozen=True)
class Lesson:
    """What is learned. weight: of the loss, which is summed over the levels."""

    method: str
    levels: tuple[str, ...]
    weight: float
    temperature: float = 1.0

    def loss(self, student: Features, teacher: Features, images: Tensor | float | None = None) -> Tensor:
        """The weighted loss of a batch. images: as `pearson_loss` takes them."""
        if self.method == "pkd":
            distance = partial(pearson_loss, images=images)
        else:
            distance = partial(channel_divergence, temperature=self.temperature, images=images)
        return self.weight * torch.stack([distance(student[name], teacher[name]) for name in self.levels]).sum()


class Teacher:
    """A trained detector of which only the levels count, on pixels as it was trained with; never in training mode.

    precision: as TEST.AMP, its own; whatever the student is trained in does not reach it.
    """

    def __init__(self, detector: Detector, precision: str = "off") -> None:
        self.detector, self.precision = detector.eval().requires_grad_(False), precision

    @torch.no_grad()
    def __call__(self, images: Tensor, sizes: list[Size]) -> Features:
        """The levels of images [N, 3, H, W] uint8 RGB, padded right and bottom, as a `Detector` takes them."""
        dtype = AMP[chosen_precision(images.device, self.precision)]
        with torch.autocast(images.device.type, dtype, enabled=dtype is not None):
            return self.detector.features(images, sizes)


class Distilled(nn.Module):
    """A student as the loop calls it: its losses, and `LOSS`. Its parameters are the student's alone."""

    def __init__(self, student: Detector, teacher: Teacher, lesson: Lesson) -> None:
        super().__init__()
        self.student, self.teacher, self.lesson = student, teacher, lesson

    def forward(
        self, images: Tensor, sizes: list[Size], targets: list[Target] | None = None, whole: Whole | None = None
    ) -> dict[str, Tensor] | list[Detection]:
        """As `Detector.forward`; detections are the student's."""
        if targets is None:
            return self.student(images, sizes)
        wanted = self.teacher(images, sizes)  # first, as what it needs on the way goes before the student's maps come
        features = self.student.features(images, sizes)
        losses = self.student.losses(features, sizes, targets, whole)
        step, parts = (len(images), 1) if whole is None else (len(whole.targets), whole.parts)
        (number,) = shared(features[self.lesson.levels[0]].new_full((1,), step, dtype=torch.float32), parts=parts)
        return {**losses, LOSS: self.lesson.loss(features, wanted, number)}


def check_teacher(cfg: CfgNode) -> None:
    """Raise ValueError, or OSError, where DISTILL does not fit; before data are looked at, and without memory."""
    if cfg.DISTILL.TEACHER:
        own = teacher_config(cfg.DISTILL.TEACHER)
        lesson_of(cfg, _blank(cfg), own, _blank(own))


def add_teacher(student: Detector, cfg: CfgNode, device: torch.device) -> tuple[nn.Module, dict[str, dict[str, Any]]]:
    """The student as the loop calls it, and what its checkpoints say of who teaches; without a teacher the student.

    The student's weights, and chance, stay as they are. Raises as `check_teacher` does, and where the teacher's
    weights cannot be loaded.
    """
    name = cfg.DISTILL.TEACHER
    if not name:
        return student, {}
    require_boxes(cfg.MODEL.TASK, "DISTILL.TEACHER")
    own = teacher_config(name)
    found = _found(own, user_path(name))
    state = torch.get_rng_state()
    own = found.resolve(own)
    detector, _, _ = load_found(own, found)
    torch.set_rng_state(state)
    digest = state_digest(detector.state_dict())
    lesson = lesson_of(cfg, student, own, detector)
    step = found.file.content.get("step")
    levels = ", ".join(f"{name} ({detector.neck.levels[name].channels} channels)" for name in lesson.levels)
    precision = chosen_precision(device, own.TEST.AMP)
    settings = _settings(own, detector, precision)
    log.info(
        "taught by %s (%s with %s%s, %s): %s on %s, weight %g",
        *(found.file.path, own.MODEL.HEAD.NAME, own.MODEL.BACKBONE.NAME, f", step {step:,}" if step else ""),
        *("float32" if precision == "off" else precision, lesson.method, levels, lesson.weight),
    )
    prepared = prepare_for_inference(detector.to(device), precision)
    del prepared.head  # which it needs no more
    return Distilled(student, Teacher(prepared, precision), lesson), {
        FACT: {"file": printable(str(found.file.path)), "digest": digest, "settings": settings}
    }


def counted(student: Detector, cfg: CfgNode) -> tuple[nn.Module, Detector | None]:
    """As `add_teacher`, with a teacher without weights, which is given too; for those who count what a step takes."""
    if not cfg.DISTILL.TEACHER:
        return student, None
    own = teacher_config(cfg.DISTILL.TEACHER)
    teacher = Teacher(_blank(own), own.TEST.AMP)
    return Distilled(student, teacher, lesson_of(cfg, student, own, teacher.detector)), teacher.detector


def compare_teachers(file: WeightFile, now: Mapping[str, dict[str, Any]]) -> None:
    """Raise ValueError where a run is resumed from a checkpoint that another teacher, or none, taught.

    Settings of the same teacher that changed stop the run, or are said, as those of a run itself. now: as `add_teacher`
    gives it.
    """
    was, here = (_who(facts.get(FACT)) for facts in (file.content, now))
    if was[1] == here[1]:
        _compare_settings(file, now)
        return
    told = [f"{name} of weights {digest[:12]}" if digest else "nobody" for name, digest in (was, here)]
    again = f"DISTILL.TEACHER {was[0]}, with those weights in it," if was[1] else "DISTILL.TEACHER ''"
    raise UserError(
        f"{file.path} cannot be resumed, as its training was taught by {told[0]}, and DISTILL.TEACHER is {told[1]}: "
        f"write {again} to resume it, or start anew with OUTPUT_DIR another/folder"
    )


def _compare_settings(file: WeightFile, now: Mapping[str, dict[str, Any]]) -> None:
    old, new = (_settings_of(facts.get(FACT)) for facts in (file.content, now))
    found = [Change(key, old[key], new[key]) for key in new if key in old and old[key] != new[key]]
    told = "; ".join(map(str, found))
    if any(change.rule == STOPS for change in found):
        raise UserError(
            f"{file.path} cannot be resumed, as its teacher had other settings: {told}: write DISTILL.TEACHER "
            f"{file.content[FACT]['file']} with the config that it had, or start anew with OUTPUT_DIR another/folder"
        )
    if found:
        log.warning("resumed with other settings of the teacher than %s had: %s", file.path, told)


def teacher_config(name: str) -> CfgNode:
    """The config of a teacher, which its folder or checkpoint holds. Raises ValueError or OSError with the key."""
    path = user_path(name)
    if not path.exists():
        raise MissingFileError(
            f"DISTILL.TEACHER {name}: there is no such folder or checkpoint; name output/NAME of a trained detector, "
            "or FILE.pth"
        )
    try:
        if path.is_file() and not isinstance(read_plain(path).get("config"), str):
            raise UserError(
                f"{path} holds no config: name a checkpoint that `detector train` or `detector convert` wrote"
            )
        if path.is_dir() and newest_config(path) is None:
            raise UserError(f"{path} holds no checkpoint: name a run's folder, or a checkpoint")
        found = run_config(path)
        require_boxes(found.MODEL.TASK, f"a teacher ({path})")
        return found
    except UserError as error:
        raise UserError(f"DISTILL.TEACHER: {error}") from None


def lesson_of(cfg: CfgNode, student: Detector, own: CfgNode, teacher: Detector) -> Lesson:
    """What DISTILL says, with what it leaves open. Raises ValueError where levels are not those of both, or differ.

    own: the teacher's config.
    """
    node = cfg.DISTILL
    ours, theirs = student.neck.levels, teacher.neck.levels
    both = [name for name in ours if name in theirs]
    told = f"the student's neck has {_shown(ours)}, the teacher's {_shown(theirs)}"
    if missing := [name for name in node.LEVELS if name not in both]:
        remedy = f"write DISTILL.LEVELS [{', '.join(both)}], or fewer" if both else _OTHER_HEAD
        raise UserError(f"DISTILL.LEVELS: {', '.join(missing)} {_are(missing)} not of both: {told}; {remedy}")
    if not both:
        raise UserError(f"DISTILL.TEACHER {node.TEACHER} has no level that the student has: {told}; {_OTHER_HEAD}")
    levels = tuple(node.LEVELS) or tuple(both[: NUMBER[node.METHOD]])
    if unlike := [name for name in levels if ours[name].channels != theirs[name].channels]:
        alike = [name for name in both if name not in unlike and ours[name].channels == theirs[name].channels]
        ways = [f"DISTILL.LEVELS [{', '.join(alike)}]"] * bool(alike)
        if isinstance(student.neck, FPN):  # whose channels are free to choose
            ways.insert(0, f"MODEL.NECK.OUT_CHANNELS {theirs[unlike[0]].channels}")
        differ = ", ".join(f"{name} {ours[name].channels} and {theirs[name].channels}" for name in unlike)
        raise UserError(
            f"DISTILL.TEACHER {node.TEACHER}: student and teacher have other channels, and no method translates them: "
            f"{differ}; write {' or '.join(ways) or 'another teacher'}"
        )
    in_stages = cfg.MODEL.HEAD.NAME == own.MODEL.HEAD.NAME == "faster_rcnn"
    weight = node.WEIGHT if node.WEIGHT != -1 else 6.0 if node.METHOD == "pkd" and in_stages else 10.0
    return Lesson(node.METHOD, levels, weight, node.TEMPERATURE)


_OTHER_HEAD = "take a teacher with a neck of the same name (fcos and faster_rcnn share one, refinedet has its own)"


def _found(cfg: CfgNode, path: Path) -> Trained:
    """The teacher's weights; those that the first process finds, as another training may write into the folder."""
    try:
        chosen = find_trained(cfg, path) if is_main() else None
        found = from_main(None if chosen is None else chosen.file.path)
        return chosen or find_trained(cfg, found)
    except UserError as error:
        raise UserError(f"DISTILL.TEACHER: {error}") from None


def _blank(cfg: CfgNode) -> Detector:
    with torch.device("meta"):
        return build_detector(resolve_model(cfg, num_classes=1))


def _settings(cfg: CfgNode, detector: Detector, precision: str) -> dict[str, str]:
    """What a teacher's levels depend on beside its weights, as text by key. cfg: its own, resolved."""
    parts = {key: value for key, value in flat(cfg).items() if key.startswith(EFFECTIVE) and key not in IDLE}
    mean, std = ([round(x, 6) for x in pixels.flatten().tolist()] for pixels in (detector.mean, detector.std))
    pixels = {"INPUT.PIXEL_MEAN": mean, "INPUT.PIXEL_STD": std, "TEST.AMP": precision}
    return {key: printable(str(value)) for key, value in {**parts, **pixels}.items()}


def _settings_of(fact: object) -> Mapping[str, str]:
    """Those that a checkpoint has; {} where it does not say."""
    found = fact.get("settings") if isinstance(fact, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _who(fact: object) -> tuple[str, str]:
    """File and digest of a teacher as a checkpoint has them; empty where there was none."""
    if not isinstance(fact, Mapping):
        return "", ""
    return str(fact.get("file", "")), str(fact.get("digest", ""))


def _shown(levels: Mapping[str, Level]) -> str:
    return ", ".join(f"{name} ({level.channels} channels, stride {level.stride})" for name, level in levels.items())


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
