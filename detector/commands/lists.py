"""What there is by name: shipped configs, and the registered backbones, necks, heads and data sets."""

from collections.abc import Callable, Sequence
from functools import partial
from inspect import getdoc
from pathlib import Path

from detector.commands.base import plain_parser, run, show, tool_parser
from detector.config import get_defaults, shipped_configs
from detector.files import user_path
from detector.plugins import load_plugins

OURS = "detector.models.backbones."


def configs(argv: Sequence[str] | None = None) -> None:
    """List the shipped configs, which `--config-file` takes by name from any folder."""
    plain_parser(configs.__doc__, "configs", "detector configs").parse_args(argv)
    run(show_configs, log=False)


def backbones(argv: Sequence[str] | None = None) -> None:
    """List the registered backbones with family, published ImageNet top-1 (%) and the licence of the weights."""
    _list("backbones", backbones.__doc__, argv, show_backbones)


def necks(argv: Sequence[str] | None = None) -> None:
    """List the registered necks, the values of MODEL.NECK.NAME."""
    _list("necks", necks.__doc__, argv, show_necks)


def heads(argv: Sequence[str] | None = None) -> None:
    """List the registered heads, the values of MODEL.HEAD.NAME."""
    _list("heads", heads.__doc__, argv, show_heads)


def datasets(argv: Sequence[str] | None = None) -> None:
    """List the data sets that DATASETS.TRAIN and DATASETS.TEST take by name, and where they are looked for."""
    root = get_defaults().DATASETS.ROOT
    parser = tool_parser(datasets.__doc__, "datasets", "detector datasets --root /data")
    parser.add_argument("--root", type=user_path, default=root, metavar="FOLDER", help="as DATASETS.ROOT")
    args = parser.parse_args(argv)
    run(lambda: show_datasets(args.imports, args.root), log=False)


def _list(
    verb: str, description: str | None, argv: Sequence[str] | None, action: Callable[[Sequence[str]], None]
) -> None:
    """A verb whose only flag is --import: what it names is loaded, so that it is listed too."""
    args = tool_parser(description, verb, f"detector {verb} --import my_package").parse_args(argv)
    run(lambda: action(args.imports), log=False)


def show_configs() -> None:
    """A name a line."""
    show("\n".join(shipped_configs()))


def show_backbones(imports: Sequence[str]) -> None:
    """In alphabetical order; a plugin's family is its module."""
    from detector.models.backbones import BACKBONES

    load_plugins(imports)
    rows = [
        (
            name,
            unwrapped(entry.build).__module__.removeprefix(OURS),
            _percent(entry.weights.top1),
            entry.weights.licence,
        )
        for name, entry in sorted(BACKBONES.items())
    ]
    show(columns([("backbone", "family", "top-1", "licence of weights"), *rows]))


def show_necks(imports: Sequence[str]) -> None:
    """Each with the first line that its builder says of itself."""
    from detector.models.necks import NECKS

    load_plugins(imports)
    show(columns([("neck", "what it is"), *((name, about(NECKS[name])) for name in sorted(NECKS))]))


def show_heads(imports: Sequence[str]) -> None:
    """Each with the neck that MODEL.NECK.NAME auto is, and the first line that its builder says of itself."""
    from detector.models.heads import HEADS
    from detector.models.heads.base import STANDARDS

    load_plugins(imports)
    rows = [(name, STANDARDS[name].neck, about(HEADS[name])) for name in sorted(HEADS)]
    show(columns([("head", "its neck", "what it is, and its keys"), *rows]))


def show_datasets(imports: Sequence[str], root: Path) -> None:
    """Each with its place under `root`, and whether it is there."""
    from detector.data.catalog import DATASETS, FORMS, Location

    load_plugins(imports)
    rows = []
    for name, locate in sorted(DATASETS.items()):
        place = locate(root)
        file = place.folder if not isinstance(place, Location) else place.annotations
        state = "there" if place.folder.is_dir() and file.exists() else "missing"
        if isinstance(place, Location) and place.make and state == "missing":
            state = "made when first used"
        rows.append((name, state, str(file)))
    show(columns([("data set", "state", "annotations, or folder in VOC's layout"), *rows]))
    show(f"own data: {FORMS}")


def about(builder: object) -> str:
    """The first line of a builder's docstring."""
    return (getdoc(unwrapped(builder)) or "").partition("\n")[0]


def unwrapped(builder: object) -> object:
    """The function of a builder that has some of its arguments filled in."""
    while isinstance(builder, partial):
        builder = builder.func
    return builder


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Cells under each other, left-aligned; "-" where there is nothing."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell or '-':<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
