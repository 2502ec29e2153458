"""What a head cannot reach on a data set, as findings with picture, record and box."""

from collections.abc import Iterator

import numpy as np

from detector.analysis.perfect import APART, BETWEEN, HIDDEN, UNKNOWN, WEAK
from detector.analysis.reach import Reach
from detector.data.packed import PackedIndex
from detector.data.problems import Finding, declare
from detector.text import counted

ALONE = declare(
    "reach-unanswered",
    "warning",
    "boxes are not taught: no location or anchor answers for them",
    "Larger INPUT sizes give small boxes locations; MODEL.FCOS.SIZES_OF_INTEREST and CENTER_SAMPLING_RADIUS, or the "
    "sizes and ratios of anchors, decide on the others.",
)
COVERED = declare(
    "reach-hidden",
    "warning",
    "boxes are not taught by themselves: all their locations or anchors answer for other boxes",
    "Look for objects that are annotated twice; larger INPUT sizes or a finer level part those that are near.",
)
UNFIT = declare(
    "reach-weak-anchor",
    "note",
    "boxes have no anchor above the threshold and are taught by a worse one alone",
    "Anchors of other sizes or ratios fit them better: see MODEL.RPN or MODEL.REFINEDET.",
)
SMALL = declare(
    "reach-small",
    "warning",
    "boxes are smaller, as the network sees them, than a cell of its finest level",
    "Larger INPUT.MIN_SIZE_TRAIN and MIN_SIZE_TEST, or tiles of the pictures, make them larger.",
)
CROWDED = declare(
    "reach-crowded-image",
    "warning",
    "images hold more objects than detections are kept",
    "Raise the key that the text names.",
)
RECALL = declare(
    "reach-recall",
    "note",
    "data sets are measured: the share of their boxes that the head would find after a perfect training",
    "Nothing is wrong near 100 %; the rest cannot be learnt with this config, and the other reach kinds say why.",
)


def reach_findings(reach: Reach) -> list[Finding]:
    """What is to be said of a `Reach`: every box and image that is out of reach, and the recall at best."""
    return [*_untaught(reach), *_weak(reach), *_small(reach), *_crowded(reach), *_recall(reach)]


def _untaught(reach: Reach) -> Iterator[Finding]:
    by = "location" if reach.threshold is None else "anchor"
    reasons = {
        APART: "no location lies in it" if reach.threshold is None else "no anchor touches it",
        BETWEEN: "it is in the range of no level that has a location in it",
        HIDDEN: f"each of its {by}s answers for another box",
        UNKNOWN: "nothing answers for it",
    }
    for fate, reason in reasons.items():
        for row in reach.of(fate).tolist():
            kind, by_itself = (COVERED, " by itself") if fate == HIDDEN else (ALONE, "")
            yield _of_box(reach, row, kind, f"{reach.head} is not taught it{by_itself}, as {reason}")


def _weak(reach: Reach) -> Iterator[Finding]:
    fits = dict(zip(reach.rows.tolist(), reach.fits.tolist(), strict=True))
    for row in reach.of(WEAK).tolist():
        text = f"its best anchor has an IoU of {fits[row]:.2f}, below the threshold of {reach.threshold:g}"
        yield _of_box(reach, row, UNFIT, text)


def _small(reach: Reach) -> Iterator[Finding]:
    limit = f"{reach.cells:g} cell{'s' * (reach.cells != 1)} of {reach.stride} pixels"
    for row, side in zip(reach.small.tolist(), reach.sides.tolist(), strict=True):
        yield _of_box(reach, row, SMALL, f"its shorter side is {side:.1f} pixels after the resize, less than {limit}")


def _crowded(reach: Reach) -> Iterator[Finding]:
    index = reach.index
    for image, objects in zip(reach.crowded.tolist(), reach.objects.tolist(), strict=True):
        keys = ", ".join(f"{key} {limit}" for key, limit in reach.limits.items() if objects > limit)
        record, picture = index.record(image), str(index.file_names[image])
        yield Finding(
            CROWDED, f"{picture} ({record}): {counted(objects, 'object|objects')}, and {keys} are kept", picture, record
        )


def _recall(reach: Reach) -> Iterator[Finding]:
    if reach.recall:
        shares = " and ".join(f"{100 * share:.2f} % at IoU {iou:g}" for iou, share in reach.recall.items())
        number = f"{len(reach.images)} of {counted(len(reach.index), 'image|images')}"
        text = (
            f"{reach.index.path}: after a perfect training {reach.head} would find {shares} of "
            f"{counted(len(reach.rows), 'box|boxes')} of {number}{_shared(reach)}"
        )
        yield Finding(RECALL, text)


def _shared(reach: Reach) -> str:
    """How many boxes count as found though nothing answers for them: they lie on a box that is found."""
    hidden = 0 if reach.found is None else int((reach.found[0] & (reach.fates == HIDDEN)).sum())
    verb = "is" if hidden == 1 else "are"
    return f"; {hidden} of them {verb} not taught and found by the detection of the box beneath" if hidden else ""


def _of_box(reach: Reach, row: int, kind: str, what: str) -> Finding:
    index = reach.index
    image = int(np.searchsorted(index.offsets, row, side="right")) - 1
    record, picture = _record(index, image, row), str(index.file_names[image])
    x, y, width, height = index.boxes_xywh[row].tolist()
    box = f"{width:g} x {height:g} at {x:g}, {y:g}"
    return Finding(kind, f"{picture} ({record}), box {box}: {what}", picture, record, (x, y, width, height))


def _record(index: PackedIndex, image: int, row: int) -> str:
    """An annotation as the readers name it."""
    name = index.annotation_ids[row].item()
    return f"{index.path / name}" if index.kind == "voc" else f"{index.record(image)}, annotation id {name!r}"
