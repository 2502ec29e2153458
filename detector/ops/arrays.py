"""From what the network of a split file gives to detections, in NumPy alone: this file needs nothing else.

Shapes: N images, P locations or anchors of all levels, fine to coarse and row by row, C classes, K candidates, R
proposals of all images, D detections. `select(rule, outputs, sides, sizes, roi_heads)` is all that is called from
elsewhere.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

Found = tuple[Array, Array, Array]
"""Detections of an image, best first: boxes [D, 4] xyxy float32, scores [D] float32, labels [D] int64."""

RoIHeads = Callable[[dict[str, Array]], Sequence[Array]]
"""The second graph of two: its inputs by name -> its outputs in their order."""

MAX_LOG_SCALE = math.log(1000 / 16)
"""The largest dw and dh that are decoded."""

CHUNK = 128  # boxes that are held against all behind them at once: memory for speed, whatever their number


def select(
    rule: Mapping[str, Any],
    outputs: Sequence[Array],
    sides: tuple[int, int],
    sizes: Sequence[Sequence[int]],
    roi_heads: RoIHeads | None = None,
) -> list[Found]:
    """The detections of each image in pixels of the network's input, clipped to the image.

    rule: "selection" of the file's metadata: kind, strides and the keys that the function of its kind in `KINDS` reads;
    outputs: the arrays of the file, in their order; sides: height and width of the padded images; sizes [N, 2]: those
    of the images; roi_heads: runs the second file, where there is one. Raises ValueError for a kind that is none, and
    where the second file is wanting.
    """
    if rule["kind"] not in KINDS:
        raise ValueError(f"a selection of kind {rule['kind']!r} is unknown; known: {', '.join(KINDS)}")
    grids = grids_of(rule, sides)
    if rule["kind"] == "faster_rcnn":
        if roi_heads is None:
            raise ValueError("a selection of kind 'faster_rcnn' needs roi_heads, which runs the second file")
        return of_faster_rcnn(rule, outputs, grids, sizes, roi_heads)
    return KINDS[rule["kind"]](rule, outputs, grids, sizes)


def grids_of(rule: Mapping[str, Any], sides: tuple[int, int]) -> list[tuple[int, int]]:
    """Height and width of each level's map, in cells, of images of these padded sides."""
    return [(-(-sides[0] // stride), -(-sides[1] // stride)) for stride in rule["strides"]]


def of_fcos(
    rule: Mapping[str, Any], outputs: Sequence[Array], grids: list[tuple[int, int]], sizes: Sequence[Sequence[int]]
) -> list[Found]:
    """Of outputs logits [N, P, C], distances [N, P, 4] in pixels, centerness [N, P]. Tian et al. 2019, sec. 3.2 and 4.

    rule: offset, padded_strides: of the points; threshold, joint, candidates (of a level), nms, limit.
    """
    levels = [centres(grid, step, rule["offset"]) for grid, step in zip(grids, steps_of(rule, grids), strict=True)]
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


def of_faster_rcnn(
    rule: Mapping[str, Any],
    outputs: Sequence[Array],
    grids: list[tuple[int, int]],
    sizes: Sequence[Sequence[int]],
    roi_heads: RoIHeads,
) -> list[Found]:
    """Of outputs as `regions` takes them.

    The second graph gives, for the inputs that `regions` returns, scores [R, C + 1] in 0..1, background last, deltas
    [R, C or 1, 4] and of a cascade the boxes [R, 4] that these move. rule: what `regions` reads; weights: of deltas;
    agnostic: one box for all classes; threshold, nms, limit, side; method: hard, soft_linear or soft_gaussian; sigma,
    min_score. Ren et al. 2015, sec. 3.
    """
    given, counts = regions(rule, outputs, grids, sizes)
    scores, deltas, *moved = roi_heads(given)
    references = moved[0] if moved else given["boxes"]
    found, starts = [], np.cumsum([0, *counts])
    for (start, end), size in zip(pairwise(starts), sizes, strict=True):
        sure = scores[start:end, :-1]
        region, label = np.nonzero(sure > np.float32(rule["threshold"]))
        column = np.zeros_like(label) if rule["agnostic"] else label
        box = decode(references[start:end][region], deltas[start:end][region, column], rule["weights"])
        box, score = clip(box, size), sure[region, label]
        wide = (box[:, 2:] - box[:, :2]).min(axis=1, initial=np.inf) >= np.float32(rule["side"])
        box, score, label = box[wide], score[wide], label[wide]
        if rule["method"] == "hard":
            kept = suppress(box, score, label, rule["nms"], rule["limit"])
            score = score[kept]
        else:
            kept, score = suppress_softly(rule, box, score, label)
        found.append((box[kept], score, label[kept]))
    return found


def regions(
    rule: Mapping[str, Any], outputs: Sequence[Array], grids: list[tuple[int, int]], sizes: Sequence[Sequence[int]]
) -> tuple[dict[str, Array], list[int]]:
    """The inputs of Faster R-CNN's second graph, by name, and how many of the boxes are of each image.

    outputs: maps [N, channels, H, W] of the levels that are pooled, objectness [N, P] logits, deltas [N, P, 4]. The
    inputs: those maps, boxes [R, 4] and image [R] int64, and of a cascade sizes [N, 2] int64. rule: levels: names of
    the maps; cascade: whether it is one; and what `propose` reads.
    """
    *maps, objectness, deltas = outputs
    proposals = [propose(rule, *one, grids) for one in zip(objectness, deltas, sizes, strict=True)]
    counts = [len(one) for one in proposals]
    boxes, image = np.concatenate(proposals), np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    if not len(boxes):  # no runtime likes none; no image counts this one
        boxes, image = np.zeros((1, 4), np.float32), np.zeros(1, np.int64)
    given = dict(zip(rule["levels"], maps, strict=True)) | {"boxes": boxes, "image": image}
    if rule["cascade"]:
        given["sizes"] = np.array(sizes, np.int64)
    return given, counts


def propose(
    rule: Mapping[str, Any], objectness: Array, deltas: Array, size: Sequence[int], grids: list[tuple[int, int]]
) -> Array:
    """The proposals of one image [R, 4], best first; objectness [P] logits, deltas [P, 4]. Ren et al. 2015, sec. 3.

    rule: cells: of each level the anchors of a cell [A, 4]; padded_strides: of the anchors; candidates (of a level),
    proposals (of an image), proposal_nms, proposal_side: the shortest.
    """
    boxes, logits, levels, start = [], [], [], 0
    for i, (cells, grid, step) in enumerate(zip(rule["cells"], grids, steps_of(rule, grids), strict=True)):
        cells = np.array(cells, np.float32)
        end = start + grid[0] * grid[1] * len(cells)
        taken = best(objectness[start:end], rule["candidates"])
        cell, shape = np.divmod(taken, len(cells))
        row, column = np.divmod(cell, grid[1])
        corner = np.stack([column * step[1], row * step[0]], axis=1).astype(np.float32)
        boxes.append(decode(np.tile(corner, 2) + cells[shape], deltas[start + taken], (1, 1, 1, 1)))
        logits.append(objectness[start + taken])
        levels.append(np.full(len(taken), i))
        start = end
    box, logit, level = clip(np.concatenate(boxes), size), np.concatenate(logits), np.concatenate(levels)
    side = (box[:, 2:] - box[:, :2]).min(axis=1)
    wide = (side >= np.float32(rule["proposal_side"])) & (side > 0)
    box, logit, level = box[wide], logit[wide], level[wide]
    return box[suppress(box, logit, level, rule["proposal_nms"], rule["proposals"])]


KINDS: dict[str, Callable[..., list[Found]]] = {
    "fcos": of_fcos,
    "refinedet": of_refinedet,
    "faster_rcnn": of_faster_rcnn,
}


def suppress(boxes: Array, scores: Array, labels: Array, nms_threshold: float, limit: int) -> Array:
    """Indices of the `limit` best boxes that non-maximum suppression within each class leaves, best first.

    boxes [K, 4] xyxy; scores [K]; labels [K]; a box goes when a better one of its class has a larger IoU with it than
    nms_threshold. As better boxes alone decide on a box, the best few are tried before all.
    """
    order = np.argsort(-scores, kind="stable")
    count = 2 * limit
    while True:
        tried = order[:count]
        kept = tried[survivors(boxes[tried], labels[tried], nms_threshold)]
        if len(kept) >= limit or count >= len(order):
            return kept[:limit]
        count *= 4


def survivors(boxes: Array, labels: Array, nms_threshold: float) -> Array:
    """Indices, ascending, of the boxes that non-maximum suppression leaves of boxes that stand best first.

    Class by class, a chunk of boxes at a time: first among themselves, then those that stay against all behind them.
    """
    inside = np.argsort(labels, kind="stable")
    labels, number = labels[inside], len(inside)
    ends = np.searchsorted(labels, labels, side="right")
    x1, y1, x2, y2 = np.ascontiguousarray(boxes[inside].T)
    areas = (x2 - x1) * (y2 - y1)
    gone = np.zeros(number, bool)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for start in range(0, number, CHUNK):
            stop = min(start + CHUNK, number)
            rows = start + np.flatnonzero(~gone[start:stop])
            end = ends[stop - 1]  # of the last class in the chunk
            for own in (True, False):
                i, rest = rows[:, None], slice(start, stop) if own else slice(stop, end)
                width = np.minimum(x2[i], x2[rest]) - np.maximum(x1[i], x1[rest])
                height = np.minimum(y2[i], y2[rest]) - np.maximum(y1[i], y1[rest])
                common = np.maximum(width, 0) * np.maximum(height, 0)
                over = common / (areas[i] + areas[rest] - common) > nms_threshold
                over &= labels[i] == labels[rest]
                if own:
                    rows = rows[_first_come(over, rows - start)]
                    gone[start:stop] = True
                    gone[rows] = False
                else:
                    gone[rest] |= over.any(axis=0)
    return np.sort(inside[~gone])


def _first_come(over: Array, places: Array) -> list[int]:
    """Which rows stay, when one that stays sends away those it marks: over [B, chunk] bool; places [B] of the rows."""
    marked = [int.from_bytes(row.tobytes(), "little") for row in np.packbits(over, axis=1, bitorder="little")]
    kept, gone = [], 0  # a number whose bits are the places: by far the quickest set there is
    for row, (place, marks) in enumerate(zip(places.tolist(), marked, strict=True)):
        if not gone >> place & 1:
            kept.append(row)
            gone |= marks
    return kept


def suppress_softly(rule: Mapping[str, Any], boxes: Array, scores: Array, labels: Array) -> tuple[Array, Array]:
    """Indices and lowered scores of the best boxes, best first, by soft-NMS within each class. Bodla et al. 2017.

    rule: method, nms, sigma, min_score, limit, as the head's MODEL.ROI_HEADS.
    """
    rest, kept, found = scores.copy(), [], []
    x1, y1, x2, y2 = np.ascontiguousarray(boxes.T)
    areas = (x2 - x1) * (y2 - y1)
    for _ in range(min(rule["limit"], len(scores))):
        i = int(rest.argmax())
        if rest[i] <= np.float32(rule["min_score"]):
            break
        kept.append(i)
        found.append(rest[i])
        width = np.minimum(x2[i], x2) - np.maximum(x1[i], x1)
        height = np.minimum(y2[i], y2) - np.maximum(y1[i], y1)
        common = np.maximum(width, 0) * np.maximum(height, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            iou = np.nan_to_num(common / (areas[i] + areas - common))
        if rule["method"] == "soft_gaussian":
            decay = np.exp(-(iou**2) / np.float32(rule["sigma"]))
        else:
            decay = np.where(iou > rule["nms"], 1 - iou, np.float32(1))
        rest = np.where(labels == labels[i], rest * decay, rest)
        rest[i] = -1
    return np.array(kept, np.int64), np.array(found, scores.dtype)


def best(scores: Array, limit: int) -> Array:
    """Indices of the `limit` highest scores [K], descending."""
    chosen = np.argpartition(-scores, limit - 1)[:limit] if len(scores) > limit else np.arange(len(scores))
    return chosen[np.argsort(-scores[chosen], kind="stable")]


def steps_of(rule: Mapping[str, Any], grids: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pixels between the rows and the columns of each level; with padded_strides as torchvision divides them."""
    if not rule["padded_strides"]:
        return [(stride, stride) for stride in rule["strides"]]
    height, width = (side * rule["strides"][0] for side in grids[0])
    return [(height // h, width // w) for h, w in grids]


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
