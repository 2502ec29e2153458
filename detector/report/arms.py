"""Which runs are seeds of one architecture, an arm; what arms are called, and in which settings they differ."""

import logging
import re
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from yacs.config import CfgNode

from detector.config import config_from_text, get_defaults, load_config
from detector.config.defaults import flat
from detector.config.idle import idle_keys
from detector.engine.history import History, read_log
from detector.errors import FileAccessError, MissingFileError, UserError
from detector.evaluation.seeds import Training
from detector.files import json_bytes
from detector.report.origin import origin_of, why_unfinished
from detector.tasks.cells import MACHINE
from detector.tasks.compare import SILENT, rule_of
from detector.tasks.measured import config_values
from detector.tasks.retest import retest
from detector.text import printable

log = logging.getLogger("detector")

HEAD, BACKBONE = "MODEL.HEAD.NAME", "MODEL.BACKBONE.NAME"

CONFIG, METRICS = "config.yaml", "metrics.json"

TEST_SETS = "DATASETS.TEST"

_SEED = re.compile(r"[._-]*seed[._-]*\d+$")
_LONGEST = 48  # letters of a name that is made of settings

Settings = Mapping[str, Any]
"""Every key of a config with its value, as JSON has them."""


class Run(NamedTuple):
    """A training that was tested.

    folder: of its results; home: of its log and checkpoints, the folder above where several test sets have one each;
    cfg, settings: see `read_settings`; measured: what metrics.json says of the test.
    """

    folder: Path
    home: Path
    cfg: CfgNode
    settings: Settings
    measured: Mapping[str, Any]
    training: Training

    @property
    def seed(self) -> int:
        """SEED."""
        return self.settings["SEED"]


def find_runs(folders: Sequence[str | Path]) -> tuple[list[Path], dict[str, str]]:
    """Folders of runs: those that are one, and those that lie in one that is none; each once, said where named twice.

    In the folder of a comparison its arms come in its order. Of runs that were tested on several sets "FOLDER/SET"
    means FOLDER/*/SET, whether or not there is such a folder. Returns also which of several runs were not tested,
    with the remedy, or are of a comparison and have not come to their end. Raises ValueError or OSError for a folder
    that is not there or has no run, or whose runs were tested on several sets.
    """
    found: dict[Path, Path] = {}
    untested: dict[str, str] = {}
    for folder in map(Path, folders):
        if folder.is_dir() and _is_run(folder):
            _take(found, folder)
            continue
        runs, name = _runs_in(folder), ""
        if not runs:  # of a folder of runs one test set: what compares trainings has its report there
            runs, name = _runs_in(folder.parent), folder.name
            if not any((run / name / METRICS).is_file() for run in runs):
                if not folder.is_dir():
                    raise MissingFileError(
                        f"--runs {folder}: there is no such folder; name a run's, its OUTPUT_DIR, or one of runs"
                    )
                raise UserError(
                    f"--runs {folder} is no run's folder, and there is none in it; name a run's, its OUTPUT_DIR"
                )
        for run in sorted(runs, key=_rank):
            if why := _unfinished_cell(run):
                untested[run.name] = f"not trained to its end: {why}; the comparison's command goes on with it"
                continue
            home = run / name
            if all((home / file).is_file() for file in (METRICS, "results.json")):
                _take(found, home)
            elif not name and (sets := sorted(path.parent.name for path in run.glob(f"*/{METRICS}"))):
                raise UserError(
                    f"--runs {folder}: {run.name} was tested on {', '.join(sets)}; write one of them, "
                    f"{' or '.join(str(folder / one) for one in sets[:2])}"
                )
            else:
                where = f"it has no results{f' on {name}' * bool(name)}"
                untested[run.name] = f"{where}; {retest(home)} makes them"
    return [*found.values()], untested


def _take(found: dict[Path, Path], folder: Path) -> None:
    """Note a run's folder by its real path; say so where it is there already, as it may stand for another one."""
    if (before := found.setdefault(folder.resolve(), folder)) is not folder:
        other = f" (as {before})" * (str(before) != str(folder))
        log.warning("--runs: %s stands there twice%s; it is one run, and counts once", folder, other)


def _rank(folder: Path) -> tuple[int, str]:
    origin = origin_of(folder)
    return (origin.place if origin else 0, folder.name)


def _unfinished_cell(folder: Path) -> str:
    """Why the training of a comparison's cell has no end; "" for one that has, and for other runs."""
    origin = origin_of(folder)
    return why_unfinished(log_of(folder), origin.steps) if origin else ""


def log_of(home: Path) -> History | None:
    """The log of a run, None where it has none."""
    try:
        return read_log(home)
    except MissingFileError:
        return None


def _runs_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and _is_run(path)) if folder.is_dir() else []


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (METRICS, "log.jsonl", CONFIG))


def home_of(folder: Path) -> Path:
    """Where the training that a folder has results of left its log and its checkpoints."""
    above = folder.resolve().parent
    return above if not (folder / CONFIG).is_file() and (above / CONFIG).is_file() else folder


