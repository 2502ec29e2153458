"""Which weights count: what a training starts from, and what a test or a prediction takes."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os.path import realpath  # unlike Path.resolve it bears links in a circle
from pathlib import Path

from yacs.config import CfgNode

from detector.config import config_from_text
from detector.config.reading import leaves, parse
from detector.engine.device import pick_device, say_slow_precisions
from detector.errors import UserError
from detector.files import user_path
from detector.inference.prepare import prepare_for_inference
from detector.models.backbones import BACKBONES, find_weights
from detector.models.build import build_detector
from detector.models.detector import Detector
from detector.tasks.best import best_text
from detector.tasks.compare import compare_tasks
from detector.tasks.resolve import resolve_model
from detector.weights.address import is_address
from detector.weights.checkpoint import BEST, by_step, newest_checkpoint, newest_config, read_checkpoint
from detector.weights.load import is_detector, load_backbone, load_detector, load_without_head, say_report
from detector.weights.read import WeightFile, read_file, read_plain
from detector.weights.schema import check_entries

log = logging.getLogger("detector")

WEIGHT = "MODEL.WEIGHT"

CLASSIFIER = "weights.pth"
"""What a pre-training leaves in its folder for a detector to start from."""


YAML = (".yaml", ".yml")
"""What configs end in."""


@dataclass(frozen=True)
class Trained:
    """The weights of a detector. newest: whether they are the newest of the run in OUTPUT_DIR."""

    file: WeightFile
    newest: bool

    @property
    def classes(self) -> list[str]:
        """Names of the outputs; empty where the file does not know them."""
        return list(self.file.content.get("classes") or ())

    def resolve(self, cfg: CfgNode) -> CfgNode:
        """The config with nothing left open but what only data can say: MODEL.NUM_CLASSES 0 is the checkpoint's."""
        number = cfg.MODEL.NUM_CLASSES or len(self.classes)
        if not number and "config" in self.file.content:
            number = config_from_text(self.file.content["config"], str(self.file.path)).MODEL.NUM_CLASSES
        return resolve_model(cfg, number)


def load_weights(model: Detector, cfg: CfgNode, classes: Sequence[str] | None = None) -> None:
    """Fill a model that is to be trained with what MODEL.WEIGHT names; see `load_detector` for other classes.

    "" is nothing, "imagenet" the backbone's record, else a path or an address: a file of a detector fills the whole
    model, or where its config names another MODEL.HEAD.NAME, what is before the head; any other one the backbone. Of a
    run's folder the newest checkpoint counts. classes: names of the data's classes.
    Raises ValueError or OSError naming the file and what does not fit.
    """
    if not cfg.MODEL.WEIGHT:
        return
    name, run = cfg.MODEL.BACKBONE.NAME, named_run(cfg.MODEL.WEIGHT)
    if run:
        file = _need_run(run, "newest", Path(cfg.OUTPUT_DIR), f"{WEIGHT} {cfg.MODEL.WEIGHT}", CLASSIFIER).file
        log.info("%s %s: its newest checkpoint is %s", WEIGHT, run, file.path.name)
    else:
        file = read_file(find_weights(name, cfg.MODEL.WEIGHT))
    if not is_detector(file):
        say_report(file.path, load_backbone(model.backbone, BACKBONES[name].weights, file))
    elif _head_of(check_entries(file)) in (None, cfg.MODEL.HEAD.NAME):
        load_detector(model, file, classes, fine_tune=True)
    else:
        load_without_head(model, file)


def _head_of(file: WeightFile) -> str | None:
    """MODEL.HEAD.NAME of the config in a file, whose other keys may be of another version; None where it has none."""
    source = str(file.path)
    name = dict(leaves(parse(file.content.get("config") or "", source), source)).get("MODEL.HEAD.NAME")
    return str(name) if name else None


