"""The work of `detector predict` with a network of salient objects: maps as grey pictures, and overlays."""

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from yacs.config import CfgNode

from detector.console import progress
from detector.data.entries import MASKS
from detector.data.loader import collate
from detector.data.mask_folders import find_masks
from detector.data.mask_set import CLASSES, nothing
from detector.data.pipeline import build_transforms
from detector.data.transforms import Compose
from detector.engine.device import pick_device, say_slow_precisions
from detector.engine.trouble import explained
from detector.errors import UserError
from detector.files import no_empty_folder, output_folder
from detector.inference import drawn
from detector.inference.prepare import prepare_for_inference
from detector.inference.salient import find_maps, overlaid
from detector.inference.sources import Picture, open_source
from detector.models.saliency import SaliencyNet, build_saliency
from detector.structures import MaskTarget
from detector.tasks.predict import unread_text
from detector.tasks.remedies import remedies
from detector.tasks.resolve import resolve_model
from detector.tasks.saliency import check_saliency_names
from detector.tasks.trained import find_trained, load_found
from detector.text import counted

log = logging.getLogger("detector")

MAPS, OVERLAYS = "maps", "overlays"
"""Folders below the output."""


def predict_maps(
    cfg: CfgNode,
    source: str,
    output: Path,
    threshold: float | str,
    weight: str | Path | None = None,
    which: str = "newest",
    formats: Sequence[str] = (),
) -> int:
    """Write a map for each picture of `source` to `output`/maps, as a grey PNG, and an overlay to `output`/overlays.

    source: pictures as `detector.inference.sources.open_text` takes them, or an entry "saliency:FOLDER"; threshold:
    from which level, in 0..1, an overlay shows something as salient. weight, which: as `find_trained` takes them.
    A picture that cannot be read is named in a warning and left out. Returns the number of maps.
    Raises ValueError, before anything is done, where a file would be overwritten that no prediction wrote, and for a
    video, a camera, other formats than pictures and the threshold "auto"; at the end where a picture could not be read.
    """
    check_saliency_names(cfg)
    if isinstance(threshold, str):
        raise UserError(f"--threshold {threshold} is of the classes of a detector: write a number in 0..1")
    if other := [name for name in formats if name != "pictures"]:
        raise UserError(
            f"--format {other[0]} is for boxes: with MODEL.TASK saliency write --format pictures, or leave it out"
        )
    pictures = _pictures(cfg, source, output)
    files = [picture.path for picture in pictures if picture.path]
    names = drawn.name_pictures(files)
    maps = [output / MAPS / name.with_suffix(".png") for name in names]
    overlays = [output / OVERLAYS / name for name in names]
    targets = {path: drawn.is_map for path in maps} | {path: drawn.was_drawn for path in overlays}
    drawn.check_targets(output, targets, files)
    device = pick_device(cfg.MODEL.DEVICE)
    found = find_trained(cfg, weight, which)
    cfg = resolve_model(cfg, len(CLASSES))
    model, _, _ = load_found(cfg, found, CLASSES, build_saliency)
    say_slow_precisions(device, {"TEST.AMP": cfg.TEST.AMP})
    with no_empty_folder(output):
        output_folder(output)
        with explained(remedies(cfg, training=False)):
            ready: SaliencyNet = prepare_for_inference(model.to(device), cfg.TEST.AMP)  # type: ignore[assignment]
        read = _write(ready, cfg, zip(pictures, maps, overlays, strict=True), threshold, len(pictures))
        if not read:  # nor is there a folder to name
            raise UserError(f"{source}: {unread_text(len(pictures), len(pictures))}")
        total = counted(len(pictures), "map|maps")
        log.info("%d of %s -> %s, overlays at %g -> %s", read, total, output / MAPS, threshold, output / OVERLAYS)
        if read < len(pictures):
            raise UserError(f"{source}: {unread_text(len(pictures) - read, len(pictures))}")
    return read


def _write(
    model: SaliencyNet, cfg: CfgNode, rows: Iterable[tuple[Picture, Path, Path]], threshold: float, total: int
) -> int:
    """Writes map and overlay of each of `total` pictures; returns how many could be read."""
    transforms, read = build_transforms(cfg, train=False), 0
    with explained(remedies(cfg, training=False)), progress(total=total, desc="predict", unit="image") as bar:
        for picture, map_path, overlay in rows:
            try:
                image = picture.read()
            except (OSError, UserError) as error:
                log.warning("%s; it is left out", error)
                continue
            finally:
                bar.update()
            if image is None:
                continue
            levels = levels_of(model, image, transforms, cfg)
            drawn.save_map(map_path, levels)
            drawn.save_picture(overlay, overlaid(image, levels, threshold))
            read += 1
    return read


def levels_of(model: SaliencyNet, image: np.ndarray, transforms: Compose, cfg: CfgNode) -> np.ndarray:
    """The map of a picture, uint8 [H, W], which is of the size of the picture uint8 [H, W, 3]."""
    scaled, _ = transforms(image, nothing(), np.random.default_rng(0))
    target = MaskTarget(
        mask=torch.from_numpy(scaled[..., 0]), image_id=0, original=(image.shape[0], image.shape[1]), draw=0
    )
    item = (torch.from_numpy(scaled).permute(2, 0, 1), target)
    (levels,) = find_maps(model, collate([item], cfg.DATALOADER.SIZE_DIVISIBILITY), cfg.TEST.AMP)  # type: ignore[list-item]
    return levels


def _pictures(cfg: CfgNode, source: str, output: Path) -> list[Picture]:
    if source.startswith(MASKS) and not os.path.lexists(source):
        pairs = find_masks(source, cfg.DATASETS.ROOT).pairs.values()
        opened = open_source([pair.picture for pair in pairs])
    else:
        opened = open_source(source, root=cfg.DATASETS.ROOT, outside=cfg.DATASETS.ALLOW_OUTSIDE, output=output)
    if opened.moving:
        opened.close()
        raise UserError(f"{source} is a {opened.kind}: with MODEL.TASK saliency name pictures")
    return list(opened.pictures)
