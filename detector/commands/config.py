"""Print a merged config with where each value comes from; without FILE, list the shipped ones."""

from collections.abc import Sequence

from detector.commands import lists
from detector.commands.base import run, show, tool_parser
from detector.config import load_config_with_origins, origins_text
from detector.plugins import load_plugins

EXAMPLE = "detector config fcos/sreresnet50_1080 SOLVER.IMS_PER_BATCH 4"


def main(argv: Sequence[str] | None = None) -> None:
    """`[FILE] [--import PACKAGE] [KEY VALUE ...]`."""
    parser = tool_parser(__doc__, "config", EXAMPLE)
    parser.add_argument(
        "words", nargs="*", metavar="FILE KEY VALUE",
        help="FILE: a YAML file, or the name of a shipped one; then overrides, e.g. MODEL.BACKBONE.NAME sreresnet50",
    )  # fmt: skip
    args = parser.parse_intermixed_args(argv)
    if args.words:
        run(lambda: print_config(args.words[0], args.words[1:], args.imports), log=False)
    else:
        lists.configs([])


def print_config(file: str, opts: Sequence[str], imports: Sequence[str]) -> None:
    """Load plugins and the config; what is printed is YAML that can be loaded again. Parts must be registered."""
    load_plugins(imports)
    cfg, origins = load_config_with_origins(file, opts)
    from detector.models.build import check_names

    check_names(cfg)
    show(origins_text(cfg, origins))
