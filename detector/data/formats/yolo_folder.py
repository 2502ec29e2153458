"""A folder in YOLO's layout: its data.yaml or what stands for it, and the pictures of its splits."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detector.config.reading import MAX_BYTES, parse
from detector.data.formats.yolo_darknet import SPLITS, in_other_letters, read_folder, read_lines
from detector.data.problems import Finding, Problems, declare, named
from detector.data.suffixes import SUFFIXES
from detector.errors import MissingFileError, UserError, cut
from detector.files import user_path
from detector.text import agreeing, counted, forms

MISSING = declare(
    "yolo-missing-picture",
    "error",
    "pictures that a list names are not there",
    "Fetch them, or delete their lines from the list.",
)
PASSED = declare(
    "yolo-passed-over",
    "note",
    "files in the folders of the pictures are no pictures that can be read",
    "Convert them to JPEG or PNG if they are pictures.",
)
TWO_PLACES = declare(
    "yolo-two-places",
    "warning",
    "a split names a folder outside, while one of the same name is beside the file",
    "Delete the leading ../ in the file, or the folder that is not meant.",
)

MOVED = declare(
    "yolo-moved",
    "note",
    "paths of another machine are found by their ends",
    "Write paths from the folder of the file, so that it can be moved.",
)
NO_SPLIT = declare(
    "yolo-missing-split",
    "warning",
    "splits of the file are not there",
    "Fetch their pictures, or delete their lines.",
)
UNCLAIMED = declare(
    "yolo-in-no-split",
    "note",
    "pictures lie in no split",
    "Add their folder to a split if they are meant, e.g. train: [images/train, images/extra].",
)

ALL = "all"
"""The split of every picture that another split has."""

NAMES = ("data.yaml", "dataset.yaml", "data.yml", "dataset.yml")

_WORDS = {
    "val": ("val", "valid", "validation"),
    "valid": ("valid", "val", "validation"),
    "validation": ("validation", "val", "valid"),
}
_SILENT = (".txt", ".cache", ".npy", ".xml", ".json", ".yaml", ".yml", ".csv", ".names", ".data", ".labels", ".md")
_NOTHING = ("", "null", "Null", "NULL", "~")
_OTHER = {"path", "names", "nc", "download", "kpt_shape", "flip_idx", "channels", "roboflow"}
_NO_PICTURES = "file|files is|are passed over: no picture|pictures that can be read"
_IN_NO_SPLIT = "picture|pictures lies|lie in no split and is|are passed over"
_NODES = 100_000  # the names of twenty thousand classes


class Layout(NamedTuple):
    """What a data set says of itself.

    path: its YAML file, or the folder where there is none; root: what its paths start from, in order of preference;
    splits: name -> what stands there, folders or lists of pictures; pose: numbers in a line of a pose, 0 for none,
    None where nothing is said of poses; named: whether the classes have names, else they are called by their numbers;
    gone: what it says of its root, where that is no folder here.
    """

    path: Path
    roots: tuple[Path, ...]
    classes: list[str]
    splits: dict[str, list[str]]
    pose: int | None = None
    named: bool = True
    gone: str = ""


def find_layout(place: Path) -> Layout:
    """The layout of a folder, or of a YAML file, or of darknet's obj.data.

    Raises FileNotFoundError where there is neither, ValueError naming file, key and remedy for what cannot be used.
    """
    if place.is_file():
        return _from_folder(place.parent, place) if place.suffix == ".data" else _from_yaml(place)
    if not place.is_dir():
        raise MissingFileError(f"{place}: there is no such folder, nor a YAML file of this name")
    if path := yaml_of(place):
        return _from_yaml(path)
    return _from_folder(place)


def yaml_of(folder: Path) -> Path | None:
    """The YAML file of a folder: data.yaml, dataset.yaml or its only one. Raises ValueError where there are several."""
    if path := next((folder / name for name in NAMES if (folder / name).is_file()), None):
        return path
    found = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml") and path.is_file())
    if len(found) > 1:
        raise UserError(
            f"{folder} has {len(found)} YAML files ({', '.join(path.name for path in found[:5])}); name the one that "
            f"is meant: yolo:{found[0]}:SPLIT"
        )
    return found[0] if found else None


def _from_folder(folder: Path, file: Path | None = None) -> Layout:
    found = read_folder(folder, file)
    return Layout(file or folder, found.roots, found.classes, found.splits)


def _from_yaml(path: Path) -> Layout:
    with path.open("rb") as file:
        tree = parse(file.read(MAX_BYTES + 1), str(path), nodes=_NODES)
    beside, said, gone = path.parent, tree.get("path"), ""
    roots = [beside]
    if isinstance(said, str) and said not in _NOTHING:
        # A relative one is meant from the file, or from a folder of all data sets that we do not know.
        roots = [root for root in (beside / user_path(said), user_path(said)) if root.is_dir()][:1] + roots
        gone = said if len(roots) == 1 else ""
    splits = {key: _texts(path, key, tree[key]) for key in _keys(tree, roots)}
    classes = _classes(path, tree, roots)
    return Layout(path, tuple(dict.fromkeys(roots)), classes, splits, _pose(path, tree), not _nameless(tree), gone)


def _keys(tree: dict[str, Any], roots: Sequence[Path]) -> list[str]:
    """The keys that name pictures: those of YOLO, and others that name what is there."""
    return [
        key
        for key, value in tree.items()
        if (key in SPLITS and value not in _NOTHING)
        or (key not in _OTHER and isinstance(value, str) and value and any((root / value).exists() for root in roots))
    ]


def _texts(path: Path, key: str, value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    found = [one for one in values if isinstance(one, str) and one]
    if not found or len(found) < len(values):
        raise UserError(f"{path}: {key} is {cut(value)}; write a folder, a list of folders, or a text file of pictures")
    return found


def _classes(path: Path, tree: dict[str, Any], roots: Sequence[Path]) -> list[str]:
    names, number = tree.get("names"), tree.get("nc")
    if isinstance(names, str) and not _nameless(tree):
        file = next((root / names for root in roots if (root / names).is_file()), None)
        if file is None:
            raise UserError(f"{path}: names is {cut(names)}; write the names as a list, or as a map from numbers")
        names = read_lines(file)
    if _nameless(tree):
        if not isinstance(number, str) or not number.isdecimal() or not 0 < int(number) < _NODES:
            raise UserError(f"{path}: there are no names; list the classes: names: [cat, dog]")
        return [f"class_{i}" for i in range(int(number))]
    if isinstance(names, dict):
        names = _listed(path, names)
    found = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    if not isinstance(names, list) or not found or len(found) != len(names):
        raise UserError(f"{path}: names is {cut(names)}; write the names as a list, or as a map from numbers")
    if number not in (None, *_NOTHING, str(len(found)), f"{len(found)}.0"):
        raise UserError(f"{path}: nc is {cut(number)}, but names has {len(found)}; mend the one or the other")
    return found


def _nameless(tree: dict[str, Any]) -> bool:
    return tree.get("names") is None or tree["names"] in _NOTHING


def _listed(path: Path, names: dict[str, object]) -> list[object]:
    """The values of a map from numbers, which have to be 0, 1, .. in any order."""
    numbers = {int(key): value for key, value in names.items() if key.isascii() and key.isdecimal()}
    missing = next((i for i in range(len(names)) if i not in numbers), None)
    if missing is not None:
        raise UserError(
            f"{path}: names has {counted(len(names), 'entry|entries')}, but none for class {missing}; number the "
            "classes 0, 1, .. without gaps, as their lines in the label files do"
        )
    return [numbers[i] for i in range(len(names))]


def _pose(path: Path, tree: dict[str, Any]) -> int | None:
    if "kpt_shape" not in tree:
        return None
    shape = tree["kpt_shape"]
    if shape is None or shape in _NOTHING:
        return 0
    if not (isinstance(shape, list) and len(shape) == 2 and all(str(n).isdecimal() for n in shape)):
        raise UserError(
            f"{path}: kpt_shape is {cut(shape)}; write the number of points and of values each, e.g. [17, 3]"
        )
    return 5 + int(shape[0]) * int(shape[1])


# ---------------------------------------------------------------------------- pictures


class Pictures(NamedTuple):
    """The pictures of a split: sorted paths; folders: those that were walked; lists: folders of the lists."""

    paths: list[str]
    folders: list[str]
    lists: list[str]


def find_pictures(layout: Layout, split: str, problems: Problems) -> Pictures:
    """The pictures of a split. Folders are walked, hidden files passed over, links followed once.

    Raises FileNotFoundError for a split, folder or list that is not there, ValueError for one without any picture,
    unless it is told of each that a list names that it is missing.
    """
    paths: dict[str, None] = {}
    folders, lists = [], []
    other: list[str] = []
    places = _places(layout, split, problems)
    for place in places:
        if os.path.isdir(place):
            folders.append(place)
            found, passed = _walk(place)
            paths |= dict.fromkeys(found)
            other += passed
        else:
            lists.append(os.path.dirname(place) or ".")
            paths |= dict.fromkeys(_listed_pictures(Path(place), layout, problems))
    if other:
        line = named(layout.path, len(other), agreeing(len(other), _NO_PICTURES), other, "e.g.")
        problems.several(line, range(len(other)), lambda i: Finding(PASSED, f"{other[i]}: no picture", other[i]))
    if split == ALL and ALL not in layout.splits and not lists:
        rest = _in_no_split(layout.roots[0], set(map(os.path.abspath, paths)))
        line = named(layout.path, len(rest), agreeing(len(rest), _IN_NO_SPLIT), rest, "e.g.")
        problems.several(
            line, range(len(rest)), lambda i: Finding(UNCLAIMED, f"{rest[i]} lies in no split", rest[i], rest[i])
        )
    if not paths and not any(one.kind == MISSING for one in problems.findings):
        raise UserError(
            f"{layout.path}: split {split!r} has no picture in {', '.join(places)}; it takes "
            f"{', '.join(sorted(SUFFIXES))}"
        )
    found = sorted(paths)
    if len(places) > 1 or lists:  # which may name a picture in two ways
        whole = {os.path.abspath(path): path for path in reversed(found)}
        found = [whole[path] for path in sorted(whole)]
    return Pictures(found, folders, lists)


def _in_no_split(root: Path, known: set[str]) -> list[str]:
    """The pictures in folders called images, in a folder or those in it, that are not among the known paths."""
    homes = [one for pattern in ("images", "*/images") for one in sorted(root.glob(pattern)) if one.is_dir()]
    found = dict.fromkeys(path for home in homes for path in sorted(_walk(str(home))[0]))
    return [path for path in found if os.path.abspath(path) not in known]


def _places(layout: Layout, split: str, problems: Problems) -> list[str]:
    """The folders and lists of a split; of `all`, those that are there."""
    if split != ALL or ALL in layout.splits:
        key = next((word for word in _WORDS.get(split, (split,)) if word in layout.splits), None)
        if key is None:
            there = ", ".join(dict.fromkeys([*layout.splits, ALL]) if layout.splits else ["none"])
            raise MissingFileError(f"{layout.path}: there is no split {split!r}; there are {there}")
        return [_place(layout, value, problems) for value in layout.splits[key]]
    found: dict[str, None] = {}
    for value in dict.fromkeys(value for values in layout.splits.values() for value in values):
        try:
            found[_place(layout, value, problems)] = None
        except MissingFileError as error:
            problems.note(NO_SPLIT, str(error))
    return list(found)


def _place(layout: Layout, value: str, problems: Problems) -> str:
    """The folder or list that a split names, wherever the file was written."""
    value = os.path.expanduser(value)
    inner = _inner(value)
    for root in layout.roots:
        plain, within = os.path.join(root, value), os.path.join(root, inner)
        if os.path.exists(plain):
            if within != plain and os.path.exists(within):
                text = f"{layout.path}: {value} is taken to be {os.path.normpath(plain)}, while {within} is there too"
                problems.note(TWO_PLACES, text)
            return os.path.normpath(plain)
        parts = _parts(inner)  # without ../, which Roboflow writes
        absolute = value.startswith("/") or value[1:2] == ":"
        for start in range(len(parts) - 1 if absolute else 1):
            found = os.path.join(root, *parts[start:])
            if os.path.exists(found):
                if start or absolute:
                    problems.note(MOVED, f"{layout.path}: {value} is not there and is taken to be {found}")
                return os.path.normpath(found)
    near = next(filter(None, (in_other_letters(root, _parts(inner)) for root in layout.roots)), "")
    raise MissingFileError(
        f"{layout.path}: {value} is expected at {os.path.normpath(layout.roots[0] / value)}, where nothing is; "
        + (f"{near} is there: write it with its own capital letters" if near else "mend `path` or the split")
        + " in this file"
    )


def _inner(path: str) -> str:
    """A path without the leading ../ that some write though they mean the folder of the file."""
    return re.sub(r"^(?:\.\.[/\\])+", "", path)


def _parts(path: str) -> list[str]:
    """The parts of a path, with either slash."""
    return [part for part in re.split(r"[/\\]", path) if part not in ("", ".")]


def _walk(folder: str) -> tuple[list[str], list[str]]:
    """The pictures below a folder, and the other files that somebody may take for pictures."""
    pictures, other, seen = [], [], set()
    for place, below, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith((".", "__MACOSX")))
        for name in files:
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if suffix in SUFFIXES:
                pictures.append(os.path.join(place, name))
            elif suffix not in _SILENT:
                other.append(os.path.join(place, name))
    return pictures, sorted(other)


def _listed_pictures(path: Path, layout: Layout, problems: Problems) -> list[str]:
    """The pictures that a text file names, from its own folder, from the root, or from another machine's folder."""
    found: list[str] = []
    missing: list[str] = []
    moved: list[str] = []
    roots = list(dict.fromkeys((path.parent, *layout.roots)))
    for line in read_lines(path):
        if line[0] == line[-1] and line[0] in "\"'":
            line = line[1:-1]
        tried = (os.path.join(root, form) for form in forms(line) for root in roots)
        place = next((one for one in tried if os.path.isfile(one)), None)
        if place is None and ".." not in (parts := _parts(_inner(line))):
            ends = ("/".join(parts[start:]) for start in range(len(parts)))
            tried = (os.path.join(root, form) for end in ends for form in forms(end) for root in roots)
            place = next((one for one in tried if os.path.isfile(one)), None)
            moved += [line] if place else []
        if place is None:
            missing.append(line)
        else:
            found.append(os.path.normpath(place))
    lack = f"{len(missing)} of its pictures {agreeing(len(missing), 'is|are')} missing"
    for line in missing:
        text = f"{path}: {line} is not there ({lack}); fetch it or delete the line"
        problems.error(Finding(MISSING, text, line, str(path)))
    if moved:
        line = named(path, len(moved), "pictures are found by the end of their paths only", moved, "e.g.")
        problems.several(
            line, range(len(moved)), lambda i: Finding(MOVED, f"{path}: {moved[i]} is elsewhere", moved[i])
        )
    return found


def home_of(layout: Layout, pictures: Pictures) -> Path:
    """The folder that names of pictures are relative to: the only one that was named.

    Else the root if all lie in it, else what they share.
    """
    folders = [*pictures.folders, *pictures.lists]
    root = layout.roots[0]
    if len(folders) == 1 and not pictures.lists:
        return Path(folders[0])
    home = os.path.abspath(root)
    places = [os.path.abspath(folder) for folder in folders]
    if all(place == home or place.startswith(os.path.join(home, "")) for place in places):
        return root
    try:
        return Path(os.path.commonpath(places))
    except ValueError:  # on several drives
        return root


def relative(folder: Path, paths: Sequence[str]) -> list[str]:
    """Paths from a folder, with slashes; those outside of it whole."""
    near, home = os.path.join(folder, ""), os.path.join(os.path.abspath(folder), "")

    def one(path: str) -> str:
        if path.startswith(near):
            return path[len(near) :].replace(os.sep, "/")
        whole = os.path.abspath(path)
        return (whole.removeprefix(home) if whole.startswith(home) else whole).replace(os.sep, "/")

    return [one(path) if path else "" for path in paths]
