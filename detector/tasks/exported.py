"""An exported file set to work: its config, and what looks at pictures with it."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yacs.config import CfgNode

from detector.config import config_from_text
from detector.errors import UserError

log = logging.getLogger("detector")

FIXED = ("TEST.DETECTIONS_PER_IMG", "DATALOADER.SIZE_DIVISIBILITY", "INPUT.PIXEL_MEAN", "INPUT.PIXEL_STD")
"""What else than the keys of MODEL is in the graph, and cannot be told to it any more."""

if TYPE_CHECKING:
    from detector.inference.predictor import Predictor
    from detector.inference.runtimes import ExportedDetector


def open_exported(path: Path, opts: Sequence[str] = (), said: str = "TEST.AMP") -> "tuple[ExportedDetector, CfgNode]":
    """The detector of a file and its config with KEY VALUE overrides; results go beside the file unless they say else.

    said: what the log calls the precision that TEST.AMP asks for. Raises ValueError for overrides of what is fixed in
    the file, and for a file that is none.
    """
    from detector.inference.runtimes import auto_text, load_exported

    if fixed := [key for key in opts[::2] if (key.startswith("MODEL.") or key in FIXED) and key != "MODEL.DEVICE"]:
        raise UserError(f"{path} is what its {fixed[0]} made of it: leave that out, or export the run anew")
    model = load_exported(path)
    first = ["OUTPUT_DIR", str(path.parent), "MODEL.DEVICE", "cpu", "TEST.AMP", "off"]
    cfg = config_from_text(model.facts.config, str(path), [*first, *opts])
    if cfg.MODEL.DEVICE not in ("cpu", "auto"):
        raise UserError(f"{path} runs on the CPU: leave out MODEL.DEVICE {cfg.MODEL.DEVICE}")
    if cfg.TEST.AMP == "auto":
        log.info("%s %s", said, auto_text(path, model.facts))
        cfg.defrost()
        cfg.TEST.AMP = "off"
        cfg.freeze()
    elif cfg.TEST.AMP != "off":
        model = load_exported(path, cfg.TEST.AMP, say=False)
    return model, cfg


def exported_predictor(model: "ExportedDetector", cfg: CfgNode, path: Path) -> "Predictor":
    """The predictor of a file, in the sizes of its config and with its test-time augmentation."""
    from detector.data.pipeline import at_sizes, build_transforms
    from detector.inference.augmented import build_augmentation
    from detector.inference.predictor import Predictor, TorchNetwork

    facts = model.facts
    transforms = [build_transforms(one, train=False) for one in at_sizes(cfg)]
    network = TorchNetwork(
        model, facts.names, facts.category_ids, transforms, facts.resize.divisibility, "off", build_augmentation(cfg)
    )

    def thresholds() -> Sequence[float]:
        if facts.thresholds is None:
            raise UserError(
                f'threshold="auto": {path} has no thresholds; `detector analyze pr RUN` finds them, and a new '
                "`detector export` writes them into the file"
            )
        return facts.thresholds

    return Predictor(network, thresholds, cfg.DATASETS.ROOT, cfg.DATASETS.ALLOW_OUTSIDE)
