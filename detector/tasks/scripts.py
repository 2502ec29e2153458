"""Training and evaluation as `import detector` offers them: by a config, or by the path of one or of a run."""

import os
from pathlib import Path

from yacs.config import CfgNode

from detector.config import load_config
from detector.errors import UserError, cut
from detector.files import user_path
from detector.inference.formats import exported_form
from detector.tasks import detection
from detector.tasks.detection import Metrics
from detector.tasks.trained import YAML, run_config


def train(cfg: CfgNode | str | os.PathLike[str], resume: bool = False, auto_batch: bool = False) -> Metrics:
    """Train as a config says, evaluating and saving on the way and at the end.

    cfg: what `load_config` gives, or what it takes: the path of a YAML file, or the name of a shipped one.
    resume: continue from the newest intact checkpoint of OUTPUT_DIR (from the start if no run is there); auto_batch:
    take as many images a step as the device has memory for, when resumed as many as before.
    Returns the measures of the end, as `evaluate` does. Errors name file, record, key and remedy; those before the
    first step leave no file behind. NonFiniteError stops a run that diverges and leaves its checkpoints as they are.
    """
    return detection.train(_config(cfg, "train"), resume, auto_batch)


def evaluate(
    cfg_or_run: CfgNode | str | os.PathLike[str], weight: str | Path | None = None, which: str = "newest"
) -> Metrics:
    """Evaluate a trained detector on DATASETS.TEST by its task's measures, and write and print what was found.

    cfg_or_run: the path of a run's folder, of a checkpoint or of an exported file, each of which holds its config; or
    a config, as `train` takes it, whose run lies in its OUTPUT_DIR. weight: the Path of a checkpoint or of a run's
    folder, or a text as MODEL.WEIGHT, to take in place of the run's. which: "newest", or "best" for that of the best
    test.
    Returns the measures by their names, 0..1 or -1 where there is nothing to measure, for each test set. Raises
    ValueError or OSError that names the file, key and remedy.
    """
    if isinstance(cfg_or_run, CfgNode):
        return detection.test(cfg_or_run, weight, which)
    path = _path(cfg_or_run, "evaluate", "a run's folder, a checkpoint, an exported file or a config")
    if path.suffix in YAML:
        return detection.test(load_config(path), weight, which)
    if exported_form(path):
        from detector.tasks.export import evaluate_exported

        return evaluate_exported(path)
    return detection.test(run_config(path), weight or path, which)


def _config(cfg: object, call: str) -> CfgNode:
    if isinstance(cfg, CfgNode):
        return cfg
    return load_config(_path(cfg, call, "a config, or the path of one"))


def _path(value: object, call: str, wanted: str) -> Path:
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise UserError(f"{call}({cut(value)}): pass {wanted}")
    return user_path(os.fspath(value))
