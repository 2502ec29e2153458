"""Whether one detector is better than another on the same images: a paired bootstrap of COCO's AP, AP50 and AP75.

Takes two results.json on one test set. The images are drawn again with replacement, the same ones for both detectors,
and the measures' differences over all draws give 95 % intervals: what differs by the choice of test images alone. What
another seed of the training would change is not in them.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from detector.commands.base import config_parser, read_config, run
from detector.data.loader import build_test_datasets
from detector.data.packed import PackedIndex
from detector.errors import UserError

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MEASURES = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}  # of IOUS
DETECTIONS = 100  # of each image that count, those of the highest scores


class Judged(NamedTuple):
    """The detections of one class in order of score, and its objects.

    image [D]: position; right and wrong [10, D] bool by IoU, neither: does not count; objects [I]: how many an image
    has that are to be found.
    """

    image: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    objects: np.ndarray


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def main(argv: Sequence[str] | None = None) -> None:
    """`--config-file FILE --results FIRST SECOND [--draws 2000] [KEY VALUE ...]`."""
    parser = config_parser((__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--results", nargs=2, required=True, metavar="FILE", help="results.json of either detector")
    add("--draws", type=_count, default=2000, metavar="N", help="of test sets")
    run(lambda: report(parser.parse_intermixed_args(argv)))


def report(args: argparse.Namespace) -> None:
    """Print the measures of both and the interval of each difference."""
    dataset = next(iter(build_test_datasets(read_config(args)).values()))
    first, second = (judge(dataset.index, read_results(Path(path))) for path in args.results)
    print(f"{len(dataset.index)} images, {args.draws} draws: first - second, 95 % interval, share of draws above 0")
    for name, (one, other, differences) in compare(first, second, args.draws).items():
        low, high = np.percentile(differences, (2.5, 97.5))
        above = (differences > 0).mean()
        print(f"{name:<5} {one:.4f} - {other:.4f} = {one - other:+.4f}  ({low:+.4f}, {high:+.4f})  {above:.1%}")


def read_results(path: Path) -> list[dict[str, Any]]:
    """The detections of a file in COCO's results format."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[dict[str, Any]])
    except msgspec.DecodeError as error:
        raise UserError(f"{path} holds no detections in COCO's results format: {error}") from None


def compare(
    first: Sequence[Judged], second: Sequence[Judged], draws: int, seed: int = 0
) -> dict[str, tuple[float, float, np.ndarray]]:
    """Measure -> both values on all images, and their difference in each draw [draws]."""
    number = len(first[0].objects)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(number, np.full(number, 1 / number), size=draws)
    weights = np.concatenate([np.ones((1, number), np.int64), weights])  # the first draw is all images once
    ours, theirs = average_precision(first, weights), average_precision(second, weights)
    found = {}
    for name, part in MEASURES.items():
        one, other = np.nanmean(ours[:, :, part], axis=(1, 2)), np.nanmean(theirs[:, :, part], axis=(1, 2))
        found[name] = float(one[0]), float(other[0]), (one - other)[1:]
    return found


def average_precision(judged: Sequence[Judged], weights: np.ndarray) -> np.ndarray:
    """AP of each draw, class and IoU, [B, C, 10]: the mean of the best precision at 101 recalls; nan without objects.

    weights [B, I]: how often an image is in a draw.
    """
    found = np.full((len(weights), len(judged), len(IOUS)), np.nan)
    for k, one in enumerate(judged):
        objects = weights @ one.objects
        for t in range(len(IOUS)):
            counts = one.right[t] | one.wrong[t]
            times, right = weights[:, one.image[counts]], one.right[t, counts]
            for b, (w, total) in enumerate(zip(times, objects, strict=True)):
                if total:
                    found[b, k, t] = _area(np.cumsum(w * right), np.cumsum(w), total)
    return found


def _area(right: np.ndarray, all_: np.ndarray, objects: int) -> float:
    precision = right / np.maximum(all_, 1)
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return float(best[np.searchsorted(right / objects, RECALLS)].mean())


def judge(index: PackedIndex, results: Sequence[Mapping[str, Any]]) -> list[Judged]:
    """Each class's detections matched with its objects as COCO does it; crowds and difficult objects do not count."""
    position = {image_id: i for i, image_id in enumerate(index.image_ids.tolist())}
    label = {category: k for k, category in enumerate(index.category_ids)}
    found: dict[tuple[int, int], list[tuple[float, list[float]]]] = defaultdict(list)
    for row in results:
        if row["image_id"] not in position or row["category_id"] not in label:
            raise UserError(f"{index.path} has no image {row['image_id']!r} or no category {row['category_id']!r}")
        found[position[row["image_id"]], label[row["category_id"]]].append((row["score"], row["bbox"]))
    image_of = np.repeat(np.arange(len(index)), np.diff(index.offsets))
    free = index.crowd | index.difficult
    return [_judge_class(k, index, image_of, free, found) for k in range(len(index.category_ids))]


def _judge_class(
    k: int,
    index: PackedIndex,
    image_of: np.ndarray,
    free: np.ndarray,
    found: Mapping[tuple[int, int], list[tuple[float, list[float]]]],
) -> Judged:
    of_class = index.labels == k
    scores, images, rights, counted = [], [], [], []
    for i in range(len(index)):
        guesses = sorted(found.get((i, k), ()), key=lambda guess: -guess[0])[:DETECTIONS]
        truth = of_class & (image_of == i)
        truth_boxes = np.array(index.boxes_xywh[truth])
        boxes = np.array([box for _, box in guesses], np.float64).reshape(-1, 4)
        right, ignored = match(_overlaps(boxes, truth_boxes, free[truth]), free[truth])
        rights.append(right)
        counted.append(right | ~ignored)
        scores += [score for score, _ in guesses]
        images += [i] * len(guesses)
    order = np.argsort(-np.array(scores), kind="stable")
    right, counts = (np.concatenate(parts, axis=1)[:, order] for parts in (rights, counted))
    objects = np.bincount(image_of[of_class & ~free], minlength=len(index))
    return Judged(np.array(images, np.int64)[order], right, counts & ~right, objects)


def match(overlaps: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which detections are right and which lie on objects that do not count, both [10, D] by IoU.

    overlaps [D, M] with the objects, detections in order of score; free [M]: of objects that do not count, each of
    which may take several detections, but only those that no other object can take.
    """
    right, ignored = (np.zeros((len(IOUS), len(overlaps)), bool) for _ in range(2))
    for t, least in enumerate(IOUS):
        left = ~free
        for d, row in enumerate(overlaps):
            near = np.where(left & (row >= least), row, -1)
            if near.size and near.max() >= 0:
                right[t, d] = True
                left[len(near) - 1 - near[::-1].argmax()] = False  # of equal ones the last, as in pycocotools
            else:
                ignored[t, d] = (free & (row >= least)).any()
    return right, ignored


def _overlaps(boxes: np.ndarray, truth: np.ndarray, free: np.ndarray) -> np.ndarray:
    """IoU [D, M]; with what does not count, the share of the detection that lies in it. Boxes xywh."""
    corner, truth_corner = boxes[:, None, :2], truth[None, :, :2]
    low = np.maximum(corner, truth_corner)
    high = np.minimum(corner + boxes[:, None, 2:], truth_corner + truth[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(2)
    areas, truth_areas = boxes[:, 2:].prod(1)[:, None], truth[:, 2:].prod(1)[None]
    return common / np.maximum(np.where(free, areas, areas + truth_areas - common), 1e-12)


if __name__ == "__main__":
    main()
