"""The official FCOS and SReResNet repositories, both forks of maskrcnn-benchmark."""

from pathlib import Path

from detector.conversion.base import SOURCES, Converted, used_categories
from detector.weights.read import read_file
from detector.weights.rename import renamed

RULES = (
    (r"^module\.", ""),
    (r"^backbone\.body\.(stem\.)?", "backbone."),
    *((rf"^backbone\.fpn\.fpn_(inner|layer){i}\.", rf"neck.\1.c{i + 1}.") for i in range(1, 5)),
    (r"^backbone\.fpn\.top_blocks\.", "neck."),
    (r"^rpn\.head\.", "head."),
)


@SOURCES.register("fcos")
def convert_fcos(path: Path) -> Converted:
    """A .pth of the official FCOS. Its options leave no trace in the tensors, so a config has to name them."""
    state = renamed(read_file(path).state, RULES)
    classes = len(state.get("head.cls_logits.bias", ()))
    categories = used_categories()
    return Converted(state, categories=categories if classes == len(categories) else {}, needs_config=True)
