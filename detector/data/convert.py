"""A data set in one format written anew in another: pictures, annotations, and what the new format cannot hold."""

import errno
import os
import re
import secrets
import shutil
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Literal, get_args

from detector.console import progress
from detector.data.catalog import Source, check_inside
from detector.data.endings import JPEG, PNG
from detector.data.formats import write_coco, write_voc, write_yolo
from detector.data.formats.losses import one_line
from detector.data.label_files import PICTURES
from detector.data.packed import check_same_classes
from detector.data.turning import as_stored, upright
from detector.errors import FileAccessError, MissingFileError, UserError
from detector.files import user_path
from detector.text import counted

Form = Literal["coco", "voc", "yolo"]

FORMS: tuple[Form, ...] = get_args(Form)

_WRITERS: dict[Form, ModuleType] = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo}
_ASIDE = ".unfinished."
_RESERVED = {"names", "nc", "path", "download", "channels", "kpt_shape", "flip_idx", "yaml_file", "all"}
_KNOWN = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}  # suffixes that every reader takes
_STARTS = {JPEG: ".jpg", PNG: ".png", b"BM": ".bmp", b"II*\0": ".tif", b"MM\0*": ".tif"}
_BLANKS = {"\ufeff", *(character for character in map(chr, range(0x3001)) if character.isspace())}
_TURNED = "picture|pictures is|are turned by its|their EXIF tag, and so are the boxes now"
_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP}


@dataclass(frozen=True)
class Written:
    """What was written. entries: one for each split, as DATASETS takes them; pictures, boxes: how many.

    losses: a sentence, with a number, for each thing that the format cannot hold.
    """

    entries: list[str]
    losses: list[str]
    pictures: int
    boxes: int

    @property
    def entry(self) -> str:
        """The first of the entries."""
        return self.entries[0]


def write_datasets(sources: Mapping[str, Source], form: Form, folder: str | Path, link: bool = False) -> Written:
    """Writes data sets, by the names of their splits, into one new or empty folder.

    link: hard links in place of copies of the pictures. Names of pictures are kept, sub-folders included, where the
    format allows it: VOC and YOLO know a picture by its name without suffix, so that another one of the same name, or
    of another record, gets a number; in COCO's format several records may name one file. All is written aside, into
    the folder itself; pictures take their place first and annotations last, and an error leaves the folder as it was.
    Raises UserError, before anything is written, for a folder that holds anything, a name of a split that cannot be
    one, sources with different classes and a picture that is missing or outside its folder; later where a picture
    cannot be read or linked.
    """
    folder = user_path(folder)
    for split in sources:
        _check_split(split, form)
    first, *others = sources.values()
    for other in others:
        check_same_classes(first.index, other.index)
    for source in sources.values():
        _check_pictures(source)
    new = not folder.exists()
    _check_empty(folder)
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f"{_ASIDE}{secrets.token_hex(4)}"
    placed: list[Path] = []
    try:
        written = _write(sources, form, folder, aside, link)
        # Whoever looks meanwhile, or after a crash, finds no data set: of each form, this is what makes it one.
        last = {"coco": write_coco.ANNOTATIONS, "voc": write_voc.ANNOTATIONS, "yolo": write_yolo.YAML}[form]
        for path in sorted(aside.iterdir(), key=lambda path: path.name == last):
            placed.append(folder / path.name)
            os.rename(path, placed[-1])
        aside.rmdir()
    except BaseException:
        for path in (aside, *placed):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        if new:
            _remove_empty(folder)
        raise
    return written


def _write(sources: Mapping[str, Source], form: Form, folder: Path, aside: Path, link: bool) -> Written:
    writer = _WRITERS[form]
    losses: list[str] = []
    taken: Counter[str] = Counter()
    boxes = 0
    for split, source in sources.items():
        place = Path(writer.IMAGES) / ("" if form == "voc" else split)
        source, turned = _framed(source, form)
        names, said = new_names(source, form, taken if form == "voc" else Counter())
        said += [counted(turned, _TURNED)] if turned else []
        _bring(source, aside / place, names, link)
        said += writer.write(source.index, aside, split, names)
        boxes += int(writer.held(source.index).sum())
        losses += [f"{split}: {text}" for text in said] if len(sources) > 1 else said
    if form == "yolo":
        splits = {split: f"{write_yolo.IMAGES}/{split}" for split in sources}
        write_yolo.write_yaml(aside, splits, next(iter(sources.values())).index.classes)
    return Written(
        entries=[_entry(form, folder, split) for split in sources],
        losses=losses,
        pictures=sum(len(source.index) for source in sources.values()),
        boxes=boxes,
    )


def _framed(source: Source, form: Form) -> tuple[Source, int]:
    """The source with the boxes where the format wants them in pictures that an EXIF tag turns, and their number."""
    index, number = (upright if form == "yolo" else as_stored)(source.index, source.folder)
    return replace(source, index=index), number


def _entry(form: Form, folder: Path, split: str) -> str:
    if form == "coco":
        return f"{folder / write_coco.IMAGES / split}:{folder / write_coco.ANNOTATIONS / split}.json"
    return f"{form}:{folder}:{split}"


def _check_split(split: str, form: Form) -> None:
    # Labels are looked for where the last `images` of a path is.
    reserved = _RESERVED | ({*PICTURES} if form == "yolo" else set())
    if not re.fullmatch(r"\w[\w.-]*", split) or split in _RESERVED or split.lower() in reserved:
        raise UserError(f"{split!r} cannot be the name of a split; write one like train, val or test")


