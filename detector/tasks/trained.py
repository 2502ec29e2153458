"""Which weights count: what a training starts from, and what a test or a prediction takes."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from detector.config import config_from_text
from detector.engine.device import pick_device
from detector.inference.prepare import prepare_for_inference
from detector.models.backbones import BACKBONES, find_weights
from detector.models.build import build_detector, resolve_parts
from detector.models.detector import Detector
from detector.structures import real_outputs
from detector.tasks.resolve import resolve_classes
from detector.weights.checkpoint import BEST, best_checkpoint, newest_checkpoint, peek
from detector.weights.load import is_detector, load_backbone, load_detector
from detector.weights.read import State, WeightFile, read_file

log = logging.getLogger("detector")

RUN_FILES = ("config.yaml", "log.jsonl")
"""What lies beside the checkpoints of a run."""


@dataclass(frozen=True)
class Trained:
    """The weights of a detector. newest: whether they are the newest of the run in OUTPUT_DIR."""

    file: WeightFile
    newest: bool

    @property
    def classes(self) -> list[str]:
        """Names of the outputs; empty where the file does not know them."""
        return list(self.file.facts.get("classes") or ())

    def resolve(self, cfg: CfgNode) -> CfgNode:
        """The config with nothing left open but what only data can say: MODEL.NUM_CLASSES 0 is the checkpoint's."""
        number = cfg.MODEL.NUM_CLASSES or len(self.classes)
        if not number and "config" in self.file.facts:
            number = config_from_text(self.file.facts["config"], str(self.file.path)).MODEL.NUM_CLASSES
        return resolve_classes(resolve_parts(cfg), number)


def load_weights(model: Detector, cfg: CfgNode, classes: Sequence[str] | None = None) -> None:
    """Fill a model that is to be trained with what MODEL.WEIGHT names; see `load_detector` for other classes.

    "" is nothing, "imagenet" the backbone's record, else a path or an address: a file of a detector fills the whole
    model, any other one the backbone. classes: names of the data's classes.
    Raises ValueError or OSError naming the file and what does not fit.
    """
    if not cfg.MODEL.WEIGHT:
        return
    name = cfg.MODEL.BACKBONE.NAME
    file = read_file(find_weights(name, cfg.MODEL.WEIGHT))
    if is_detector(file.state):
        load_detector(model, file, classes, fine_tune=True)
    else:
        log.info("%s", load_backbone(model.backbone, BACKBONES[name].weights, file))


def find_trained(cfg: CfgNode, weight: str | None = None, which: str = "newest") -> Trained:
    """The weights that a test or a prediction takes.

    weight: what the user asks for, as MODEL.WEIGHT; it comes first, but for "imagenet" and for the file that the run in
    OUTPUT_DIR started from. Next the run's "newest" or "best" checkpoint, whatever it started from. Where there is no
    run, the config's MODEL.WEIGHT counts. Raises ValueError or OSError where there is none, or it holds no detector.
    """
    folder = Path(cfg.OUTPUT_DIR)
    if which not in ("newest", "best"):
        raise ValueError(f"--which {which}: it must be newest or best")
    if weight == "imagenet":
        log.info("MODEL.WEIGHT imagenet is a backbone's file and detects nothing: the run in %s counts", folder)
    elif weight:
        path = find_weights(cfg.MODEL.BACKBONE.NAME, weight)
        if not started_from(folder, cfg.MODEL.BACKBONE.NAME, path):
            return _read_detector(path, folder)
        log.info("%s is what the run in %s started from: the run's own weights count", path, folder)
    file = newest_checkpoint(folder) if which == "newest" else best_checkpoint(folder)
    if file is None and which == "best" and (file := newest_checkpoint(folder)):
        log.info("%s has no %s: its newest checkpoint counts", folder, BEST)
    if file is not None:
        return Trained(file, newest=which == "newest")
    if cfg.MODEL.WEIGHT in ("", "imagenet"):
        raise ValueError(
            f"OUTPUT_DIR {folder} has no checkpoint and MODEL.WEIGHT names no detector; train first, or write "
            "MODEL.WEIGHT FILE.pth"
        )
    return _read_detector(find_weights(cfg.MODEL.BACKBONE.NAME, cfg.MODEL.WEIGHT), folder)


def _read_detector(path: Path, folder: Path) -> Trained:
    """A file with a detector in it. folder: of the run that is written to."""
    file = read_file(path)
    if not is_detector(file.state):
        raise ValueError(
            f"MODEL.WEIGHT {path} holds no detector of this framework; `detector convert` makes one of official detectors"
        )
    newest = newest_path(folder)
    return Trained(file, newest=newest is not None and newest.resolve() == path.resolve())
