"""Whether one detector is better than another on the same images: a paired bootstrap of COCO's measures.

Takes two results.json on one test set. The images are drawn again with replacement, the same ones for both detectors,
and the measures' differences over all draws give 95 % intervals: what differs by the choice of test images alone. What
another seed of the training would change is not in them.
"""

import argparse
from collections.abc import Sequence

from detector.commands.base import config_parser, read_config, run
from detector.data.loader import build_test_datasets
from detector.evaluation.coco import value_of
from detector.evaluation.precision import accumulate
from detector.evaluation.report import MEASURES
from detector.evaluation.results import read_results
from detector.evaluation.significance import differences, judge


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 1")
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
    index = next(iter(build_test_datasets(read_config(args)).values())).index
    pair = [judge(index, read_results(path, index)) for path in args.results]
    one, other = (accumulate(judged.matching, index.labels, len(index.classes)) for judged in pair)
    print(f"{len(index)} images, {args.draws} draws: first - second, 95 % interval, two-sided p")
    for name, found in differences(pair[0], pair[1], args.draws)[0].items():
        values = f"{value_of(one, MEASURES[name]):.4f} - {value_of(other, MEASURES[name]):.4f} = {found.value:+.4f}"
        low, high = found.interval
        print(f"{name:<6} {values}  ({low:+.4f}, {high:+.4f})  p {found.p:.3f}{'  a tie' * found.tie}")


if __name__ == "__main__":
    main()
