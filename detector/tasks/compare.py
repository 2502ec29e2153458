"""What changed between a checkpoint and the run that resumes it: what stops it, what is said, what is silent."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from yacs.config import CfgNode

from detector.config import config_from_text
from detector.config.defaults import flat
from detector.config.idle import idle_keys
from detector.data.sources import Origin
from detector.distributed import world_size
from detector.errors import UserError
from detector.text import counted, printable
from detector.version import versions
from detector.weights.load import listed
from detector.weights.read import WeightFile

log = logging.getLogger("detector")

STOPS, SWITCH, SAID, SILENT = "stops", "stops from or to 0 or (), else said", "said", "silent"

RULES = {
    "": SAID,
    "MODEL.": STOPS,
    "MODEL.WEIGHT": SAID,
    "MODEL.DEVICE": SAID,
    "MODEL.CHANNELS_LAST": SAID,
    "MODEL.BACKBONE.CHECKPOINT_STAGES": SILENT,
    "SOLVER.OPTIMIZER": STOPS,
    "SOLVER.EMA_DECAY": SWITCH,
    "SOLVER.STAGE_LR_FACTORS": SWITCH,  # () is an optimiser of two groups, any others of two for each stage
    "OUTPUT_DIR": SILENT,
    "DATALOADER.NUM_WORKERS": SILENT,
    "DATALOADER.TIMEOUT": SILENT,
    "LOG.": SILENT,
}
"""Key, or section with its dot -> what becomes of a resume that changes it; the longest entry that fits counts."""


ANYWAY = ("MODEL.DEVICE", "MODEL.WEIGHT", "DATASETS.ROOT")
"""What may be another where no step is left."""

TESTING = ("DATASETS.TEST", "TEST.", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST", "MODEL.CHANNELS_LAST", "DATALOADER.")
"""And where a test is."""


class Change(NamedTuple):
    """A key, or what else a run is made of, with its value in the checkpoint and now."""

    key: str
    was: Any
    now: Any

    def __str__(self) -> str:
        """KEY: old -> new."""
        return f"{self.key} {_shown(self.was)} -> {_shown(self.now)}"

    @property
    def rule(self) -> str:
        """What becomes of a resume with this change: STOPS, SAID or SILENT."""
        rule = rule_of(self.key)
        return rule if rule != SWITCH else SAID if self.was and self.now else STOPS


def rule_of(key: str) -> str:
    """Whether changes of a config key stop a resume, are said, or are silent."""
    return RULES[max((e for e in RULES if e in ("", key) or (e.endswith(".") and key.startswith(e))), key=len)]


def changes(was: CfgNode, now: CfgNode) -> list[Change]:
    """The keys whose values differ, but for those that have no effect in either config. Both are resolved."""
    old, new = flat(was), flat(now)
    idle = idle_keys(was).keys() & idle_keys(now).keys()
    return [Change(key, old[key], value) for key, value in new.items() if old[key] != value and key not in idle]


def compare(file: WeightFile, cfg: CfgNode, classes: Sequence[str], pictures: int) -> None:
    """Say what differs between a checkpoint and the run that goes on from it.

    cfg: resolved, as the checkpoint's own is; classes, pictures: of the data. What the tensors mean nothing without
    (the model, its frozen parts, the classes, the kind of optimiser), and an average of the weights that begins or
    ends, raises one ValueError that names all of it, with both values and the remedy. The rest is said once: the
    checkpoints from here on hold the new values.
    """
    path, content = file.path, file.content
    _compare_classes(path, list(content.get("classes") or classes), list(classes))
    found: list[Change] = []
    if isinstance(text := content.get("config"), str):
        try:
            found = changes(config_from_text(text, str(path)), cfg)
        except UserError as error:  # of another version, or of a plugin that is not here
            log.warning("what changed since %s cannot be told: %s", path, error)
    fatal = [change for change in found if change.rule == STOPS]
    if fatal:
        back = " ".join(f"{change.key} {_shown(change.was)}" for change in fatal)
        raise UserError(
            f"{path} cannot be resumed, as its training had other settings: {'; '.join(map(str, fatal))}. Write {back} "
            f"to resume it, or start anew with OUTPUT_DIR another/folder, from its weights if they fit: MODEL.WEIGHT "
            f"{path}"
        )
    said = [change for change in found if change.rule == SAID]
    _check_finished(file, cfg, [change.key for change in said])
    here = versions()
    before = content.get("versions") or here
    said += [
        Change(f"version of {name}", before.get(name), now) for name, now in here.items() if before.get(name) != now
    ]
    if (number := content.get("processes", world_size())) != world_size():
        said.append(Change("processes", number, world_size()))
    if (number := content.get("pictures", pictures)) != pictures:
        said.append(Change("pictures to train on", number, pictures))
    if said:
        log.warning("resumed with other settings than %s had: %s", path, "; ".join(map(str, said)))


def _check_finished(file: WeightFile, cfg: CfgNode, changed: Sequence[str]) -> None:
    """Raise ValueError where all steps are done: what is changed would be written down as if it had been so."""
    step = file.content.get("step")
    if step != cfg.SOLVER.MAX_ITER or "SOLVER.MAX_ITER" in changed:
        return
    tests = cfg.DATASETS.TEST and (not file.content.get("metrics") or "DATASETS.TEST" in changed)
    idle = [key for key in changed if not (key.startswith(ANYWAY) or (tests and key.startswith(TESTING)))]
    if idle:
        out = "leave it out" if len(idle) == 1 else "leave them out"
        raise UserError(
            f"{file.path}: all {counted(step, 'step|steps is|are')} done, and {listed(idle)} would change nothing: "
            f"{out}, or train on with SOLVER.MAX_ITER {2 * step}"
        )


def compare_tasks(file: WeightFile, cfg: CfgNode) -> None:
    """Raise ValueError where a checkpoint is of another MODEL.TASK than the config, which says more than its classes.

    A file that does not say its config, or one that cannot be read here, passes.
    """
    text = file.content.get("config")
    if not isinstance(text, str):
        return
    try:
        was = config_from_text(text, str(file.path)).MODEL.TASK
    except UserError:  # of another version, or of a plugin that is not here
        return
    if was != cfg.MODEL.TASK:
        raise UserError(
            f"{file.path} is of MODEL.TASK {was}, and this config of MODEL.TASK {cfg.MODEL.TASK}: take the config.yaml "
            "of its run, or another OUTPUT_DIR and MODEL.WEIGHT"
        )


def classes_to_resume(file: WeightFile | None) -> tuple[list[str], Origin]:
    """The classes that a resumed run has, whatever else its data have now, and what a message says of them."""
    if file is None:
        return [], Origin()
    return list(file.content.get("classes") or ()), Origin(
        str(file.path),
        f"write the DATASETS of that training to resume it, or start anew from its weights: MODEL.WEIGHT {file.path} "
        "OUTPUT_DIR another/folder",
    )


def _compare_classes(path: Path, was: list[str], now: list[str]) -> None:
    if was == now:
        return
    shared = min(len(was), len(now))
    i = next((i for i in range(shared) if was[i] != now[i]), shared)
    first = [repr(names[i]) if i < len(names) else "none" for names in (was, now)]
    raise UserError(
        f"{path} cannot be resumed, as its training had other classes: {len(was)} ({listed(was)}), and DATASETS.TRAIN "
        f"has {len(now)} ({listed(now)}); class {i} was {first[0]} and is {first[1]}. Write the DATASETS.TRAIN of that "
        f"training to resume it, or start anew from its weights: MODEL.WEIGHT {path} OUTPUT_DIR another/folder"
    )


def _shown(value: object) -> str:
    """A value as the command line takes it."""
    if isinstance(value, tuple):
        return f"'[{', '.join(map(printable, map(str, value)))}]'"
    return printable(str(value)) if value != "" else "''"
