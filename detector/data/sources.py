"""The sources that DATASETS names: read, with one list of classes, and with boxes where they are trained on."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from yacs.config import CfgNode

from detector.data.catalog import FORMS, Source, check_inside, load_dataset
from detector.data.packed import PackedIndex, check_same_classes
from detector.data.plausible import check_plausible
from detector.errors import MissingFileError, UnknownNameError, UserError
from detector.structures import real_outputs

_log = logging.getLogger("detector")

SHOWN = 5  # classes that a message names


def find_sources(
    cfg: CfgNode, part: str, outputs: Sequence[str] = (), train: PackedIndex | None = None
) -> list[Source]:
    """The sources of DATASETS.TRAIN or DATASETS.TEST, all of which list the same classes.

    part: "TRAIN" or "TEST"; outputs: names of the model's, some of which may stand for no class; train: the training
    data, whose classes they must list. A source without any object may name no class, as VOC's folders then do: it has
    those of the training data or of the other sources.
    Raises ValueError when there are none, no source names a class, their class lists differ, or MODEL.NUM_CLASSES,
    unless it is 0 and without such outputs, is another number.
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
    check_plausible(part, sources, crowds=cfg.DATASETS.CROWDS != "objects")
    if cfg.DATASETS.CROWDS == "objects":
        sources = [_with_crowds(source) for source in sources]
    first = train if train is not None else next((source.index for source in sources if source.index.classes), None)
    if first is None:
        paths = ", ".join(str(source.index.path) for source in sources)
        raise UserError(
            f"DATASETS.{part}: {paths}: no file has an object, and without objects there are no classes; list them in "
            "a classes.txt, or name data with objects beside it"
        )
    sources = [source if source.index.classes else _with_classes(source, first) for source in sources]
    # Lists that differ come first: a number of classes that fits one of them would be refused for the other.
    for source in sources:
        check_same_classes(first, source.index)
    check_number(cfg, first if train is None else sources[0].index, outputs)
    return sources


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
            f"{index.path} lists {len(classes)} classes ({names}), the config has MODEL.NUM_CLASSES "
            f"{cfg.MODEL.NUM_CLASSES}; write MODEL.NUM_CLASSES {wanted}"
        )


def to_train_on(cfg: CfgNode, sources: Sequence[Source]) -> list[tuple[Source, bool]]:
    """The sources that give training something to see, each with whether its difficult objects are boxes like others.

    A source whose images are all without a box is background, which DATALOADER.FILTER_EMPTY_ANNOTATIONS leaves out, and
    that is said. Raises ValueError when no source has a box.
    """
    choice = cfg.DATASETS.TRAIN_DIFFICULT
    chosen = [(source, source.difficult if choice == "auto" else choice == "yes") for source in sources]
    boxed = [bool(source.index.num_boxes(difficult).any()) for source, difficult in chosen]
    if not any(boxed):
        paths = ", ".join(str(source.index.path) for source in sources)
        number = sum(len(source.index.labels) for source in sources)
        if not number:
            raise UserError(f"{paths}: there are no annotations to train on; it may be a test file")
        raise UserError(f"{paths}: no image has a box to train on ({number} annotations); check its `annotations`")
    if not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        return chosen
    for source, has in zip(sources, boxed, strict=True):
        if not has:
            _log.warning(
                "%s: none of its %d images has a box, so all are left out; DATALOADER.FILTER_EMPTY_ANNOTATIONS False "
                "trains on them as background",
                *(source.index.path, len(source.index)),
            )
    return [one for one, has in zip(chosen, boxed, strict=True) if has]


def _with_crowds(source: Source) -> Source:
    """A source whose crowd regions are objects like others; says how many they are."""
    index = source.index
    number = int(index.crowd.sum())
    _log.info(
        "%s: %d of %d annotations are crowds; by DATASETS.CROWDS they are objects", index.path, number, len(index.crowd)
    )
    return replace(source, index=replace(index, crowd=np.zeros_like(index.crowd))) if number else source


def _with_classes(source: Source, other: PackedIndex) -> Source:
    """A source without objects under the classes of another."""
    return replace(source, index=replace(source.index, classes=other.classes, category_ids=other.category_ids))
