"""The comparison in whose folder a run lies: of which arm it is there, and what was measured of that arm."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from detector.engine.history import History
from detector.errors import FileAccessError, UserError
from detector.tasks.cells import State, folder_name

SPEED = "speed.json"
"""What was measured of all arms beside their runs: {"arms": {NAME: {"step_s", "image_s", "memory_mb"}}, "device"}; and
with "step_s_rounds" and "image_s_rounds" the times of each round."""

_OF_SEED = re.compile(r"(.+)_seed\d+")


class Origin(NamedTuple):
    """comparison: its folder; arm: the run's name there; place: of the arm among all; steps: of each of its runs."""

    comparison: Path
    arm: str
    place: int
    steps: int | None


def origin_of(home: Path) -> Origin | None:
    """Of the folder of a run, None where it is no cell of a comparison."""
    folder = home.resolve()
    found = _OF_SEED.fullmatch(folder.name)
    if found is None:
        return None
    try:
        state = State(folder.parent)
    except UserError:  # a file of the same name that is something else
        return None
    for place, arm in enumerate(state.arms):
        if folder_name(arm) == found[1]:
            return Origin(folder.parent, arm, place, state.steps(arm))
    return None


def why_unfinished(history: History | None, steps: int | None) -> str:
    """Why a training has not come to its end, "" where it has, or nothing is known. steps: of the whole, if known."""
    if history is None or history.patience is not None:
        return ""
    if history.nonfinite is not None and history.nonfinite >= history.steps:
        return f"losses that are no numbers after step {history.nonfinite}{f' of {steps}' if steps else ''}"
    return f"its log ends at step {history.steps} of {steps}" if steps and history.steps < steps else ""


def read_speed(folders: Sequence[str | Path]) -> dict[str, Any] | None:
    """The first `SPEED` in these folders, None where there is none. Raises ValueError for one that is none."""
    for path in (Path(folder) / SPEED for folder in folders):
        if not path.is_file():
            continue
        try:
            content = msgspec.json.decode(path.read_bytes())
        except OSError as error:
            raise FileAccessError(f"{path}: {error.strerror or error}") from None
        except msgspec.DecodeError as error:
            raise UserError(f"{path} is no JSON: {error}; delete it") from None
        if isinstance(content, dict) and isinstance(content.get("arms"), dict):
            return content
        raise UserError(f'{path} says nothing of times: it holds no "arms"; delete it')
    return None


class Times(NamedTuple):
    """What was measured of arms. arms: by their names, {} for what was not; devices: where; places: files of it."""

    arms: Mapping[str, Mapping[str, Any]]
    devices: Sequence[str]
    places: Sequence[str]


def times_of(homes: Mapping[str, Sequence[Path]], speed: Mapping[str, Any] | None) -> Times:
    """The times of arms, as `speed` has them by name; where it is None, those of the comparisons that runs are of.

    homes: of the runs of each arm.
    """
    arms: dict[str, Mapping[str, Any]] = {}
    devices, places = dict[str, None](), dict[str, None]()
    for name, some in homes.items():
        arms[name] = {}
        known = [(speed, name, "")] if speed else []
        if speed is None:
            origins = [origin for home in some if (origin := origin_of(home))]
            known = [(read_speed([one.comparison]) or {}, one.arm, str(one.comparison)) for one in origins[:1]]
        for content, arm, place in known:
            if isinstance(row := content.get("arms", {}).get(arm), dict):
                arms[name] = row
                places[place] = None
                if content.get("device"):
                    devices[str(content["device"])] = None
    return Times(arms, [*devices], [*places])
