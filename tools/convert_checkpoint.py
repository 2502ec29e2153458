"""Turn a published detector checkpoint into one of ours: named rules for each source, strict, with a report."""

import logging
from collections.abc import Sequence
from pathlib import Path

from torchvision.models.detection import FCOS_ResNet50_FPN_Weights
from yacs.config import CfgNode

from detector.cli import config_parser, read_config, run
from detector.config import config_text
from detector.engine.checkpoint import save_checkpoint
from detector.engine.weights import load_detector
from detector.models.backbones.load import read_weights, renamed
from detector.models.build import build_detector

log = logging.getLogger("detector")

Rules = tuple[tuple[str, str], ...]

SOURCES: dict[str, Rules] = {
    # The official FCOS and SReResNet repositories, both forks of maskrcnn-benchmark.
    "fcos": (
        (r"^module\.", ""),
        (r"^backbone\.body\.(stem\.)?", "backbone."),
        *((rf"^backbone\.fpn\.fpn_(inner|layer){i}\.", rf"neck.\1.c{i + 1}.") for i in range(1, 5)),
        (r"^backbone\.fpn\.top_blocks\.", "neck."),
        (r"^rpn\.head\.", "head."),
    ),
}


def main(argv: Sequence[str] | None = None) -> None:
    """`--from SOURCE --input FILE --output FILE --config-file FILE [KEY VALUE ...]`."""
    parser = config_parser(__doc__)
    parser.add_argument("--from", dest="source", required=True, choices=sorted(SOURCES), help="where the file is from")
    parser.add_argument("--input", required=True, metavar="FILE", help="the published checkpoint")
    parser.add_argument("--output", required=True, metavar="FILE", help="where ours goes; MODEL.WEIGHT takes it")
    args = parser.parse_intermixed_args(argv)
    run(lambda: convert(read_config(args), args.source, Path(args.input), Path(args.output)))


def convert(cfg: CfgNode, source: str, published: Path, output: Path) -> None:
    """Convert one file for the detector that a config describes; the file is read without running anything in it.

    The checkpoint holds model, config and, for 80 classes, COCO's names and category ids. Raises ValueError that lists
    every key that does not fit.
    """
    model = build_detector(cfg)
    load_detector(model, renamed(read_weights(published), SOURCES[source]), str(published))
    content = {"model": model.state_dict(), "config": config_text(cfg)}
    classes = coco_classes()
    if cfg.MODEL.NUM_CLASSES == len(classes):
        content |= {"classes": list(classes.values()), "category_ids": list(classes)}
    output.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(output, content)
    log.info("%s -> %s: %d tensors", published, output, len(content["model"]))


def coco_classes() -> dict[int, str]:
    """COCO's 80 category ids and names, in the order of the ids, as torchvision's weights list them."""
    names = FCOS_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return {i: name for i, name in enumerate(names) if name not in ("__background__", "N/A")}


if __name__ == "__main__":
    main()
