"""Folders in the layout of Pascal VOC: an XML file for each picture, text files that list the pictures of a split."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detector.data.formats.voc_files import Files, split_names
from detector.data.formats.voc_layout import (
    ALL,
    ANNOTATIONS,
    DIVISION,
    LISTS,
    PICTURES,
    files_below,
    find_place,
    splits,
)
from detector.data.formats.voc_splits import CLASS_FILE, divide, listed_classes
from detector.data.formats.voc_xml import (
    COMMA,
    EMPTY,
    SHAPE,
    THIN,
    WORD,
    Annotation,
    Object,
    class_names,
    read_annotation,
    read_objects,
    read_size,
)
from detector.data.formats.write_voc import write
from detector.data.packed import PackedIndex, clip_to_images
from detector.data.problems import SHOWN, Finding, Problems, clause, declare, named
from detector.data.sizes import measured
from detector.errors import UserError, cut

__all__ = [
    "ALL",
    "ANNOTATIONS",
    "CLASSES",
    "CLASS_FILE",
    "DIVISION",
    "LISTS",
    "PICTURES",
    "divide",
    "read",
    "read_annotation",
    "splits",
    "write",
]

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""The classes of Pascal VOC, in its order."""

BROKEN = declare("voc-file", "error", "annotation files cannot be used", "Mend or delete them.")
OBJECT = declare("voc-object", "error", "objects cannot be used", "Mend or delete these <object> elements.")
MEASURED = declare(
    "voc-measured",
    "note",
    "picture|pictures has|have no size in its|their annotation file and was|were measured",
    "Write the size.",
)
NO_SIZE = declare(
    "voc-no-size",
    "error",
    "picture|pictures has|have no size in its|their annotation file and cannot be measured",
    "Mend the pictures, or write the size.",
)


_FATES = {
    EMPTY: "passed over",
    WORD: "taken as 0 or 1",
    COMMA: "taken as decimal points",
    SHAPE: "taken as the upright boxes around them",
    THIN: "taken as they are",
}


@dataclass
class _Picture:
    """A picture of the split. xml: its annotation file below the root; size: height, width, 0, 0 where unknown."""

    name: str
    file: str
    xml: str
    size: tuple[int, int] = (0, 0)
    objects: list[Object] = field(default_factory=list)
    measured: bool = False


def read(
    folder: str | Path, split: str = ALL, classes: Sequence[str] | None = None, problems: Problems | None = None
) -> PackedIndex:
    """Reads one split of a folder.

    The annotation files lie in Annotations/ and the pictures in JPEGImages/, at any depth, or both side by side; the
    splits may be folders as well, see `find_place`. Image ids are the names of the files without suffix, below these
    folders.
    classes: the names in the order of their labels. Without them the lines of classes.txt, or of labelmap.txt, count,
    or else the sorted names of all objects in all annotation files, so that the splits of a folder agree.
    split: the stem of a file in ImageSets/Main that lists the pictures, one a line; "all": all that have an annotation
    file. A folder without lists is divided, see `divide`. Pictures without annotation file that a list names, or that
    lie beside those of others, have no objects.
    Objects are read as in `read_objects`. Boxes without area, or outside their picture, are dropped, counted and named;
    difficult objects are marked. A size that is missing or 0 is measured; where that fails the picture counts as large
    as its boxes need, and whoever looks at the pictures says so, as of those that are missing.
    Raises FileNotFoundError for a missing folder or split, or a name that stands for no file; ValueError naming file,
    object and remedy for a broken file, an unknown class, or a value that is no number, and how many more there are.
    """
    problems = problems or Problems()
    place, called = find_place(Path(folder), split)
    files = Files(place)
    names = split_names(files, called, problems)
    pictures = _pictures(files, names, problems)
    listed = (list(classes), None) if classes is not None else listed_classes(place)
    known = _found_classes(files) if listed is None else listed[0]
    _check_classes(files, pictures, known, listed and listed[1])
    _tell(files, f"voc:{folder}:{split}", problems)
    _measure(files, pictures, problems)
    return _pack(files, pictures, known, listed is not None, problems)


def _pictures(files: Files, names: Sequence[str], problems: Problems) -> list[_Picture]:
    """The pictures of the split with their objects, without those whose annotation file cannot be used."""
    pictures = []
    taken: dict[str, list[Finding]] = {kind: [] for kind in _FATES}
    for name in names:
        if name not in files.found.annotations:
            pictures.append(_Picture(name, files.left[name][0], f"{name}.xml"))
            continue
        path, xml = files.path(name), files.found.annotations[name]
        one = files.annotation(path)
        size = one if isinstance(one, UserError) else _size(one)
        if isinstance(one, UserError) or isinstance(size, UserError):
            files.fault(BROKEN, str(size), "".join(files.pictures.get(name, [])[:1]), str(path))
            continue
        file, found = files.file(name, one.image.get("filename", "")), read_objects(one, size)
        if not file:
            continue
        for number, text in found.faults:
            files.fault(OBJECT, f"{path}: {text}", file, f"{path}#{number}")
        for kind, number, text in found.taken:
            taken[kind].append(Finding(kind, f"{path}#{number}: {text}", file, f"{path}#{number}"))
        pictures.append(_Picture(name, file, xml, size, found.objects))
    for kind, some in taken.items():
        records = [Path(one.record).relative_to(files.place.annotations).as_posix() for one in some[: SHOWN + 1]]
        line = named(
            files.place.annotations, len(some), f"{clause(kind, len(some))}: {_FATES[kind]}", records, "objects"
        )
        problems.several(line, range(len(some)), some.__getitem__)
    return pictures


