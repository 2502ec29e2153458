"""The sources that DATASETS names: read, with one list of classes, and with boxes where they are trained on."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from yacs.config import CfgNode

from detector.data.catalog import FORMS, Source, check_inside, load_dataset
from detector.data.label_files import first_wanted
from detector.data.packed import PackedIndex, beside, in_classes, lacking, shown
from detector.data.plausible import check_plausible
from detector.data.problems import Problems
from detector.errors import MissingFileError, UnknownNameError, UserError
from detector.structures import real_outputs
from detector.text import counted, none_of, printable

_log = logging.getLogger("detector")

SHOWN = 5  # classes that a message names


class Origin(NamedTuple):
    """Whose outputs data are mapped to. name: of the file; remedy: what to do where the data have other classes."""

    name: str = "the model"
    remedy: str = "evaluate on data with the classes of its training"


def find_sources(
    cfg: CfgNode,
    part: str,
    outputs: Sequence[str] = (),
    train: PackedIndex | None = None,
    origin: Origin | None = None,
) -> list[Source]:
    """The sources of DATASETS.TRAIN or DATASETS.TEST, all under the same list of classes.

    part: "TRAIN" or "TEST". outputs: names of a trained model's, which fix the list; some of them may stand for no
    class. The data's classes are found in it by name, and may be fewer. origin: of these.
    Without outputs the lists that files or a classes.txt hold have to be the same, and so has that of train, the
    training data. VOC's folders without such a list have that of the others, or else, all of DATASETS.TRAIN and
    DATASETS.TEST together, the sorted names of their objects.
    Raises ValueError when there are no sources, no source names a class, their class lists differ or hold a class that
    the model lacks, or MODEL.NUM_CLASSES, unless it is 0 and without such outputs, is another number.
    """
    entries = cfg.DATASETS.TRAIN if part == "TRAIN" else cfg.DATASETS.TEST
    if not entries:
        raise UserError(f"DATASETS.{part} is empty; write a catalog name, {FORMS.replace(' or ', ', or ')}")
    try:
        sources = [load_dataset(entry, cfg.DATASETS.ROOT) for entry in entries]
    except (MissingFileError, UnknownNameError) as error:
        raise type(error)(f"DATASETS.{part}: {error}") from None
    if not cfg.DATASETS.ALLOW_OUTSIDE:
        for source in sources:
            check_inside(source)
    difficult = [part == "TRAIN" and _trains_difficult(cfg, source) for source in sources]
    check_plausible(part, sources, cfg.DATASETS.CROWDS != "objects", difficult)
    if cfg.DATASETS.CROWDS == "objects":
        sources = [with_crowds(source) for source in sources]
    if part == "TEST":
        for source in sources:
            _say_if_empty(source)
    indexes = [source.index for source in sources]
    if outputs:
        indexes = _in_outputs(part, indexes, outputs, origin or Origin())
    else:
        first = train
        if first is None:
            first = next((index for index in indexes if index.listed), None) or _agreed(cfg, part, indexes)
        # Lists that differ come first: a number of classes that fits one of them would be refused for the other.
        try:
            indexes = [beside(first, index) for index in indexes]
        except UserError as error:
            raise UserError(f"DATASETS.{part}: {error}") from None
    check_number(cfg, indexes[0], outputs)
    return [replace(source, index=index) for source, index in zip(sources, indexes, strict=True)]


def _agreed(cfg: CfgNode, part: str, indexes: Sequence[PackedIndex]) -> PackedIndex:
    """One of the indexes under the list of all, which nobody wrote in this part of DATASETS.

    It is that of the other part where that has all their classes, or else the union of what nobody listed. What is
    missing in the other part, or does not fit, is told when that is read.
    """
    every = list(indexes)
    for entry in cfg.DATASETS.TEST if part == "TRAIN" else cfg.DATASETS.TRAIN:
        with suppress(UserError):
            other = load_dataset(entry, cfg.DATASETS.ROOT, Problems()).index
            if not other.listed:
                every.append(other)
            elif not any(lacking(index, other.classes) for index in indexes):
                return other
    names = sorted({name for index in every for name in index.classes})
    if not names:
        paths = ", ".join(str(index.path) for index in indexes)
        raise UserError(
            f"DATASETS.{part}: {paths}: no file has an object, and without objects there are no classes; list them in "
            "a classes.txt, or name data with objects beside it"
        )
    return in_classes(indexes[0], names, range(1, len(names) + 1))


def _in_outputs(part: str, indexes: Sequence[PackedIndex], outputs: Sequence[str], origin: Origin) -> list[PackedIndex]:
    """The indexes under the list of a model's outputs that stand for a class."""
    every = [name for index in indexes for name in index.classes]
    classes = [name for name, real in zip(outputs, real_outputs(outputs, every), strict=True) if real]
    if part == "TEST":
        indexes = [_with_objects(index, classes) for index in indexes]
    for index in indexes:
        if names := lacking(index, classes):
            raise UserError(
                f"DATASETS.{part}: {index.path} has {counted(len(index.classes), 'class|classes')} "
                f"({shown(index.classes)}), and "
                f"{origin.name} was trained on {len(classes)} ({shown(classes)}), without {shown(names)}: "
                f"{origin.remedy}"
            )
    numbers = range(1, len(classes) + 1)
    found = [in_classes(index, classes, None if index.listed else numbers) for index in indexes]
    # Results are exported under the ids of each test file; what is trained on together has the same.
    return found if part == "TEST" else [in_classes(index, classes, found[0].category_ids) for index in found]


