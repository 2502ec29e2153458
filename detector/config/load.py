"""YAML files, their bases and KEY VALUE overrides -> one frozen config that knows where each value comes from.

Every scalar is taken as text and read as the type of its key's default. So one rule serves files and the command line,
`off` is a word where a word is wanted, and `1e-4` is a number.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from yacs.config import CfgNode

from detector.config.checks import validate
from detector.config.defaults import FROM_ENVIRONMENT, flat, get_defaults
from detector.config.idle import OF_NECK, idle_text
from detector.config.reading import Layer, leaves, parse, read_layers
from detector.config.shipped import find_config
from detector.config.values import NOTHING, UnknownKeyError, no_value_text, sections_of, value_of
from detector.errors import UserError

log = logging.getLogger("detector")

FOLDERS = ("OUTPUT_DIR", "DATASETS.ROOT")
"""The keys that name a folder. MODEL.WEIGHT and the data sets' entries may be no path: who reads them expands `~`."""

COMMAND_LINE = "command line"
DEFAULT = "default"
FILE_NAME = "default (from the file's name)"
_PLUGIN = "; if a plugin declares it, add --import PACKAGE"


def load_config(
    path: str | Path | None, opts: Sequence[object] | Mapping[str, object] = (), *, idle: bool = True
) -> CfgNode:
    """The frozen config of a YAML file (None: the defaults) with overrides on top.

    opts: `["KEY", "VALUE", ..]` or `{"KEY": "VALUE"}`; values may be texts, as on the command line, or numbers, lists
    and the like.
    path: a file, or the name of a shipped one, "fcos/resnet50_1080". `_BASE_: other.yaml` or `[one.yaml, other.yaml]`,
    relative to the file that says so or the name of a shipped one, is read first; of several the later ones win, bases
    may have bases, and a file that is reached twice counts once, where it was reached first. Keys may be nested or
    dotted. A list is written `[480000, 640000]` or `(480000, 640000)`; one plain value serves as a list of one
    (`DATASETS.TRAIN images:train.json`). Of SOLVER.EPOCHS and MAX_ITER the one that is set later counts. Where neither
    NAME.yaml nor a base that is not shipped sets OUTPUT_DIR, it is output/NAME.

    Where another head is named on top of a shipped file, what that file says of its own head's neck gives way, unless
    MODEL.NECK.NAME is set. Logs one line that names the keys which were set and have no effect, unless idle is False;
    those of a shipped file only where nothing is set on top of it.
    Raises FileNotFoundError for a missing file or base.
    Raises ValueError for YAML that cannot be read, bases in a circle, an override without value, and, all in one
    message with file and key: unknown keys (with the nearest ones), keys of other frameworks (with what to write now),
    values of a wrong type or range.
    """
    return load_config_with_origins(path, opts, idle=idle)[0]


def load_config_with_origins(
    path: str | Path | None, opts: Sequence[object] | Mapping[str, object] = (), *, idle: bool = True
) -> tuple[CfgNode, dict[str, str]]:
    """`load_config`, and where every value comes from: "default", an environment variable, a file, "command line"."""
    if path is None:
        return _build(_overrides(opts), idle=idle)
    file = find_config(path)
    layers = read_layers(file)
    if not layers[-1].shipped:  # two files of a person on one shipped base do not share its folder
        layers = [a._replace(pairs=[p for p in a.pairs if p[0] != "OUTPUT_DIR"]) if a.shipped else a for a in layers]
    return _build([*layers, *_overrides(opts)], name=file.stem, idle=idle)


def config_from_text(
    text: str, source: str = "checkpoint", opts: Sequence[object] | Mapping[str, object] = ()
) -> CfgNode:
    """The frozen config that `config_text` wrote, with overrides on top; keys newer than the text have their defaults.

    Raises ValueError, naming `source`, for keys that no longer exist and whatever else `load_config` refuses.
    """
    layer = Layer(source, leaves(parse(text, source), source), written=True)
    return _build([layer, *_overrides(opts)])[0]


