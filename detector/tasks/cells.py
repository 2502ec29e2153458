"""The cells of a comparison: every backbone under every head with every seed, on one data set and one budget."""

import glob
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from yacs.config import CfgNode

from detector.config import KEY, changed_keys, load_config
from detector.config.tasks import require_boxes
from detector.errors import FileAccessError, UserError, cut
from detector.files import json_bytes, write_json
from detector.models.build import build_detector, check_names
from detector.tasks.distilled import check_teacher
from detector.tasks.resolve import resolve_model, scale_to_batch, with_steps
from detector.text import counted

STATE = "comparison.json"
"""What a comparison is, in its folder: the keys of each arm, and what was measured before it began."""

VERSION = 1

TESTS = 4
"""How often a training is measured where SOLVER.TEST_PERIOD is 0: a learning curve has so many points."""

MACHINE = ("OUTPUT_DIR", "SEED", "MODEL.DEVICE", "DATALOADER.NUM_WORKERS", "DATASETS.ROOT", "LOG.TENSORBOARD")
"""Keys that do not make two trainings different, and SEED, which each cell has of its own."""


class Part(NamedTuple):
    """A backbone or a head of a comparison: its name in tables, and the KEY VALUE words that make it."""

    label: str
    words: tuple[str, ...]


class Arm(NamedTuple):
    """An architecture: its name, backbone, head and config, whose SEED and OUTPUT_DIR say nothing yet."""

    name: str
    backbone: str
    head: str
    cfg: CfgNode


class Budget(NamedTuple):
    """What every training may use: so many "steps", "images" that are seen, or "hours"; kind "": as the config says."""

    kind: str = ""
    number: float = 0.0


class Cell(NamedTuple):
    """One training. steps: of it."""

    arm: str
    seed: int
    folder: Path
    steps: int

    @property
    def name(self) -> str:
        """As messages have it."""
        return f"{self.arm}, seed {self.seed}"