def _with_objects(index: PackedIndex, classes: Sequence[str]) -> PackedIndex:
    """An index without the classes that the model lacks, where no annotation is of any of them; says which."""
    used = set(np.unique(index.labels).tolist())
    away = [name for label, name in enumerate(index.classes) if label not in used]
    idle = lacking(index, classes)
    if not idle or not set(idle) <= set(away):
        return index
    _log.info("%s: no object is of %s, which the model does not know: left out", index.path, shown(idle))
    keep = [label for label, name in enumerate(index.classes) if label in used or name not in idle]
    place = np.full(len(index.classes), -1)
    place[keep] = np.arange(len(keep))
    return replace(
        index,
        classes=[index.classes[label] for label in keep],
        category_ids=[index.category_ids[label] for label in keep],
        labels=place[index.labels],
    )


def check_number(cfg: CfgNode, index: PackedIndex, outputs: Sequence[str] = ()) -> None:
    """Raise ValueError when MODEL.NUM_CLASSES, unless it is 0, is not the number of the data's classes.

    outputs: names of a trained model's. Where these are of another number, another MODEL.NUM_CLASSES is no remedy, and
    whoever loads the model compares the names.
    """
    classes = index.classes
    real = real_outputs(outputs, classes)
    if outputs and real.count(True) != len(classes):
        return
    wanted = len(classes) + real.count(False)
    if cfg.MODEL.NUM_CLASSES not in (0, wanted):
        names = ", ".join(classes[:SHOWN]) + (", .." if len(classes) > SHOWN else "")
        raise UserError(
            f"{index.path} lists {counted(len(classes), 'class|classes')} ({names}), the config has MODEL.NUM_CLASSES "
            f"{cfg.MODEL.NUM_CLASSES}; write MODEL.NUM_CLASSES {wanted}"
        )


def to_train_on(cfg: CfgNode, sources: Sequence[Source]) -> list[tuple[Source, bool]]:
    """The sources that give training something to see, each with whether its difficult objects are boxes like others.

    A source whose images are all without a box is background, which DATALOADER.FILTER_EMPTY_ANNOTATIONS leaves out, and
    that is said. Raises ValueError when no source has a box.
    """
    chosen = [(source, _trains_difficult(cfg, source)) for source in sources]
    boxed = [bool(source.index.num_boxes(difficult).any()) for source, difficult in chosen]
    if not any(boxed):
        paths = ", ".join(str(source.index.path) for source in sources)
        number = sum(len(source.index.labels) for source in sources)
        if not number:
            first = sources[0]
            if first.index.kind == "yolo" and len(first.index):
                why = first_wanted(first.folder / str(first.index.file_names[0]))
                raise UserError(f"{paths}: there are no annotations to train on: {printable(why)}")
            raise UserError(f"{paths}: there are no annotations to train on; it may be a test file")
        raise UserError(
            f"{paths}: no image has a box to train on ({counted(number, 'annotation|annotations')}); "
            f"{_why_none(sources, number)}"
        )
    if not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        return chosen
    for source, has in zip(sources, boxed, strict=True):
        if not has:
            _log.warning(
                "%s: %s has a box, so all are left out; DATALOADER.FILTER_EMPTY_ANNOTATIONS False trains on them as "
                "background",
                *(source.index.path, none_of(len(source.index), "image|images")),
            )
    return [one for one, has in zip(chosen, boxed, strict=True) if has]


def _trains_difficult(cfg: CfgNode, source: Source) -> bool:
    choice = cfg.DATASETS.TRAIN_DIFFICULT
    return source.difficult if choice == "auto" else choice == "yes"


def _why_none(sources: Sequence[Source], number: int) -> str:
    """Why none of the annotations is a box to train on, and the remedy."""
    crowds, difficult = (sum(int(getattr(s.index, name).sum()) for s in sources) for name in ("crowd", "difficult"))
    if crowds == number:
        return "all are crowds: where they are single objects, write DATASETS.CROWDS objects"
    if difficult == number:
        return "all are difficult: DATASETS.TRAIN_DIFFICULT yes trains on them"
    return "check its `annotations`"


def _say_if_empty(source: Source) -> None:
    """Says of a data set of the test that it has no object to measure with."""
    index = source.index
    if index.trainable().any():
        return
    where = ""
    if index.kind == "yolo":
        where = f"; {first_wanted(source.folder / str(index.file_names[0]))}"
    more = f" ({len(index.labels)} annotations)" if len(index.labels) else ""
    _log.warning(
        "DATASETS.TEST: %s: %s has an object to find%s, so nothing is measured on it%s",
        *(index.path, none_of(len(index), "image|images"), more, printable(where)),
    )


def with_crowds(source: Source) -> Source:
    """A source whose crowd regions are objects like others; says how many they are."""
    index = source.index
    number = int(index.crowd.sum())
    if not number:
        return source
    _log.info(
        "%s: %d of %s %s; by DATASETS.CROWDS %s",
        *(index.path, number, counted(len(index.crowd), "annotation|annotations")),
        *(("is a crowd", "it is an object") if number == 1 else ("are crowds", "they are objects")),
    )
    return replace(source, index=replace(index, crowd=np.zeros_like(index.crowd)))
