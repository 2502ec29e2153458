"""What to write instead of an entry that names no data set, for messages."""

import os
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from detector.config.shipped import shipped_config, shipped_name
from detector.data.entries import FORMS, VOC, YOLO, resolve, split_entry, split_there
from detector.data.formats import voc
from detector.data.formats.voc_layout import alike
from detector.data.formats.yolo_folder import ALL, find_layout
from detector.data.json_files import OTHER, best_folder, look_into
from detector.data.layouts import Found, find_data_sets
from detector.errors import UserError

_SHOWN = 6  # entries that a message names
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_TABLES = (".csv", ".tsv", ".parquet", ".xlsx")
_RECORDS = (".record", ".tfrecord", ".tfrecords")
_YAML = (".yaml", ".yml")


def hint(entry: str, root: Path) -> str:
    """A sentence on what an entry that cannot be used is, and what to write; "" where nothing is known of it."""
    path = resolve(entry, root)
    if entry and os.path.isdir(path):
        return of_folder(entry, path)
    if entry and os.path.isfile(path):
        return _of_file(entry, path)
    form, colon, rest = entry.partition(":")
    form = form.lower()
    if colon and form in ("voc", "yolo", "coco"):
        return _of_form(entry, form, rest, root)
    if pair := split_entry(entry):
        return _of_pair(entry, *pair, root)
    if (file := shipped_config(entry)) and (name := shipped_name(file)):
        return f"{entry!r} is a config, no data set: write --config-file {name}"
    return _of_typo(entry, root)


def other_layout(entry: str, root: Path) -> str:
    """What to write for voc:FOLDER:SPLIT or yolo:FOLDER:SPLIT, where the folder is in another layout; else ""."""
    form, _, rest = entry.partition(":")
    folder, split = split_entry(rest) or (rest, "")
    path = resolve(folder, root)
    if not os.path.isdir(path):
        return ""
    found = find_data_sets(path)
    if found.sure and any(one.startswith(f"{form}:{path}:") for one in found.entries):
        return ""
    return _proposal(folder, path, found, split)


def of_folder(entry: str, folder: Path, split: str = "") -> str:
    """What a folder is, and the entries of the data sets in it, or in the folder above.

    split: one that was asked for.
    """
    found = find_data_sets(folder)
    if text := _proposal(entry, folder, found, split):
        return text
    if found.entries and found.entries[0].startswith(YOLO):
        try:
            find_layout(folder)
        except UserError as error:
            return str(error)
    if any(os.path.isdir(folder / name) for name in (voc.PICTURES[0], voc.ANNOTATIONS[0])):
        return f"{entry!r} is {_layout('VOC', VOC, entry, voc.splits(folder))}"
    return (
        f"{entry!r} is a folder without annotations: expected is {FORMS}, where "
        "FOLDER holds JPEGImages/ and Annotations/, or pictures and their XML files side by side, or data.yaml"
        + ("".join(f" ({finding.text})" for finding in found.findings[:1]) or _lone(folder))
    )


def _lone(folder: Path) -> str:
    """What lies in a folder without annotations that may hold some, and what to do with it; "" where nothing does."""
    for name in sorted(os.listdir(folder)):
        low = name.lower()
        if low.endswith(_ARCHIVES):
            return f" ({name} is an archive: unpack it)"
        if low.endswith(_RECORDS):
            return f" ({name} looks like TFRecord, which is not read: export as COCO, VOC or YOLO)"
        if low.endswith(_TABLES):
            return f" ({name} is a table, which is not read: export as COCO, VOC or YOLO)"
    return ""


def _proposal(entry: str, folder: Path, found: Found, split: str) -> str:
    """What to write for what is found in a folder, or in those above; "" where that is nothing."""
    if found.entries and found.sure:
        return f"{entry!r} is {_kind(found.entries, entry, folder, split)}"
    for above in _above(folder):
        if (upper := find_data_sets(above)).sure and (mine := _touching(upper, folder)):
            return f"{entry!r} is a part of the data set in {above}: write {_choice(mine)}"
    return ""


def _kind(entries: Sequence[str], said: str, folder: Path, split: str) -> str:
    """What a folder with data sets is. said: what it was called."""
    for form, layout, splits in ((YOLO, "YOLO", _yolo_splits), (VOC, "VOC", voc.splits)):
        if any(one.startswith(f"{form}{folder}:") for one in entries):
            return _layout(layout, form, said, list(dict.fromkeys([*splits(folder), ALL])), split)
    shown = [_renamed(one, folder, said) for one in entries]
    split_too = [one for one in shown if split and one.endswith((f":{split}", f"{split}.json"))]
    return f"a folder: write {_choice(split_too or shown)}"


def _layout(name: str, form: str, said: str, splits: Sequence[str], split: str = "") -> str:
    if split and (meant := alike(split, splits)):
        return f"a folder in {name}'s layout: write {form}{said}:{meant[0]}"
    return f"a folder in {name}'s layout: write {form}{said}:SPLIT, with SPLIT one of {', '.join(splits)}"


def _yolo_splits(folder: Path) -> list[str]:
    try:
        return list(find_layout(folder).splits)
    except UserError:
        return []


def _renamed(entry: str, folder: Path, said: str) -> str:
    """An entry with the folder as a person called it."""
    start, end = str(folder), str(said).rstrip("/")
    head = next((form for form in (VOC, YOLO) if entry.startswith(form)), "")
    return head + ":".join(
        end + part.removeprefix(start) if part.startswith(start) else part
        for part in entry.removeprefix(head).split(":")
    )


