"""What every source provides, the table of sources, and what they share: facts that the shapes of tensors tell."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor
from torchvision.models.detection import FCOS_ResNet50_FPN_Weights

from detector.errors import UserError
from detector.registry import Registry
from detector.structures import NO_CLASS
from detector.weights.read import State
from detector.weights.record import Pixels

RESNETS: dict[tuple[bool, tuple[int, ...], int, int], str] = {
    # bottleneck, blocks of each stage, groups, channels of the first 3x3 convolution
    (False, (2, 2, 2, 2), 1, 64): "resnet18",
    (False, (3, 4, 6, 3), 1, 64): "resnet34",
    (True, (3, 4, 6, 3), 1, 64): "resnet50",
    (True, (3, 4, 23, 3), 1, 64): "resnet101",
    (True, (3, 8, 36, 3), 1, 64): "resnet152",
    (True, (3, 4, 6, 3), 32, 128): "resnext50_32x4d",
    (True, (3, 4, 23, 3), 32, 256): "resnext101_32x8d",
    (True, (3, 4, 23, 3), 64, 256): "resnext101_64x4d",
}

FIRST = ("backbone.conv1.weight", "backbone.conv1.0.weight", "backbone.blocks.0.weight")
"""Where the first convolution is: of a ResNet, of a deep stem, of a VGG."""

NO_CAFFE = (
    "taken for RESNETS.STRIDE_IN_1X1 False: a ResNet-152 with the stride in its 1x1 convolutions has no counterpart "
    "here, and one that was trained so computes something else with it in the 3x3"
)


@dataclass
class Converted:
    """A detector of another project in our terms.

    state: tensors under our names. config: values of the keys in which that project differs, and of those that the
    shapes tell. pixels: what the weights expect; None: as the config's backbone says. categories: name and original id
    of every class output, in their order; empty: unknown. dropped: keys of the file that nothing here computes with.
    notes: what its user has to know. needs_config: the file does not tell everything, so a config has to.
    """

    state: State
    config: dict[str, object] = field(default_factory=dict)
    pixels: Pixels | None = None
    categories: dict[int, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    needs_config: bool = False


SOURCES: Registry[Callable[[Path], Converted]] = Registry("source")
"""Name for `--from` -> what reads a file of that project. Raises ValueError naming the file that it cannot read."""


def coco_categories(background: bool = False) -> dict[int, str]:
    """COCO's 90 numbered categories by id, ten of which were never used; background: its output 0 as well."""
    names = FCOS_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return {i: name for i, name in enumerate(names) if i or background}


def used_categories() -> dict[int, str]:
    """COCO's 80 categories by id."""
    names = coco_categories()
    return {i: names[i] for i in names if names[i] not in NO_CLASS}


def set_aside(state: Mapping[str, Tensor], pattern: str) -> tuple[State, list[str]]:
    """The tensors whose keys do not match the beginning `pattern`, and the keys that do."""
    dropped = [key for key in state if re.match(pattern, key)]
    return {key: value for key, value in state.items() if key not in dropped}, dropped


def background_last(state: State) -> State:
    """A two-stage detector whose first class output, and first box of each, is the background's -> ours, in place.

    Ours has the background as the last class output, and no box of it.
    """
    for key in [key for key in state if key.startswith("head.box_heads.")]:
        if ".cls_logits." in key:
            state[key] = state[key].roll(-1, 0)
        elif ".deltas." in key:
            state[key] = state[key][4:].clone()
    return state