def read_part(text: str, key: str, flag: str) -> Part:
    """The part of one argument, `[LABEL:] NAME [KEY VALUE ...]`. key: of its name; flag: that it came with."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"{flag} {cut(text)}: {error}") from None
    label = ""
    if words and words[0].endswith(":"):
        label = words.pop(0)[:-1]
    elif words and ":" in words[0]:
        label, _, words[0] = words[0].rpartition(":")
    if not words or not words[0] or len(words) % 2 == 0:
        raise UserError(
            f'{flag} {cut(text)}: write NAME, or in quotes "NAME KEY VALUE ..", or "LABEL: NAME KEY VALUE .."'
        )
    if KEY.fullmatch(words[0]) and "." in words[0]:
        raise UserError(f"{flag}: {words[0]} is a key; KEY VALUE pairs stand behind another flag, e.g. --output FOLDER")
    name, pairs = words[0], words[1:]
    plain = "_".join([name, *(value for value in pairs[1::2])])
    return Part(label or plain, (key, name, *pairs))


def make_arms(
    config: str | Path | None, opts: Sequence[str], backbones: Sequence[str], heads: Sequence[str], budget: Budget
) -> list[Arm]:
    """Every backbone under every head, in the order of the arguments, with the budget where that is steps or images.

    Where there are no backbones, or no heads, the config's own is the only one. Raises ValueError, KeyError or OSError
    as `load_config` does, for two arms of one name, for parts that do not fit, and without a test set.
    """
    cfg = load_config(config, opts)
    require_boxes(cfg.MODEL.TASK, "detector compare")
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty, and a comparison needs a test set")
    base = cfg.MODEL
    bodies = [read_part(text, "MODEL.BACKBONE.NAME", "--backbones") for text in backbones or [base.BACKBONE.NAME]]
    tops = [read_part(text, "MODEL.HEAD.NAME", "--heads") for text in heads or [base.HEAD.NAME]]
    arms = []
    for top, body in product(tops, bodies):
        # Keys of another head have no effect: so it is in a grid.
        cfg = load_config(config, [*opts, *body.words, *top.words], idle=False)
        check_names(cfg)
        arms.append(Arm(f"{top.label} {body.label}", body.label, top.label, budgeted(cfg, budget)))
    for place, arm in enumerate(arms):
        if folder_name(arm.name) in {folder_name(other.name) for other in arms[:place]}:
            raise UserError(f'two arms are called {arm.name!r}: write "LABEL: NAME .." for one of them')
        _check_parts(arm)
    return arms


def _check_parts(arm: Arm) -> None:
    """Raise ValueError, naming the arm, where its parts do not fit each other; takes no memory."""
    try:
        with torch.device("meta"):
            build_detector(resolve_model(arm.cfg, num_classes=1))
        check_teacher(arm.cfg)
    except UserError as error:
        raise UserError(f"{arm.name}: {error}") from None


def budgeted(cfg: CfgNode, budget: Budget, step_s: float = 0.0) -> CfgNode:
    """The config with MAX_ITER by the budget, and the form of its schedule kept.

    step_s: seconds of a step, for a budget in hours. SOLVER.TEST_PERIOD 0 becomes a quarter of the steps.
    """
    cfg = scale_to_batch(cfg, rate_only=bool(cfg.SOLVER.EPOCHS))
    steps = cfg.SOLVER.MAX_ITER
    if budget.kind == "steps":
        steps = int(budget.number)
    elif budget.kind == "images":
        steps = round(budget.number / cfg.SOLVER.IMS_PER_BATCH)
    elif budget.kind == "hours" and step_s:
        steps = int(budget.number * 3600 / step_s)
    if steps < TESTS:
        raise UserError(_too_few(budget, steps, cfg.SOLVER.IMS_PER_BATCH, step_s))
    if budget.kind and (budget.kind != "hours" or step_s):
        cfg = with_steps(cfg, steps, f"--{budget.kind} {budget.number:g}")
    solver = cfg.SOLVER
    if solver.TEST_PERIOD or solver.EPOCHS:  # of epochs it becomes one of them
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.TEST_PERIOD = -(-solver.MAX_ITER // TESTS)
    cfg.freeze()
    return cfg


def _too_few(budget: Budget, steps: int, images: int, step_s: float) -> str:
    """What is wrong with a budget of fewer steps than TESTS, and the least that is not. images: of a step."""
    given, least = f"--{budget.kind} {budget.number:g}", f"--{budget.kind} {TESTS}"
    if budget.kind == "images":
        least = f"--images {TESTS * images}"
    elif budget.kind == "hours" and step_s:
        # rounded up, as what is written must be enough
        least = f"--hours {math.ceil(TESTS * step_s / 3600 * 10_000 + 1e-9) / 10_000:g}"
    elif budget.kind != "steps":
        given, least = f"SOLVER.MAX_ITER {steps}", f"SOLVER.MAX_ITER {TESTS}"
    number = f"{steps} step{'s' * (steps != 1)} of {counted(images, 'image|images')}"
    return f"{given}: {number}, too few for the {TESTS} points of a learning curve: take {least} or more"


def folder_name(arm: str) -> str:
    """The name of an arm in file names: letters and digits of any script, "-", "." and "_"."""
    return re.sub(r"[^\w.-]+", "_", arm).strip("._") or "arm"


def cells_of(arms: Sequence[Arm], steps: Mapping[str, int], seeds: int, folder: Path) -> list[Cell]:
    """Seed by seed, so that what is done at any time compares all arms. steps: of each arm."""
    return [
        Cell(arm.name, seed, folder / f"{folder_name(arm.name)}_seed{seed}", steps[arm.name])
        for seed in range(seeds)
        for arm in arms
    ]


def decisive(cfg: CfgNode) -> dict[str, Any]:
    """The changed keys that make a training what it is, as JSON has them."""
    kept = {key: value for key, value in changed_keys(cfg).items() if key not in MACHINE}
    return msgspec.json.decode(json_bytes(kept))


def _shown(budget: object) -> str:
    """A budget as it is written on the command line."""
    kind, number = budget if isinstance(budget, list) and len(budget) == 2 else ("", 0)
    return f"--{kind} {number:g}" if kind else "of the config"


class State:
    """FOLDER/comparison.json: of each arm its keys, its steps and its measured pace; they stay when the run goes on."""

    def __init__(self, folder: Path) -> None:
        """What is there. Raises ValueError for a file that is none of ours, OSError for one that cannot be read."""
        self.path = folder / STATE
        self.arms: dict[str, dict[str, Any]] = {}
        try:
            content = msgspec.json.decode(self.path.read_bytes())
        except FileNotFoundError:
            return
        except OSError as error:
            raise FileAccessError(f"{self.path}: {error.strerror or error}") from None
        except msgspec.DecodeError:
            content = None
        arms = content.get("arms") if isinstance(content, dict) and content.get("version") == VERSION else None
        if not isinstance(arms, dict) or not all(isinstance(arm, dict) for arm in arms.values()):
            raise UserError(f"{self.path} is no comparison's: write --output another/folder, or delete it")
        self.arms = arms

    def steps(self, arm: str) -> int | None:
        """Of an arm that began already."""
        number = self.arms.get(arm, {}).get("steps")
        return number if isinstance(number, int) else None

    def goes_on(self, arm: Arm, budget: Budget) -> tuple[Arm, dict[str, Any]] | None:
        """An arm with the steps that it was given before, and its pace; None where it is new.

        Where none of its trainings has begun, other settings make it new. Raises ValueError, naming the keys, where one
        has.
        """
        before = self.arms.get(arm.name)
        if before is None:
            return None
        steps, hours = self.steps(arm.name), budget.kind == "hours"
        if hours and steps is not None and before.get("budget") == [*budget]:
            arm = arm._replace(cfg=budgeted(arm.cfg, Budget("steps", steps)))
        now, keys = decisive(arm.cfg), before.get("keys")
        keys = keys if isinstance(keys, dict) else {}
        differ = sorted(key for key in {**keys, **now} if keys.get(key, "default") != now.get(key, "default"))
        if hours and before.get("budget") != [*budget]:
            differ = ["the budget"]
            keys, now = {"the budget": _shown(before.get("budget"))}, {"the budget": _shown([*budget])}
        if not differ and isinstance(before.get("pace"), dict) and steps is not None:
            return arm, before["pace"]
        if not any(self.path.parent.glob(f"{glob.escape(folder_name(arm.name))}_seed*/log.jsonl")):
            return None
        told = "; ".join(f"{key} {keys.get(key, 'default')} -> {now.get(key, 'default')}" for key in differ[:3])
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise UserError(
            f"{self.path}: {arm.name} began with other settings ({told}{more}): write what it began with, or another "
            f"LABEL: for it, or delete {self.path.parent / folder_name(arm.name)}_seed* to train it anew"
        )

    def note(self, arm: Arm, budget: Budget, pace: Mapping[str, Any], steps: int) -> None:
        """Take an arm that begins. steps: of each of its trainings, also where the config counts epochs."""
        known = {"keys": decisive(arm.cfg), "budget": [*budget], "steps": steps, "pace": dict(pace)}
        self.arms[arm.name] = msgspec.json.decode(json_bytes(known))

    def write(self) -> None:
        """File it."""
        write_json(self.path, {"version": VERSION, "arms": self.arms})
