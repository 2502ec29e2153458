"""From a published file to a checkpoint of ours and its config."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from yacs.config import CfgNode

from detector.config import changes_text, config_text, load_config
from detector.conversion.base import SOURCES, Converted, flip_channels
from detector.errors import MissingFileError, UserError
from detector.files import user_path, write_atomic
from detector.models.backbones import BACKBONES
from detector.models.build import build_detector, resolve_parts
from detector.weights.address import is_address
from detector.weights.checkpoint import save_checkpoint
from detector.weights.find import resolve
from detector.weights.load import load_detector
from detector.weights.read import WeightFile
from detector.weights.record import Weights

MARK = "# Written by `detector convert`, which may replace this file and the checkpoint beside it.\n"

log = logging.getLogger("detector")


def convert(
    source: str, published: str | Path, output: Path, config_file: str | None = None, opts: Sequence[str] = ()
) -> CfgNode:
    """Write a checkpoint of ours and, beside it, the config that goes with it: OUTPUT.yaml. Returns that config.

    published: a path or an address; the file is read without running anything in it. What its project does differently
    goes over `config_file`, and `opts`, KEY VALUE pairs, over both. The checkpoint holds model, config and, where
    known, class names and category ids. Raises ValueError that lists every key that does not fit, and where a file
    would be overwritten that no conversion wrote; then nothing is written.
    """
    if output.suffix in (".yaml", ".yml"):
        raise UserError(f"--output {output}: name the checkpoint, e.g. {output.with_suffix('.pth')}")
    config = output.with_suffix(".yaml")
    published = _local(published)
    _check_output(output, config, published)
    found = SOURCES[source](published)
    if found.needs_config and config_file is None:
        raise UserError(f"--from {source} needs --config-file: its files do not tell how they were trained")
    base = {**found.config, "MODEL.WEIGHT": str(output)}
    cfg = load_config(config_file, [*_pairs(base), *opts], idle=False)
    cfg = load_config(config_file, [*_pairs(base), *_pairs(_match_pixels(found, cfg)), *opts])
    cfg = resolve_parts(cfg)
    model = build_detector(cfg)
    load_detector(model, WeightFile(published, found.state))
    content: dict[str, object] = {"model": model.state_dict(), "config": config_text(cfg)}
    if len(found.categories) == cfg.MODEL.NUM_CLASSES:
        content |= {"classes": list(found.categories.values()), "category_ids": list(found.categories)}
    write_atomic(config, (MARK + changes_text(cfg, found.config)).encode())
    save_checkpoint(output, content)
    if found.dropped:
        log.warning("left out, as nothing here computes with it: %s", ", ".join(found.dropped))
    for note in found.notes:
        log.warning("%s", note)
    log.info("%s -> %s: --config-file %s", published, output, config)
    return cfg


def _local(published: str | Path) -> Path:
    """The file that a path or an address means, downloaded if need be."""
    if is_address(str(published)):
        return resolve(str(published), "published", Weights(), {})
    path = user_path(published)
    if not path.is_file():
        raise MissingFileError(f"--input {path}: there is no such file; name the published checkpoint, or its address")
    return path


def _check_output(output: Path, config: Path, published: Path) -> None:
    """Raise ValueError where a file would be overwritten that no conversion wrote: the config says who wrote both."""
    for path in (output, config):
        if path.exists() and path.samefile(published):
            raise UserError(f"--output {output}: {path} is the --input itself; write another --output")
    own = config.is_file() and config.read_bytes().startswith(MARK.encode())
    for path in (config, output):
        if os.path.lexists(path) and not own:
            raise UserError(
                f"--output {output}: {path} is there, and no conversion wrote it; write another --output, or delete it"
            )


def _pairs(values: Mapping[str, object]) -> list[str]:
    return [str(x) for pair in values.items() for x in pair]


def _match_pixels(found: Converted, cfg: CfgNode) -> dict[str, object]:
    """The keys that give the weights the pixels they expect; where the channels' order differs, weights are turned.

    A config that sets the statistics itself is left alone.
    """
    if found.pixels is None or cfg.INPUT.PIXEL_MEAN:
        return {}
    own, wanted = BACKBONES[cfg.MODEL.BACKBONE.NAME].weights.pixels, found.pixels
    if wanted.order != own.order:
        found.state = flip_channels(found.state)
        wanted = wanted._replace(order=own.order, mean=wanted.mean[::-1], std=wanted.std[::-1])
    if wanted == own:
        return {}
    return {"INPUT.PIXEL_MEAN": wanted.mean, "INPUT.PIXEL_STD": wanted.std}
