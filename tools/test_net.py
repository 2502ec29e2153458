"""Evaluate MODEL.WEIGHT, else the newest checkpoint of OUTPUT_DIR, on DATASETS.TEST."""

from collections.abc import Sequence

from detector.cli import config_parser, read_config, run
from detector.engine.evaluate import test


def main(argv: Sequence[str] | None = None) -> None:
    """`--config-file FILE [--import PACKAGE] [KEY VALUE ...]`."""
    args = config_parser(__doc__).parse_intermixed_args(argv)
    run(lambda: test(read_config(args)))


if __name__ == "__main__":
    main()