def _overrides(opts: Sequence[object] | Mapping[str, object]) -> list[Layer]:
    if isinstance(opts, Mapping):
        opts = [word for pair in opts.items() for word in pair]
    if len(opts) % 2:
        raise UserError(f"{COMMAND_LINE}: {no_value_text(str(opts[-1]))}")
    words = [str(word) for word in opts]
    return [Layer(COMMAND_LINE, list(zip(words[::2], words[1::2], strict=True)))] if opts else []


def _build(layers: Sequence[Layer], name: str = "", *, idle: bool = True) -> tuple[CfgNode, dict[str, str]]:
    """The defaults with each layer's values on top, checked and frozen, and the origins of all keys.

    name: of the folder in OUTPUT_DIR where no layer sets that, so that two configs do not share one.
    Raises one ValueError with all problems.
    """
    cfg = get_defaults()
    defaults = flat(cfg)
    sections = sections_of(defaults)
    problems: dict[str, list[str]] = {}
    sources: dict[str, str] = {}
    shipped = {layer.source for layer in layers if layer.shipped}
    described = cfg.MODEL.HEAD.NAME
    for layer in layers:
        values: dict[str, object] = {}
        for key, value in layer.pairs:
            if key in sections and (value == {} or value in NOTHING):
                continue
            try:
                values[key] = value_of(key, value, defaults, sections)
            except UserError as error:
                foreign = layer.written or key.rpartition(".")[0] not in {"", *sections}
                remedy = _PLUGIN if foreign and isinstance(error, UnknownKeyError) else ""
                problems.setdefault(layer.source, []).append(f"{error}{remedy}")
        if "SOLVER.MAX_ITER" in values:
            if values.get("SOLVER.EPOCHS") and not layer.written:
                problems.setdefault(layer.source, []).append(
                    "SOLVER.EPOCHS and SOLVER.MAX_ITER both say how long to train; write one of them"
                )
            if cfg.SOLVER.EPOCHS:  # of an earlier layer: the later one counts
                values.setdefault("SOLVER.EPOCHS", 0)
        for key, value in values.items():
            _set(cfg, key, value)
            sources[key] = layer.source
        if layer.shipped:
            described = cfg.MODEL.HEAD.NAME
    if problems:
        raise UserError(_report(problems))
    if cfg.MODEL.HEAD.NAME != described and "MODEL.NECK.NAME" not in sources:  # a person leaves the shipped detector
        for key in OF_NECK:
            if sources.get(key) in shipped:
                _set(cfg, key, defaults[key])
                del sources[key]
    named = {}
    if name and "OUTPUT_DIR" not in sources:
        cfg.OUTPUT_DIR = f"{cfg.OUTPUT_DIR}/{name}"
        named["OUTPUT_DIR"] = FILE_NAME
    for key in FOLDERS:
        _set(cfg, key, os.path.expanduser(flat(cfg)[key]))
    validate(cfg, sources)
    cfg.freeze()
    written = {layer.source for layer in layers if layer.written}
    persons = {key: source for key, source in sources.items() if source not in written}
    if idle and (line := idle_text(cfg, persons, shipped)):
        log.warning("%s", line)
    return cfg, {key: DEFAULT for key in defaults} | FROM_ENVIRONMENT | sources | named


def _set(cfg: CfgNode, key: str, value: object) -> None:
    *path, leaf = key.split(".")
    for name in path:
        cfg = cfg[name]
    cfg[leaf] = value


def _report(problems: Mapping[str, Sequence[str]]) -> str:
    """One line for one problem, else a list of them under each file."""
    lines = [f"{source}: {text}" for source, texts in problems.items() for text in texts]
    if len(lines) == 1:
        return lines[0]
    listed = [line for source, texts in problems.items() for line in (f"{source}:", *(f"  {text}" for text in texts))]
    return "\n".join([f"{len(lines)} problems in the config", *listed])