def _size(one: Annotation) -> tuple[int, int] | UserError:
    try:
        return read_size(one)
    except UserError as error:
        return error


def _found_classes(files: Files) -> list[str]:
    """The sorted names of the objects in all annotation files. What is broken in other splits is told by them."""
    root = files.place.every
    every = [files.annotation(root / file) for file in files_below(root) if file.lower().endswith(".xml")]
    return sorted({name for one in every if isinstance(one, Annotation) for name in class_names(one)})


def _check_classes(files: Files, pictures: Sequence[_Picture], known: Sequence[str], path: Path | None) -> None:
    """Drop the objects of unknown classes, which are faults. path: of the list of classes."""
    names, where = set(known), f" (listed in {path}); add a line for it, or delete this list" if path else ""
    for one in pictures:
        for thing in one.objects:
            if thing.name not in names:
                record = files.place.annotations / f"{one.xml}#{thing.number}"
                text = f"object {thing.number} ({cut(thing.name)}): unknown class; the classes are {', '.join(known)}"
                files.fault(OBJECT, f"{files.path(one.name)}: {text}{where}", one.file, str(record))
        one.objects = [thing for thing in one.objects if thing.name in names]


def _tell(files: Files, entry: str, problems: Problems) -> None:
    """Tell all faults, or raise the first and say how many more there are."""
    if files.faults and not problems.everything:
        finding, error = files.faults[0]
        more = len(files.faults) - 1
        raise error(finding.text + (f" (and {more} more: `detector check {entry}` lists them)" if more else ""))
    for finding, _ in files.faults:
        problems.error(finding)


def _measure(files: Files, pictures: Sequence[_Picture], problems: Problems) -> None:
    """Fill in the sizes that are missing."""
    root = files.place
    without = [one for one in pictures if not all(one.size)]
    if not without:
        return
    sizes = measured(root.pictures, [one.file for one in without]).tolist()
    said: list[_Picture] = []
    unknown: list[_Picture] = []
    for one, (height, width) in zip(without, sizes, strict=True):
        one.size, one.measured = (height, width), bool(height and width)
        if not (height and width):
            unknown.append(one)
            x, y = (max((t.box[i] + t.box[i + 2] for t in one.objects), default=0) for i in (0, 1))
            one.size = max(1, int(y)), max(1, int(x))
        elif one.name in files.found.annotations:
            said.append(one)
    for kind, some in ((MEASURED, said), (NO_SIZE, unknown)):

        def example(row: int, kind: str = kind, some: Sequence[_Picture] = some) -> Finding:
            one = some[row]
            text = f"{root.annotations / one.xml}: it has no size"
            if kind == NO_SIZE:
                text += f", and {root.pictures / one.file} cannot be read to learn it"
            return Finding(kind, text, one.file, str(root.annotations / one.xml))

        line = named(root.annotations, len(some), clause(kind, len(some)), [one.file for one in some], "pictures")
        problems.several(line, range(len(some)), example)


def _pack(
    files: Files, pictures: Sequence[_Picture], classes: Sequence[str], listed: bool, problems: Problems
) -> PackedIndex:
    path = files.place.annotations
    places = {name: label for label, name in enumerate(classes)}
    things = [thing for one in pictures for thing in one.objects]
    heights, widths = np.array([one.size for one in pictures], np.int64).reshape(-1, 2).T
    image_of = np.repeat(np.arange(len(pictures)), [len(one.objects) for one in pictures])
    ids = np.array([f"{one.xml}#{thing.number}" for one in pictures for thing in one.objects], np.str_)
    boxes_xywh = np.array([thing.box for thing in things], np.float64).reshape(-1, 4)
    labels = np.array([places[thing.name] for thing in things], np.int64)
    difficult = np.array([thing.difficult for thing in things], bool)
    limits = np.stack([widths, heights], 1)[image_of]

    def where(row: int) -> tuple[str, str]:
        return pictures[image_of[row]].file, f"{path / ids[row].item()}"

    boxes, kept = clip_to_images(path, boxes_xywh, limits, ids, where, problems, "dropped", "voc")
    return PackedIndex(
        path=path,
        classes=list(classes),
        category_ids=list(range(1, len(classes) + 1)),
        image_ids=np.array([one.name for one in pictures], np.str_),
        file_names=np.array([one.file for one in pictures], np.str_),
        heights=heights,
        widths=widths,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(image_of[kept], minlength=len(pictures)))]),
        annotation_ids=ids[kept],
        labels=labels[kept],
        boxes_xywh=boxes_xywh[kept],
        areas=boxes_xywh[kept, 2:].prod(1),
        crowd=np.zeros(int(kept.sum()), bool),
        boxes=boxes[kept],
        usable=np.ones(int(kept.sum()), bool),
        difficult=difficult[kept],
        kind="voc",
        folder=files.place.pictures,
        listed=listed,
        measured=np.array([one.measured for one in pictures]) if any(one.measured for one in pictures) else None,
    )
