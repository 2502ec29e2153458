"""Turn a published detector checkpoint into one of ours, with its config: strict, with a report."""

from collections.abc import Sequence
from pathlib import Path

from detector.cli import run, tool_parser
from detector.conversion import SOURCES, convert
from detector.plugins import load_plugins


def main(argv: Sequence[str] | None = None) -> None:
    """`--from SOURCE --input FILE --output FILE [--config-file FILE] [KEY VALUE ...]`."""
    parser = tool_parser(__doc__)
    parser.add_argument("--from", dest="source", required=True, metavar="SOURCE", help=", ".join(sorted(SOURCES)))
    parser.add_argument("--input", required=True, metavar="FILE", help="the published checkpoint")
    parser.add_argument("--output", required=True, metavar="FILE", help="where ours goes; its config goes beside it")
    parser.add_argument("--config-file", metavar="FILE", help="YAML file under what the source does differently")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="overrides, e.g. MODEL.BACKBONE.NAME sreresnet50")
    args = parser.parse_intermixed_args(argv)

    def action() -> None:
        load_plugins(args.imports)
        convert(args.source, Path(args.input), Path(args.output), args.config_file, args.opts)

    run(action)


if __name__ == "__main__":
    main()
