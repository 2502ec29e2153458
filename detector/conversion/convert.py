"""From a published file to a checkpoint of ours and its config."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from yacs.config import CfgNode

from detector.config import changes_text, config_text, load_config
from detector.conversion.base import SOURCES, Converted, flip_channels
from detector.errors import UserError
from detector.models.backbones import BACKBONES
from detector.models.build import build_detector, resolve_parts
from detector.weights.checkpoint import save_checkpoint
from detector.weights.load import load_detector
from detector.weights.read import WeightFile

log = logging.getLogger("detector")


def convert(
    source: str, published: Path, output: Path, config_file: str | None = None, opts: Sequence[str] = ()
) -> CfgNode:
    """Write a checkpoint of ours and, beside it, the config that goes with it: OUTPUT.yaml. Returns that config.

    The file is read without running anything in it. What its project does differently goes over `config_file`, and
    `opts`, KEY VALUE pairs, over both. The checkpoint holds model, config and, where known, class names and category
    ids. Raises ValueError that lists every key that does not fit; then nothing is written.
    """
    if output.suffix in (".yaml", ".yml"):
        raise UserError(f"--output {output}: name the checkpoint, e.g. {output.with_suffix('.pth')}")
    found = SOURCES[source](published)
    if found.needs_config and config_file is None:
        raise UserError(f"--from {source} needs --config-file: its files do not tell how they were trained")
    base = {**found.config, "MODEL.WEIGHT": str(output)}
    cfg = load_config(config_file, [*_pairs(base), *opts])
    cfg = load_config(config_file, [*_pairs(base), *_pairs(_match_pixels(found, cfg)), *opts])
    cfg = resolve_parts(cfg)
    model = build_detector(cfg)
    load_detector(model, WeightFile(published, found.state))
    content: dict[str, object] = {"model": model.state_dict(), "config": config_text(cfg)}
    if len(found.categories) == cfg.MODEL.NUM_CLASSES:
        content |= {"classes": list(found.categories.values()), "category_ids": list(found.categories)}
    output.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(output, content)
    config = output.with_suffix(".yaml")
    config.write_text(changes_text(cfg, found.config), encoding="utf-8")
    if found.dropped:
        log.warning("left out, as nothing here computes with it: %s", ", ".join(found.dropped))
    for note in found.notes:
        log.warning("%s", note)
    log.info("%s -> %s: --config-file %s", published, output, config)
    return cfg


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