def block_counts(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """How many blocks layer1 to layer4 of "backbone.*" have."""
    return tuple(
        len({key.split(".")[2] for key in state if key.startswith(f"backbone.layer{i}.")}) for i in range(1, 5)
    )


def backbone_name(state: Mapping[str, Tensor], path: Path, *, caffe: bool = False) -> str:
    """The registered ResNet that the tensors "backbone.*" are of; caffe: with the stride in the 1x1 where it can be.

    Raises ValueError naming the file for another network.
    """
    first = state.get("backbone.layer1.0.conv2.weight")
    if first is None or "backbone.conv1.weight" not in state:
        raise UserError(f"{path}: its backbone is no ResNet of four stages, so it has no counterpart here")
    depths = block_counts(state)
    bottleneck = "backbone.layer1.0.conv3.weight" in state
    groups = len(first) // first.shape[1]
    name = RESNETS.get((bottleneck, depths, groups, len(first)))
    if name is None:
        raise UserError(
            f"{path}: a ResNet of {depths} blocks, {groups} groups and {len(first)} channels has no counterpart here; "
            f"there are {', '.join(RESNETS.values())}"
        )
    return f"{name}_caffe" if caffe and name in ("resnet50", "resnet101") else name


def norm_name(state: Mapping[str, Tensor], prefix: str, batch_norm: str) -> str:
    """The norm behind the convolutions under a prefix: `batch_norm` where there are statistics, gn or none."""
    keys = [key.removeprefix(prefix) for key in state if key.startswith(prefix)]
    if any(key.endswith("running_var") for key in keys):
        return batch_norm
    vectors = [key for key in keys if key.endswith(".weight") and state[prefix + key].ndim == 1]
    return "gn" if vectors else "none"


def pyramid_config(state: Mapping[str, Tensor]) -> dict[str, object]:
    """MODEL.NECK from the shapes of the tensors "neck.*"."""
    sources = sorted({key.split(".")[2] for key in state if key.startswith("neck.layer.")})
    output = next(value for key, value in state.items() if key.startswith("neck.layer.") and value.ndim == 4)
    extra = "maxpool"
    if "neck.p6.weight" in state:
        extra = "p6p7_p5" if state["neck.p6.weight"].shape[1] == len(output) else "p6p7_c5"
    return {
        "MODEL.NECK.NAME": "fpn",
        "MODEL.NECK.SOURCES": tuple(sources),
        "MODEL.NECK.OUT_CHANNELS": len(output),
        "MODEL.NECK.EXTRA_LEVELS": extra,
        "MODEL.NECK.NORM": norm_name(state, "neck.", "bn"),
    }


def two_stage_config(state: Mapping[str, Tensor], path: Path) -> dict[str, object]:
    """Faster R-CNN from the shapes of the tensors "neck.*" and "head.*"; a cascade has the usual three thresholds.

    Raises ValueError naming the file where a part is missing, and for anchors of other numbers than three a cell.
    """
    box, stages = "head.box_heads.0.", {key.split(".")[2] for key in state if key.startswith("head.box_heads.")}
    parts = {"pyramid": "neck.layer.c5.", "RPN": "head.rpn.objectness.", "box head": box + "cls_logits."}
    missing = [part for part, prefix in parts.items() if not any(key.startswith(prefix) for key in state)]
    if missing:
        raise UserError(f"{path} is no Faster R-CNN with an FPN of this source: it has no {', no '.join(missing)}")
    if (anchors := len(state["head.rpn.objectness.weight"])) != 3:
        raise UserError(f"{path}: {anchors} anchors a cell; detectors of 3 a cell, one size a level, can be converted")
    classes, boxes = len(state[box + "cls_logits.weight"]) - 1, len(state[box + "deltas.weight"]) // 4
    convs = [value for key, value in state.items() if key.startswith(box + "convs.") and value.ndim == 4]
    fcs = [value for key, value in state.items() if key.startswith(box + "fcs.") and value.ndim == 2]
    found: dict[str, object] = {
        "MODEL.HEAD.NAME": "faster_rcnn",
        "MODEL.NUM_CLASSES": classes,
        "MODEL.CLS_AGNOSTIC_BBOX_REG": boxes == 1 < classes or len(stages) > 1,
        "MODEL.RPN.NUM_CONVS": len([k for k in state if re.fullmatch(r"head\.rpn\.convs\.\d+\.weight", k)]),
        "MODEL.ROI_BOX_HEAD.NUM_CONV": len(convs),
        "MODEL.ROI_BOX_HEAD.NUM_FC": len(fcs),
    }
    if convs:
        found["MODEL.ROI_BOX_HEAD.NORM"] = norm_name(state, box + "convs.", "bn")
        found["MODEL.ROI_BOX_HEAD.CONV_HEAD_DIM"] = len(convs[0])
    found |= {"MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM": len(fcs[0])} if fcs else {}
    found |= {"MODEL.ROI_HEADS.CASCADE_IOUS": (0.5, 0.6, 0.7)} if len(stages) == 3 else {}
    return {**pyramid_config(state), **found}


def flip_channels(state: State) -> State:
    """The same network for images of the opposite channel order: its first convolution with its inputs reversed."""
    first = next(key for key in FIRST if key in state)
    return {**state, first: state[first].flip(1)}