def find_trained(cfg: CfgNode, weight: str | Path | None = None, which: str = "newest") -> Trained:
    """The weights that a test or a prediction takes.

    weight: what the user asks for comes first: the Path of a checkpoint or of a run's folder, or a text as MODEL.WEIGHT
    (which may be a run's folder, too), unless that is "imagenet" or what the run in OUTPUT_DIR started from. Next the
    "newest" or "best" checkpoint of OUTPUT_DIR, whatever it started from. Where there is no run, the config's
    MODEL.WEIGHT counts.
    Raises ValueError or OSError where there is none, or it holds no detector.
    """
    folder = Path(cfg.OUTPUT_DIR)
    if which not in ("newest", "best"):
        raise UserError(f"--which {which}: it must be newest or best")
    if isinstance(weight, Path):
        if weight.is_file():
            return _read_detector(weight, folder)
        return _need_run(weight, which, folder, str(weight))
    if weight == "imagenet":
        log.info("MODEL.WEIGHT imagenet is a backbone's file and detects nothing: the run in %s counts", folder)
    elif weight:
        run = named_run(weight)
        path = run or find_weights(cfg.MODEL.BACKBONE.NAME, weight)
        if not started_from(folder, cfg.MODEL.BACKBONE.NAME, path):
            return _need_run(run, which, folder, f"{WEIGHT} {weight}") if run else _read_detector(path, folder)
        log.info("%s is what the run in %s started from: the run's own weights count", path, folder)
    if found := _of_run(folder, which, folder):
        return found
    if cfg.MODEL.WEIGHT in ("", "imagenet"):
        raise UserError(
            f"OUTPUT_DIR {folder} has no checkpoint and MODEL.WEIGHT names no detector; train first, or write "
            "MODEL.WEIGHT FILE.pth"
        )
    if run := named_run(cfg.MODEL.WEIGHT):
        return _need_run(run, which, folder, f"{WEIGHT} {cfg.MODEL.WEIGHT}")
    return _read_detector(find_weights(cfg.MODEL.BACKBONE.NAME, cfg.MODEL.WEIGHT), folder)


def named_run(weight: str) -> Path | None:
    """The folder that MODEL.WEIGHT names, None where it names something else."""
    if weight in ("", "imagenet") or is_address(weight):
        return None
    path = user_path(weight)
    return path if path.is_dir() else None


def _need_run(run: Path, which: str, folder: Path, said: str, *others: str) -> Trained:
    """`_of_run`, where there must be one, of a detector.

    said: how the folder was named; others: files that may lie there in its place. Raises ValueError with the remedy.
    """
    found = _of_run(run, which, folder)
    if found and is_detector(found.file):
        return found
    name = next((one for one in (BEST, *others) if (run / one).is_file()), None)
    remedy = f"write {run / name}" if name else "name a run's folder or a checkpoint"
    what = f"no checkpoint{' of a detector' * bool(found)}{f' but {name}' * bool(name)}"
    raise UserError(f"{said} holds {what}: {remedy}")


def _of_run(run: Path, which: str, folder: Path) -> Trained | None:
    """The weights of a run, if there is one. folder: what is written to, perhaps another one."""
    if which == "best" and (run / BEST).exists():
        best = read_checkpoint(run / BEST)
        log.info("%s is %s", best.path, best_text(best.content))
        return Trained(best, newest=False)
    file = newest_checkpoint(run)
    if file and which == "best":
        log.info("%s has no %s, which evaluations before the last step write: %s counts", run, BEST, file.path.name)
    return Trained(file, newest=realpath(run) == realpath(folder)) if file else None


def _read_detector(path: Path, folder: Path) -> Trained:
    """A file with a detector in it. folder: of the run that is written to."""
    file = read_file(path)
    if not is_detector(file):
        raise UserError(
            f"MODEL.WEIGHT {path} holds no detector of this framework; `detector convert` makes one of official ones"
        )
    return Trained(check_entries(file), newest=any(newest.samefile(path) for newest in by_step(folder)[:1]))


