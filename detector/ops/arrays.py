"""From what the network of a split file gives to detections, in NumPy alone: this file needs nothing else.

Shapes: N images, P locations or anchors of all levels, fine to coarse and row by row, C classes, K candidates, D
detections. `select(rule, outputs, sides, sizes)` is all that is called from elsewhere.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

Found = tuple[Array, Array, Array]
"""Detections of an image, best first: boxes [D, 4] xyxy float32, scores [D] float32, labels [D] int64."""

MAX_LOG_SCALE = math.log(1000 / 16)
"""The largest dw and dh that are decoded."""


def select(
    rule: Mapping[str, Any], outputs: Sequence[Array], sides: tuple[int, int], sizes: Sequence[Sequence[int]]
) -> list[Found]:
    """The detections of each image in pixels of the network's input, clipped to the image.

    rule: "selection" of the file's metadata: kind, strides and the keys that `of_fcos` or `of_refinedet` read; outputs:
    the arrays [N, P, ..] of the file, in their order; sides: height and width of the padded images; sizes [N, 2]: those
    of the images. Raises ValueError for a kind that is none.
    """
    if rule["kind"] not in KINDS:
        raise ValueError(f"a selection of kind {rule['kind']!r} is unknown; known: {', '.join(KINDS)}")
    grids = [(-(-sides[0] // stride), -(-sides[1] // stride)) for stride in rule["strides"]]
    return KINDS[rule["kind"]](rule, outputs, grids, sizes)


def of_fcos(
    rule: Mapping[str, Any], outputs: Sequence[Array], grids: list[tuple[int, int]], sizes: Sequence[Sequence[int]]
) -> list[Found]:
    """Of outputs logits [N, P, C], distances [N, P, 4] in pixels, centerness [N, P]. Tian et al. 2019, sec. 3.2 and 4.

    rule: offset, padded_strides: of the points; threshold, joint, candidates (of a level), nms, limit.
    """
    steps = [(stride, stride) for stride in rule["strides"]]
    if rule["padded_strides"]:
        height, width = (side * rule["strides"][0] for side in grids[0])
        steps = [(height // h, width // w) for h, w in grids]
    levels = [centres(grid, step, rule["offset"]) for grid, step in zip(grids, steps, strict=True)]
    points = np.concatenate(levels)
    ends = np.cumsum([len(level) for level in levels])
    least = rule["threshold"] ** 2 if rule["joint"] else rule["threshold"]
    cut = math.log(least / (1 - least)) if least > 0 else -math.inf
    found = []
    for logits, distances, centerness, size in zip(*outputs, sizes, strict=True):
        # The few that pass first: a sigmoid of all would take longer than everything else.
        pairs = np.flatnonzero(logits > np.float32(cut))
        place, label = np.divmod(pairs, logits.shape[1])
        score = sigmoid(logits.reshape(-1)[pairs]) * sigmoid(centerness[place])
        parts = []
        starts = np.searchsorted(place, [0, *ends])
        for start, end in pairwise(starts):
            parts.append(start + best(score[start:end], rule["candidates"]))
        taken = np.concatenate(parts)
        place, label, score = place[taken], label[taken], np.sqrt(score[taken])
        if rule["joint"]:
            kept = score > np.float32(rule["threshold"])
            place, label, score = place[kept], label[kept], score[kept]
        apart = distances[place]
        boxes = clip(np.concatenate([points[place] - apart[:, :2], points[place] + apart[:, 2:]], axis=1), size)
        kept = suppress(boxes, score, label, rule["nms"], rule["limit"])
        found.append((boxes[kept], score[kept], label[kept]))
    return found


def of_refinedet(
    rule: Mapping[str, Any], outputs: Sequence[Array], grids: list[tuple[int, int]], sizes: Sequence[Sequence[int]]
) -> list[Found]:
    """Of outputs arm_logits [N, P, 2], arm_deltas [N, P, 4], odm_logits [N, P, C + 1], odm_deltas [N, P, 4].

    rule: cells: of each level the anchors of a cell [A, 4]; clipped: whether to the padded image; weights: of deltas;
    objectness, threshold, candidates (of a class), nms, limit, side: the shortest of a box. Zhang et al. 2018, sec. 3.
    """
    levels = []
    for cells, grid, stride in zip(rule["cells"], grids, rule["strides"], strict=True):
        corner = np.tile(centres(grid, (stride, stride), 0.0), 2)[:, None]
        levels.append((corner + np.array(cells, np.float32)).reshape(-1, 4))
    anchors = np.concatenate(levels)
    if rule["clipped"]:
        middle, half = (anchors[:, :2] + anchors[:, 2:]) / 2, (anchors[:, 2:] - anchors[:, :2]) / 2
        half = np.minimum(half, np.array(grids[0][::-1], np.float32) * np.float32(rule["strides"][0] / 2))
        anchors = np.concatenate([middle - half, middle + half], axis=1)
    found = []
    for arm_logits, arm_deltas, odm_logits, odm_deltas, size in zip(*outputs, sizes, strict=True):
        unsure = np.nonzero(softmax(arm_logits)[:, 0] >= np.float32(rule["objectness"]))[0]
        scores = np.ascontiguousarray(softmax(odm_logits[unsure])[:, :-1])
        pairs = np.flatnonzero(scores > np.float32(rule["threshold"]))
        pairs = pairs[np.argsort(pairs % scores.shape[1], kind="stable")]  # class by class
        row, label = np.divmod(pairs, scores.shape[1])
        score = scores.reshape(-1)[pairs]
        starts = np.searchsorted(label, np.arange(scores.shape[1] + 1))
        parts = [start + best(score[start:end], rule["candidates"]) for start, end in pairwise(starts)]
        taken = np.concatenate(parts)
        score, label, place = score[taken], label[taken], unsure[row[taken]]
        refined = decode(anchors[place], arm_deltas[place], rule["weights"])
        boxes = decode(refined, odm_deltas[place], rule["weights"])
        kept = suppress(boxes, score, label, rule["nms"], rule["limit"])
        boxes = clip(boxes[kept], size)  # last, so that suppression compares what was predicted
        wide = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) >= np.float32(rule["side"])
        found.append((boxes[wide], score[kept][wide], label[kept][wide]))
    return found


KINDS: dict[str, Callable[..., list[Found]]] = {"fcos": of_fcos, "refinedet": of_refinedet}


def suppress(boxes: Array, scores: Array, labels: Array, nms_threshold: float, limit: int) -> Array:
    """Indices of the `limit` best boxes that non-maximum suppression within each class leaves, best first.

    boxes [K, 4] xyxy; scores [K]; labels [K]; a box goes when a better one of its class has a larger IoU with it than
    nms_threshold. There is one round for each box that stays, and each looks at its class alone.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, labels = boxes[order], labels[order]
    inside = np.argsort(labels, kind="stable")  # class by class, best first
    place = np.empty(len(order), np.int64)
    place[inside] = np.arange(len(order))
    ends = np.searchsorted(labels[inside], labels, side="right")
    x1, y1, x2, y2 = np.ascontiguousarray(ranked[inside].T)
    areas = (x2 - x1) * (y2 - y1)
    gone = bytearray(len(order))  # by rank; a list would be as quick to read and slow to write
    marks = np.frombuffer(gone, np.uint8)
    kept: list[int] = []
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for rank in range(len(order)):
            if gone[rank]:
                continue
            kept.append(rank)
            if len(kept) == limit:
                break
            i, rest = place[rank], slice(place[rank] + 1, ends[rank])
            width = np.minimum(x2[i], x2[rest]) - np.maximum(x1[i], x1[rest])
            height = np.minimum(y2[i], y2[rest]) - np.maximum(y1[i], y1[rest])
            common = np.maximum(width, 0) * np.maximum(height, 0)
            marks[inside[rest][common / (areas[i] + areas[rest] - common) > nms_threshold]] = 1
    return order[kept]


