"""Which layers stay in float32: those that hurt most, for as long as int8 costs more than it may."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from detector.inference.export.facts import LeftOut
from detector.structures import Detection

MOST = 8
"""Groups that are left out at most: each costs an evaluation."""


class Choice(NamedTuple):
    """left_out: in their order; lost: AP, a fraction, that int8 in the others costs; reached: whether the aim was."""

    left_out: list[LeftOut]
    lost: float
    reached: bool


def choose(
    groups: Sequence[str],
    lost: Callable[[Sequence[str]], float],
    errors: Callable[[], Mapping[str, float]],
    aim: float,
) -> Choice:
    """Leave out the group of the largest error, and then the next, until no more AP is lost than `aim`.

    lost: the AP that int8 in all groups but the given ones costs; errors: what int8 in each group alone does, which is
    measured only if it has to be. Where the aim is out of reach, the groups that cost least are the choice, and one
    group stays in int8.
    """
    best = Choice([], lost([]), False)
    if best.lost <= aim:
        return best._replace(reached=True)
    left: list[LeftOut] = []
    before, found = best.lost, errors()
    for group in sorted(groups, key=lambda name: -found[name])[: min(MOST, len(groups) - 1)]:
        left = [*left, LeftOut(group, found[group], before)]
        before = lost([one.layers for one in left])
        if before <= aim:
            return Choice(left, before, True)
        if before < best.lost:
            best = Choice(left, before, False)
    return best


def difference(wanted: Sequence[Detection], found: Sequence[Detection]) -> float:
    """How much detections of the same pictures differ, 0 (not at all) to 1 (nothing is found again).

    Each wanted detection counts by its score s: s (1 - IoU) with the found one of its label that overlaps it most,
    and what that one's score lacks of s or has beyond it, together at most s.
    """
    total = missed = 0.0
    for want, have in zip(wanted, found, strict=True):
        score = want["scores"].numpy().astype(np.float64)
        total += float(score.sum())
        if not len(have["scores"]):
            missed += float(score.sum())
            continue
        ious = _ious(want["boxes"].numpy(), have["boxes"].numpy())
        ious = np.where(want["labels"].numpy()[:, None] == have["labels"].numpy(), ious, 0.0)
        best = ious.argmax(1)
        overlap = ious[np.arange(len(best)), best]
        gap = np.abs(score - have["scores"].numpy()[best])
        missed += float(np.minimum(score, score * (1 - overlap) + gap).sum())
    return missed / total if total else 0.0


def _ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[D, E] of boxes xyxy."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clip(0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