def started_from(folder: Path, backbone: str, path: Path) -> bool:
    """Whether the run in a folder started from the file `path`: whether its config names it as MODEL.WEIGHT."""
    said = newest_config(folder)
    if said is None:
        return False
    weight = config_from_text(said[1], str(said[0])).MODEL.WEIGHT
    if weight in ("", "imagenet"):
        return False
    if is_address(weight):
        return find_weights(backbone, weight) == path
    return user_path(weight).resolve() == path.resolve()


def load_found(
    cfg: CfgNode,
    found: Trained,
    classes: Sequence[str] | None = None,
    build: Callable[[CfgNode], Detector] = build_detector,
) -> tuple[Detector, list[str], list[int]]:
    """The detector that was found, in eval mode and under its own keys.

    classes: names of the data's classes, for a checkpoint that says none of its own; build: makes the model of a task.
    Returns the model, the names of its classes and their category ids; a checkpoint without them numbers its classes
    from 0.
    """
    facts = found.file.content
    compare_tasks(found.file, cfg)
    model = build(cfg)
    load_detector(model, found.file, classes)
    numbers = list(range(cfg.MODEL.NUM_CLASSES))
    names = list(facts.get("classes") or classes or map(str, numbers))
    return model.eval(), names, list(facts.get("category_ids") or numbers)


def load_trained(
    cfg: CfgNode,
    weight: str | Path | None = None,
    which: str = "newest",
    check: Callable[[Trained, Detector], None] | None = None,
) -> tuple[Detector, list[str], list[int]]:
    """A trained detector, the names of its classes and their category ids; see `find_trained` and `load_found`.

    check: is called with what was found and the detector, and raises where it is not the right one.
    """
    found = find_trained(cfg, weight, which)
    model, names, category_ids = load_found(found.resolve(cfg), found)
    if check:
        check(found, model)
    return model, names, category_ids


def load_for_inference(
    cfg: CfgNode,
    weight: str | Path | None = None,
    which: str = "newest",
    check: Callable[[Trained, Detector], None] | None = None,
) -> tuple[Detector, list[str], list[int]]:
    """`load_trained`, prepared for prediction on MODEL.DEVICE in the precision of TEST.AMP."""
    device = pick_device(cfg.MODEL.DEVICE)
    model, names, category_ids = load_trained(cfg, weight, which, check)
    say_slow_precisions(device, {"TEST.AMP": cfg.TEST.AMP})
    return prepare_for_inference(model.to(device), cfg.TEST.AMP), names, category_ids


def run_config(run: Path, opts: Sequence[str] = ()) -> CfgNode:
    """The config that a run's folder, or a checkpoint, carries, with KEY VALUE overrides on top.

    OUTPUT_DIR is the folder itself, for a checkpoint the folder that it lies in, wherever they were when the config was
    written. Raises ValueError naming what is no run, or has no config.
    """
    if run.is_dir():
        said = newest_config(run)
        if said is None:
            if (run / BEST).is_file():
                raise UserError(f"{run} holds no checkpoint but {BEST}: write {run / BEST}")
            raise UserError(f"{run} holds no checkpoint: name a run's folder, a checkpoint, or --config-file FILE")
        return config_from_text(said[1], str(said[0]), ["OUTPUT_DIR", str(run), *opts])
    if not run.is_file():
        raise UserError(f"{run} is neither a run's folder nor a checkpoint, and there is no such file")
    if run.suffix in YAML:
        raise UserError(f"{run} is a config and no run: write --config-file {run}, in Python load_config({str(run)!r})")
    text = read_plain(run).get("config")
    if not isinstance(text, str):
        raise UserError(f"{run} holds no config: write --config-file FILE MODEL.WEIGHT {run}")
    return config_from_text(text, str(run), ["OUTPUT_DIR", str(run.parent), *opts])
