"""Folders in YOLO's layout: a text file of boxes for each picture, as fractions of its width and height."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from detector.data.formats.write_yolo import write
from detector.data.formats.yolo_folder import MOVED, Layout, find_layout, find_pictures, home_of, relative
from detector.data.formats.yolo_lines import Lines
from detector.data.label_files import LabelFiles, find_label_files, lies_elsewhere
from detector.data.packed import PackedIndex, clip_to_images
from detector.data.partners import Partners
from detector.data.problems import Finding, Problems, declare, named
from detector.data.sizes import measured
from detector.text import agreeing, counted

__all__ = ["read", "write"]

UNREADABLE = declare(
    "yolo-unreadable-picture", "error", "pictures do not say their size", "Fetch them again, or delete them."
)
NO_FILE = declare(
    "yolo-no-label-file",
    "note",
    "pictures have no label file and are taken for pictures without objects",
    "Write an empty file for each that has none, or put the label files where they are looked for.",
)
UNNAMED = declare(
    "yolo-no-names", "note", "sets lack the names of their classes, or of one", "List them as names: [cat, dog]."
)
STRAY = declare(
    "yolo-label-without-picture",
    "warning",
    "label files have no picture",
    "Add the pictures, or delete the label files.",
)
SHARED = declare(
    "yolo-two-pictures",
    "warning",
    "pictures share their label file with another one, whose name differs in the suffix",
    "Keep one of them, or rename them.",
)


def read(path: str | Path, split: str = "train", problems: Problems | None = None) -> PackedIndex:
    """Reads one split of a data set in the layout of Ultralytics' YOLO.

    path: a YAML file, or a folder that has one; a folder of darknet, CVAT or labelImg, without, has a classes.txt,
    obj.names, or darknet's obj.data, which names lists and may be named itself. split: a key of the YAML file, "val"
    and "valid" being the same; "all": every one. What a split names is a folder, a list of folders, or a text file of
    pictures.
    The label file of a picture has its name, in the folder that has `labels` for the last `images` of its path or else
    beside it; without one, or with an empty one, it is a picture without objects. A line is a class and a box (centre
    x, centre y, width, height, fractions of the upright picture) or the corners of a polygon, which becomes the box
    around it; with kpt_shape in the YAML file, or where all lines look so, a box and points, which are passed over.
    Lines that stand twice count once.
    Pictures are sorted by path; their ids are their paths from the folder of the split, without suffix; those of boxes
    are FILE:LINE. Sizes are measured.
    problems: what is told of lines, pictures and files. Raises FileNotFoundError for what is not there, ValueError
    naming file, line and remedy for what cannot be used.
    """
    problems = problems or Problems()
    layout = find_layout(Path(path))
    pictures = find_pictures(layout, split, problems)
    folder = home_of(layout, pictures)
    names = relative(folder, pictures.paths)
    files = find_label_files(str(folder), names, pictures.folders)
    sizes = _sizes(folder, names, problems)
    seen = np.flatnonzero(sizes.all(1)).tolist()
    names, sizes = [names[i] for i in seen], sizes[seen]
    files = files._replace(labels=[files.labels[i] for i in seen])
    ids = _image_ids(layout, names, problems)
    _tell_files(layout, folder, names, files, problems)
    lines = Lines(layout.pose, problems)
    for i, label in enumerate(files.labels):
        if label:
            lines.read(i, label, names[i])
    index = _pack(layout, folder, names, ids, sizes, files.labels, lines, f"yolo:{path}:{split}", problems)
    return _without(index, lines.lost) if lines.lost else index


def _without(index: PackedIndex, images: Sequence[int]) -> PackedIndex:
    """The index without some of its images, which have no annotations."""
    rows = np.setdiff1d(np.arange(len(index)), images)
    counts = np.diff(index.offsets)[rows]
    arrays = {name: getattr(index, name)[rows] for name in ("image_ids", "file_names", "heights", "widths")}
    return replace(index, offsets=np.concatenate([[0], np.cumsum(counts)]), **arrays)


def _sizes(folder: Path, names: Sequence[str], problems: Problems) -> np.ndarray:
    """[N, 2] int64 heights and widths; 0, 0 for pictures that cannot be measured, which are errors."""
    sizes = measured(folder, names)
    bad = np.flatnonzero(~sizes.all(1)).tolist()
    for i in bad:
        others = f" ({len(bad)} such pictures)" if len(bad) > 1 else ""
        path = folder / names[i]
        text = f"{path}: its size cannot be read, so its boxes are nowhere{others}; fetch it again or delete it"
        problems.error(Finding(UNREADABLE, text, names[i], str(path)))
    return sizes


def _image_ids(layout: Layout, names: Sequence[str], problems: Problems) -> list[str]:
    """Names without suffix; with it where two pictures have the same."""
    stems = [os.path.splitext(name)[0] for name in names]
    counts = Counter(stems)
    twins = [i for i, stem in enumerate(stems) if counts[stem] > 1]
    if twins:
        what = "pictures share their label file with another one"
        line = named(layout.path, len(twins), what, [names[i] for i in twins], "e.g.")
        problems.several(
            line, twins, lambda i: Finding(SHARED, f"{names[i]} is not the only {stems[i]}", names[i], stems[i])
        )
    ids = [name if counts[stem] > 1 else stem for name, stem in zip(names, stems, strict=True)]
    return ids if len(set(ids)) == len(ids) else list(names)  # of a.jpg, a.png and a.png.jpg


def _tell_files(layout: Layout, folder: Path, names: Sequence[str], files: LabelFiles, problems: Problems) -> None:
    if layout.gone:
        text = f"{layout.path}: path {layout.gone} is not there; splits are looked for in {layout.roots[0]}"
        problems.note(MOVED, text, usual=True)
    if not layout.named:
        number = len(layout.classes)
        called = f"classes are called class_0 to class_{number - 1}" if number > 1 else "class is called class_0"
        text = f"there are no names, but nc: {number}; the {called}"
        problems.note(UNNAMED, f"{layout.path}: {text}; list them: names: [cat, dog]")
    if empty := [label for label, name in enumerate(layout.classes) if name in ("", "~")]:
        text = (
            f"class {empty[0]} is called {layout.classes[empty[0]]!r}, which stands for nothing in YAML; give it a name"
        )
        problems.note(UNNAMED, f"{layout.path}: {text}")
    without = [i for i, path in enumerate(files.labels) if not path]
    if without:
        near = lies_elsewhere(folder / names[0]) if len(without) == len(names) else ""
        if files.stray and (partner := Partners(files.stray).of(names[without[0]])):
            near += f"; {partner.its()}"
        lack = agreeing(len(without), "has|have no label file")
        what = f"of {counted(len(names), 'picture|pictures')} {lack}; the first is looked for at {files.expected}{near}"
        line = named(layout.path, len(without), what, [names[i] for i in without], "pictures")

        def example(i: int) -> Finding:
            place = files.place(names[i])
            return Finding(NO_FILE, f"{names[i]}: it has no label file; {place} is not there", names[i])

        problems.several(line, without, example, usual=len(without) < len(names))
    if files.stray:
        what = agreeing(len(files.stray), "label file|files has|have no picture")
        line = named(layout.path, len(files.stray), what, files.stray, "e.g.")
        others = Partners(names[i] for i in without)

        def lone(i: int) -> Finding:
            file, picture = files.stray[i], others.of(files.stray[i])
            return Finding(STRAY, f"{file}: it has no picture{f'; {picture.its()}' if picture else ''}", "", file)

        problems.several(line, range(len(files.stray)), lone)


def _pack(
    layout: Layout,
    folder: Path,
    names: Sequence[str],
    image_ids: Sequence[str],
    sizes: np.ndarray,
    labels: Sequence[str],
    lines: Lines,
    entry: str,
    problems: Problems,
) -> PackedIndex:
    values, images, numbers = lines.checked(layout, names, labels)
    lines.tell(entry)
    limits = sizes[:, ::-1][images]
    sides = values[:, 3:] * limits
    boxes_xywh = np.concatenate([values[:, 1:3] * limits - sides / 2, sides], 1)
    short = relative(layout.roots[0], labels)
    ids = np.array([f"{short[i]}:{n}" for i, n in zip(images.tolist(), numbers.tolist(), strict=True)], np.str_)

    def where(row: int) -> tuple[str, str]:
        return names[images[row]], f"{labels[images[row]]}:{numbers[row]}"

    boxes, usable = clip_to_images(layout.path, boxes_xywh, limits, ids, where, problems, form="yolo")
    return PackedIndex(
        path=layout.path,
        classes=list(layout.classes),
        category_ids=list(range(len(layout.classes))),
        image_ids=np.array(image_ids, np.str_),
        file_names=np.array(names, np.str_),
        heights=sizes[:, 0].copy(),
        widths=sizes[:, 1].copy(),
        offsets=np.concatenate([[0], np.cumsum(np.bincount(images, minlength=len(names)))]),
        annotation_ids=ids,
        labels=values[:, 0].astype(np.int64),
        boxes_xywh=boxes_xywh,
        areas=boxes_xywh[:, 2:].prod(1),
        crowd=np.zeros(len(images), bool),
        boxes=boxes,
        usable=usable,
        difficult=np.zeros(len(images), bool),
        kind="yolo",
        folder=folder,
    )
