"""Train a detector and evaluate it at the end."""

from collections.abc import Sequence

from detector.cli import config_parser, read_config, run
from detector.tasks.detection import train


def main(argv: Sequence[str] | None = None) -> None:
    """`--config-file FILE [--resume] [--import PACKAGE] [KEY VALUE ...]`."""
    parser = config_parser(__doc__)
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint of OUTPUT_DIR")
    args = parser.parse_intermixed_args(argv)
    run(lambda: train(read_config(args), resume=args.resume))


if __name__ == "__main__":
    main()