def read_config(home: Path, measured: Mapping[str, Any]) -> CfgNode:
    """The config of a training; where its folder has none, what metrics.json says of it."""
    path = home / CONFIG
    if not path.is_file():
        pairs = [(key, value) for key, value in measured["config"].items() if value != []]
        return load_config(None, [word for pair in pairs for word in pair])
    try:
        text = path.read_text(encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise FileAccessError(f"{path}: {error.strerror or error}") from None
    return config_from_text(text, str(path))


def read_settings(home: Path, measured: Mapping[str, Any]) -> tuple[CfgNode, Settings]:
    """The config of a training, and all its values; those that a test depends on are the test's, in both."""
    cfg = read_config(home, measured).clone()
    cfg.defrost()
    own, said = _plain(flat(cfg)), _plain(flat(get_defaults())) | dict(measured["config"])
    for key, value in {**config_values(said), TEST_SETS: said[TEST_SETS]}.items():
        if key in own and own[key] != value:
            *path, leaf = key.split(".")
            reduce(getitem, path, cfg)[leaf] = tuple(value) if isinstance(value, list) else value
    cfg.freeze()
    return cfg, _plain(flat(cfg))


def group(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ in SEED alone, and in what makes no difference, are seeds of one arm; in order of SEED."""
    arms = defaultdict[bytes, list[Run]](list)
    for run in runs:
        idle = idle_keys(run.cfg).keys()
        kept = {key: value for key, value in run.settings.items() if not is_free(key) and key not in idle}
        arms[json_bytes(kept)].append(run)
    return [sorted(arm, key=lambda run: run.seed) for arm in arms.values()]


def check_seeds(name: str, arm: Sequence[Run]) -> None:
    """Raises ValueError where two runs of an arm have one seed: they are no two draws of what a seed changes."""
    first: dict[int, Run] = {}
    for run in arm:
        if (other := first.setdefault(run.seed, run)) is not run:
            entries = run.measured["config"].get("DATASETS.TEST") or []
            more = max(one.seed for one in arm) + 1
            files = [shlex.quote(str(one.folder / "results.json")) for one in (other, run)]
            truth = shlex.quote(str(entries[0])) if len(entries) == 1 else "ENTRY"
            raise UserError(
                f"{other.folder} and {run.folder} have the same settings ({name}) and the same SEED {run.seed}: name "
                f"one of them. To see what another training changes, train with SEED {more} and name "
                f"both; `detector compare --results {' '.join(files)} --truth {truth} --output FOLDER` says how "
                "these two differ"
            )


def is_free(key: str) -> bool:
    """Whether trainings may differ in a key and be of one architecture and budget."""
    return key in MACHINE or rule_of(key) == SILENT


def arm_names(arms: Sequence[Sequence[Run]]) -> list[str]:
    """Those of their comparison; else head and backbone where those differ; if not enough settings, else folders."""
    if own := _own_names(arms):
        return own
    runs = [arm[0] for arm in arms]
    shown = [key for key in (HEAD, BACKBONE) if len(arms) == 1 or key in differing(runs)]
    names = [" ".join(str(run.settings[key]) for key in shown) for run in runs]
    for name in {*names}:
        alike = [place for place, one in enumerate(names) if one == name]
        keys = differing([runs[place] for place in alike])
        for place in alike:
            told = [f"{key} {_shown(runs[place].settings[key])}" for key in keys]
            names[place] = " ".join([name, *told]).strip()
    if max(map(len, names)) > _LONGEST or len({*names}) < len(names):
        names = [_folder_name(arm) for arm in arms]
    if len({*names}) < len(names):
        names = [str(arm[0].folder) for arm in arms]
    return names


def _own_names(arms: Sequence[Sequence[Run]]) -> list[str]:
    """What a comparison calls the arms; [] where one of the runs is of none, or the names are not one for each arm."""
    found = [{origin.arm if (origin := origin_of(run.home)) else "" for run in arm} for arm in arms]
    names = [next(iter(one)) for one in found if len(one) == 1]
    return names if len({*names} - {""}) == len(arms) else []


def differing(runs: Sequence[Run]) -> list[str]:
    """Keys in which runs differ, but for those that have no effect in any, or make no difference."""
    idle = [idle_keys(run.cfg).keys() for run in runs]
    return [
        key
        for key in runs[0].settings
        if not is_free(key)
        and not all(key in one for one in idle)
        and len({json_bytes(run.settings.get(key)) for run in runs}) > 1
    ]


def settings_of(arms: Mapping[str, Run]) -> dict[str, Any]:
    """What of the settings is the "same" and not as by default, and what "differ"s, by arm where it has an effect."""
    defaults = _plain(flat(get_defaults()))
    idle = {name: idle_keys(run.cfg).keys() for name, run in arms.items()}
    same, differ = {}, {}
    for key in next(iter(arms.values())).settings:
        values = {name: run.settings.get(key) for name, run in arms.items() if key not in idle[name]}
        distinct = {json_bytes(value) for value in values.values()}
        if is_free(key) or not values or distinct == {json_bytes(defaults.get(key))}:
            continue
        if len(distinct) == 1 and len(values) == len(arms):
            same[key] = next(iter(values.values()))
        else:
            differ[key] = values
    return {"same": same, "differ": differ}


def _folder_name(arm: Sequence[Run]) -> str:
    """That of the first run, without its seed where the runs' names differ in that alone."""
    homes = [run.home.resolve() for run in arm]
    names = [home.name for home in homes]
    stems = {_SEED.sub("", home.name) or home.parent.name for home in homes}  # of A/seed0, A/seed1: A
    return stems.pop() if len(names) > 1 and len(stems) == 1 else names[0]


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return msgspec.json.decode(json_bytes(values))


def _shown(value: object) -> str:
    return printable(",".join(map(str, value)) if isinstance(value, list) else str(value))