def _check_empty(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a new folder, or an empty one")
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if left := next((name for name in there if name.startswith(_ASIDE)), None):
        raise UserError(f"{folder / left} is what an interrupted conversion left; delete it, or name a new folder")
    if there:
        more = ", .." if len(there) > 1 else ""
        raise UserError(f"{folder} is not empty (it holds {there[0]}{more}); name a new folder, or an empty one")


def _check_pictures(source: Source) -> None:
    check_inside(source)
    names = source.index.file_names.tolist()
    missing = [i for i, name in enumerate(names) if not os.path.isfile(source.folder / name)]
    if missing:
        raise MissingFileError(
            f"{source.folder / names[missing[0]]}: there is no such picture ({source.index.record(missing[0])}; "
            f"{len(missing)} of {len(names)} are missing); fetch them, or delete their records"
        )


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:  # somebody put something there
        return


# ---------------------------------------------------------------------------- names of pictures


def new_names(source: Source, form: Form, taken: Counter[str]) -> tuple[list[str], list[str]]:
    """[N] names of a source's pictures in a folder of this form, and sentences on those that are others than before.

    taken: names without suffix that are given away, as keys; it is added to.
    """
    names = source.index.file_names.tolist()
    if form == "coco":
        known: dict[str, str] = {}
        for name in names:
            if name not in known:
                known[name] = _free(_portable(name, ()), taken, whole=True)
        found = [known[name] for name in names]
        again = len(names) - len(known)
        said = (
            [counted(again, "record|records names|name a picture that another one names, here as well")]
            if again
            else []
        )
    else:
        drop = (write_yolo.IMAGES, write_voc.IMAGES) if form == "yolo" else ()
        found = [_free(_suffixed(_visible(_portable(name, drop)), source.folder / name), taken) for name in names]
        again = len(names) - len(set(names))
        own = "record|records names|name a picture that another one names; each has a copy of its own, with a number"
        said = [counted(again, own)] if again else []
    changed = [(a, b) for a, b in zip(names, found, strict=True) if os.path.normpath(a).replace(os.sep, "/") != b]
    if changed:
        old, new = changed[0]
        renamed = counted(len(changed), "picture|pictures has|have another name here")
        said.append(f"{renamed}, for instance {new!r}, which was {old!r}")
    return found, said


def _portable(name: str, drop: Sequence[str]) -> str:
    """A name with slashes that can stand in a text file; without the folders `drop`."""
    parts = os.path.normpath(name).replace(os.sep, "/").split("/")
    parts = [part for part in parts[:-1] if part.lower() not in {one.lower() for one in drop}] + parts[-1:]
    return one_line("/".join(parts), "_")


def _visible(name: str) -> str:
    """A name that no scan of a folder passes over and no line of a list loses: no dot or blank at an end."""
    *folders, base = name.split("/")
    stem, suffix = os.path.splitext(base)
    parts = [*map(_stripped, folders), _stripped(stem) + suffix.strip()]
    parts = [part.removeprefix("_") if part.startswith("__MACOSX") else part for part in parts]
    return "/".join(f"_{part[1:]}" if part.startswith(".") else part or "_" for part in parts)


def _stripped(part: str) -> str:
    """Without what readers of text files take away: blanks of any kind, and marks of the order of bytes."""
    return part.strip("".join(_BLANKS))


def _suffixed(name: str, path: Path) -> str:
    """A name with a suffix that readers of folders know: its own, else that of what the file holds, if known."""
    stem, suffix = os.path.splitext(name)
    if suffix.lower() in _KNOWN:
        return name
    with open(path, "rb") as file:
        head = file.read(16)
    found = ".webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else ""
    found = next((new for start, new in _STARTS.items() if head.startswith(start)), found)
    if not found:
        return name
    return (stem if suffix.lower() in (".jfif", ".jpe") else name) + found


def _free(name: str, taken: Counter[str], whole: bool = False) -> str:
    """The name, with a number where another picture has it, in whatever case of its letters.

    whole: whether a suffix tells two names apart.
    """
    stem, suffix = os.path.splitext(name)
    tail = suffix if whole else ""
    first = _key(stem + tail)
    number = taken[first] + 1
    while (key := _key((stem if number == 1 else f"{stem}_{number}") + tail)) in taken:
        number += 1
    taken[first] = number
    taken[key] = max(taken[key], 1)
    return (stem if number == 1 else f"{stem}_{number}") + suffix


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


# ---------------------------------------------------------------------------- pictures


def _bring(source: Source, folder: Path, names: Sequence[str], link: bool) -> None:
    """Copies or links the pictures, those of one name once."""
    pairs = dict(zip(names, source.index.file_names.tolist(), strict=True))
    verb = "link" if link else "copy"
    for new, old in progress(pairs.items(), desc=f"{verb} {source.name}", unit="picture", leave=False, delay=1):
        target, origin = folder / new, os.path.realpath(source.folder / old)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if link:
                os.link(origin, target)
            else:
                shutil.copyfile(origin, target)
        except OSError as error:
            if link and error.errno in _NO_LINKS:
                raise FileAccessError(
                    f"{origin} cannot be linked to in {folder}: {error.strerror}; hard links stay on one disk, and "
                    "some have none: leave out --link"
                ) from None
            raise