def best(scores: Array, limit: int) -> Array:
    """Indices of the `limit` highest scores [K], descending."""
    chosen = np.argpartition(-scores, limit - 1)[:limit] if len(scores) > limit else np.arange(len(scores))
    return chosen[np.argsort(-scores[chosen], kind="stable")]


def centres(grid: tuple[int, int], step: tuple[int, int], offset: float) -> Array:
    """((i + offset) * step) of the cells of a map (height, width): [height * width, 2] float32 x, y, row by row."""
    y, x = ((np.arange(side, dtype=np.float32) + np.float32(offset)) * s for side, s in zip(grid, step, strict=True))
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def decode(references: Array, deltas: Array, weights: Sequence[float]) -> Array:
    """The boxes [K, 4] xyxy that deltas [K, 4] make of references [K, 4]. Ren et al. 2015, eq. 2."""
    size = references[:, 2:] - references[:, :2]
    deltas = deltas / np.array(weights, np.float32)
    centre = deltas[:, :2] * size + references[:, :2] + np.float32(0.5) * size
    half = np.float32(0.5) * size * np.exp(np.minimum(deltas[:, 2:], np.float32(MAX_LOG_SCALE)))
    return np.concatenate([centre - half, centre + half], axis=1)


def clip(boxes: Array, size: Sequence[int]) -> Array:
    """The boxes limited to an image of this height and width."""
    return np.clip(boxes, 0, np.array([size[1], size[0]] * 2, np.float32))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), of any x."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def softmax(x: Array) -> Array:
    """Over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    e /= e.sum(axis=-1, keepdims=True)
    return e
