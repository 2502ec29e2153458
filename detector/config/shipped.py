"""The YAML files that travel with the package, found by name from any folder."""

import os
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from detector.errors import MissingFileError, UserError
from detector.files import user_path

PACKAGE = Path(__file__).resolve().parents[1]
SUFFIX = ".yaml"
YAML = (SUFFIX, ".yml")


def find_config(name: str | Path) -> Path:
    """The config file of a path or a name: an existing file, else the shipped NAME or NAME.yaml.

    Raises FileNotFoundError with the nearest names, ValueError for a file of Python.
    """
    path = user_path(name)
    if path.is_file():
        if path.suffix == ".py":
            raise UserError(
                f"{path} is Python, and a config is YAML: write its keys into a YAML, and those of mmdetection or "
                "detectron2 are answered with what to write now"
            )
        return path
    found = shipped_config(name)
    if found is None and (path / "config.yaml").is_file():  # a run's folder
        return path / "config.yaml"
    if found is None and path.is_dir():
        raise MissingFileError(f"{path} is a folder and no config file; name a file in it{near_text(name, path)}")
    if found is None:
        raise MissingFileError(f"{path}: no such config file{near_text(name, path)}")
    return found


def shipped_configs() -> list[str]:
    """The names of all shipped files, without the ending: "fcos/sreresnet50_1080"."""
    folder = shipped_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*" + SUFFIX))


def shipped_folder() -> Path:
    """Where the shipped files lie: inside an installed package, beside the package in a checkout."""
    return PACKAGE.parent / "configs" if in_checkout() else PACKAGE / "configs"


def in_checkout() -> bool:
    """Whether the shipped files are those of a checkout, which one may edit."""
    return not (PACKAGE / "configs").is_dir()


def shipped_name(path: Path) -> str:
    """The name of a shipped file, "fcos/resnet50_1080"; "" for any other."""
    place, folder = path.resolve(), shipped_folder().resolve()
    return place.relative_to(folder).with_suffix("").as_posix() if place.is_relative_to(folder) else ""


def shipped_config(name: str | Path) -> Path | None:
    """The shipped file NAME or NAME.yaml; None where there is none."""
    if Path(name).is_absolute():
        return None
    candidates = [shipped_folder() / name, shipped_folder() / f"{name}{SUFFIX}"]
    return next((path for path in candidates if os.path.isfile(path)), None)


def near_text(name: str | Path, place: Path) -> str:
    """The end of a message about a missing file: the files and the shipped names most like it.

    place: where it was looked for.
    """
    text = Path(name).as_posix().removesuffix(SUFFIX)
    names = shipped_configs()
    same_end = [one for one in names if one.rpartition("/")[2] == text.rpartition("/")[2]]
    near = list(dict.fromkeys([*same_end, *get_close_matches(text, names, n=3, cutoff=0.75)]))[:3]
    there = near_files(place)
    return f"; there is {', '.join(there)}" * bool(there) + f"; shipped ones like it: {', '.join(near)}" * bool(near)


def near_files(path: Path) -> list[str]:
    """At most three YAML files in the folder of a missing one whose names are like its own, the likest first."""
    stem = path.stem if path.suffix in YAML else path.name
    with suppress(OSError):
        stems = {one.name: one.stem for one in sorted(path.parent.iterdir()) if one.suffix in YAML and one.is_file()}
        likest = get_close_matches(stem, {*stems.values()}, n=3, cutoff=0.75)
        return [str(path.with_name(name)) for like in likest for name, its in stems.items() if its == like][:3]
    return []