def _choice(entries: Sequence[str]) -> str:
    more = len(entries) - _SHOWN
    return " or ".join(entries[:_SHOWN]) + (f" (and {more} more: `detector check` finds them)" if more > 0 else "")


def _above(folder: Path) -> Iterator[Path]:
    """The two folders above one, but for those that hold everything."""
    place = folder
    for _ in range(2):
        place = Path(os.path.normpath(place / ".."))
        whole = place.resolve()
        if whole in (Path.home(), *list(whole.parents)[-1:]) or len(whole.parts) <= 2:
            return
        yield place


def _touching(found: Found, folder: Path) -> list[str]:
    """The entries of a folder above to which a folder belongs."""
    inside = []
    for entry in found.entries:
        form, place, split = _parts(entry)
        near = {
            VOC: [(place / name) for name in (*voc.PICTURES, *voc.ANNOTATIONS, split)],
            YOLO: [place / name for name in ("images", "labels", split, f"{split}id", f"obj_{split}_data")],
        }.get(form, [place, Path(split).parent])
        if any(folder.resolve() == one.resolve() or one.resolve() in folder.resolve().parents for one in near):
            inside.append(entry)
    named = [entry for entry in inside if _parts(entry)[2] == folder.name]
    return named or inside


def _parts(entry: str) -> tuple[str, Path, str]:
    """Form, folder and split or file of an entry that was found."""
    form = next((form for form in (VOC, YOLO) if entry.startswith(form)), "")
    folder, split = (split_entry if form else partial(split_there, root=Path()))(entry.removeprefix(form)) or ("", "")
    return form, Path(folder), split


def _of_file(entry: str, path: Path) -> str:
    low = path.name.lower()
    if low.endswith(_YAML):
        splits = _yolo_splits(path)
        one_of = f"one of {', '.join([*splits, ALL])}" if splits else "one of its splits"
        config = "" if splits else f"; if it is a config, --config-file {entry}"
        return f"{entry!r} is a file: write yolo:{entry}:SPLIT, with SPLIT {one_of}{config}"
    if low.endswith(".json"):
        file = look_into(path)
        if file.rank == OTHER:
            return f"{entry!r} is no data set in COCO's format: {file.why}"
        return f"{entry!r} is a file: write {_folder_of(path)}:{entry}"
    if low.endswith(_ARCHIVES):
        return f"{entry!r} is an archive: unpack it, and name the folder that comes out"
    return f"{entry!r} is a file: name the folder of the data set; expected is {FORMS}"


def _folder_of(path: Path) -> Path:
    """The folder of the pictures of a COCO file."""
    around = [
        path.parent,
        *([Path(os.path.normpath(path.parent / ".."))] if path.parent.name in voc.ANNOTATIONS else []),
    ]
    places = [place for one in around for place, _, _ in _walk(one)]
    return best_folder(look_into(path), places)


def _walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    for number, (place, inner, files) in enumerate(os.walk(folder)):
        if number == 100 or len(Path(place).relative_to(folder).parts) > 3:
            inner.clear()
            continue
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield Path(place), inner, files


def _of_form(entry: str, form: str, rest: str, root: Path) -> str:
    """Of an entry with the prefix of a format."""
    if rest and os.path.isdir(whole := resolve(rest, root)):
        return of_folder(rest, whole)
    pair = split_entry(rest)
    if pair is None or not all(pair):
        path = resolve(rest, root)
        return _of_file(rest, path) if rest and os.path.isfile(path) else _of_typo(rest, root)
    place = resolve(pair[0], root)
    if not os.path.isdir(place):
        return _of_typo(pair[0], root)
    if form == "coco":
        return (
            f"COCO's format has no prefix: write {rest}"
            if pair[1].lower().endswith(".json")
            else of_folder(pair[0], place, pair[1])
        )
    if not entry.startswith(form) and not other_layout(f"{form}:{rest}", root):
        return f"prefixes are small letters: write {form}:{rest}"
    return of_folder(pair[0], place, pair[1])


def _of_pair(entry: str, left: str, right: str, root: Path) -> str:
    """Of IMAGE_FOLDER:FILE where the one or the other is not there."""
    if not left or not right:
        return ""
    first, second = resolve(left, root), resolve(right, root)
    if os.path.isfile(first) and os.path.isdir(second) and left.lower().endswith(".json"):
        return f"the folder of the pictures comes first: write {right}:{left}"
    if os.path.isdir(first) and os.path.isfile(resolve(inside := os.path.join(left, right), root)):
        if right.lower().endswith(".json"):
            return f"the file is in the folder of the pictures: write {left}:{inside}"
        return _of_file(inside, resolve(inside, root))
    if os.path.isdir(first) and not right.lower().endswith(".json"):
        return of_folder(left, first, right)
    return _of_typo(left if not os.path.exists(first) else right, root)


def _of_typo(path: str, root: Path) -> str:
    """The path that is there and nearly called so."""
    for start in dict.fromkeys((Path(), root)):
        place = start
        for part in Path(path).parts:
            if os.path.exists(place / part):
                place = place / part
                continue
            try:
                names = sorted(one.name for one in os.scandir(place))
            except OSError:
                break
            if near := get_close_matches(part, names, n=3, cutoff=0.75):
                return f"there is no {place / part}; is {' or '.join(str(place / name) for name in near)} meant?"
            break
    return ""
