"""detectron2: Faster R-CNN and Cascade R-CNN with an FPN; the box part of Mask R-CNN.

Also of chongruo/detectron2-ResNeSt, whose backbones are ResNeSts.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from detector.conversion.base import (
    NO_CAFFE,
    SOURCES,
    Converted,
    backbone_name,
    block_counts,
    norm_name,
    set_aside,
    two_stage_config,
    used_categories,
)
from detector.errors import UserError
from detector.weights.read import State, read_file
from detector.weights.record import RGB_UNIT, Pixels
from detector.weights.rename import renamed

RULES = (
    (r"^backbone\.bottom_up\.(stem\.)?", "backbone."),
    *((rf"^backbone\.res{i + 1}\.", rf"backbone.layer{i}.") for i in range(1, 5)),
    (r"^(backbone\..*)shortcut\.norm\.", r"\1downsample.1."),
    (r"^(backbone\..*)shortcut\.", r"\1downsample.0."),
    (r"^(backbone\..*)conv(\d)\.norm\.", r"\1bn\2."),
    (r"^backbone\.fpn_lateral(\d)\.", r"neck.inner.c\1."),
    (r"^backbone\.fpn_output(\d)\.", r"neck.layer.c\1."),
    (r"^proposal_generator\.rpn_head\.conv\.(weight|bias)$", r"head.rpn.convs.0.\1"),
    *((rf"^proposal_generator\.rpn_head\.conv\.conv{i}\.", rf"head.rpn.convs.{2 * i}.") for i in range(9)),
    (r"^proposal_generator\.rpn_head\.objectness_logits\.", "head.rpn.objectness."),
    (r"^proposal_generator\.rpn_head\.anchor_deltas\.", "head.rpn.deltas."),
    (r"^roi_heads\.box_(head|predictor)\.(\d)\.", r"head.box_heads.\2."),
    (r"^roi_heads\.box_(head|predictor)\.", "head.box_heads.0."),
    *((rf"^(head\.box_heads\.\d\.)fc{i + 1}\.", rf"\1fcs.{i}.") for i in range(9)),
    (r"^(head\.box_heads\.\d\.)cls_score\.", r"\1cls_logits."),
    (r"^(head\.box_heads\.\d\.)bbox_pred\.", r"\1deltas."),
)

DEEP = (
    # the stem of three convolutions, and a shortcut whose first layer, a pooling, has no tensors
    (r"^backbone\.conv1_1\.norm\.", "backbone.conv1.1."),
    (r"^backbone\.conv1_1\.", "backbone.conv1.0."),
    (r"^backbone\.conv1_2\.norm\.", "backbone.conv1.4."),
    (r"^backbone\.conv1_2\.", "backbone.conv1.3."),
    (r"^backbone\.conv1_3\.norm\.", "backbone.bn1."),
    (r"^backbone\.conv1_3\.", "backbone.conv1.6."),
    (r"^(backbone\..*downsample)\.1\.", r"\1.2."),
    (r"^(backbone\..*downsample)\.0\.", r"\1.1."),
)

RESNESTS = {
    # blocks of each stage, channels of the first convolution
    ((3, 4, 6, 3), 32): "resnest50",
    ((3, 4, 23, 3), 64): "resnest101",
    ((3, 24, 36, 3), 64): "resnest200",
    ((3, 30, 48, 8), 64): "resnest269",
}

CONVENTIONS: dict[str, object] = {
    "MODEL.RPN.SMOOTH_L1_BETA": 0.0,
    "MODEL.RPN.POST_NMS_TOP_N_TRAIN": 1000,
    "MODEL.RPN.MIN_SIZE": 0.0,
    "MODEL.ROI_BOX_HEAD.POOLER_ALIGNED": True,
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 0,
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 0.0,
    "INPUT.MIN_SIZE_TRAIN": (640, 672, 704, 736, 768, 800),
    "INPUT.MAX_SIZE_TRAIN": 1333,
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
}

STRIDE = (
    "the stride is in the 1x1 convolutions, as in the zoo; for RESNETS.STRIDE_IN_1X1 False add MODEL.BACKBONE.NAME "
    "resnet50 or resnet101"
)

PIXELS = Pixels("bgr", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0))
"""Of the zoo's configs."""

RESNEST_PIXELS = Pixels("rgb", (123.68, 116.779, 103.939), (58.393, 57.12, 57.375))
"""Of the configs of detectron2-ResNeSt."""


@SOURCES.register("detectron2")
def convert_detectron2(path: Path) -> Converted:
    """A .pkl of the model zoo or a .pth of one's own, with an FPN. Raises ValueError for another model.

    A file that holds its pixel statistics is believed; else they are the zoo's, or those of the ResNeSt authors.
    """
    state, anchors = set_aside(read_file(path).state, r"proposal_generator\.anchor_generator\.")
    pixels = _pixels(state)
    state, dropped = set_aside(state, r"pixel_(mean|std)$|roi_heads\.(mask|keypoint)_")
    state = _layers_in_a_row(renamed(state, RULES))
    nest = "backbone.layer1.0.conv2.conv.weight" in state
    state = renamed(state, DEEP) if nest else _dense_offsets(state)
    norm = norm_name(state, "backbone.", "frozen_bn")
    parts = two_stage_config(state, path)
    zoo = pixels is None or pixels.order == "bgr"
    name = _resnest_name(state, path) if nest else backbone_name(state, path, caffe=zoo)
    config = {
        **parts,
        "MODEL.BACKBONE.NAME": name,
        **_deformation(state),
        "MODEL.BACKBONE.NORM": norm,
        **({"MODEL.BACKBONE.NORM_EPS": 1e-5} if norm == "frozen_bn" else {}),
        **CONVENTIONS,
    }
    if pixels is None and nest:
        pixels = RESNEST_PIXELS
    elif pixels is None:
        # Of the zoo's networks those of groups expect a deviation as well.
        pixels = PIXELS._replace(std=RGB_UNIT.std[::-1]) if "resnext" in name else PIXELS
    categories = used_categories() if config["MODEL.NUM_CLASSES"] == 80 else {}
    notes = [STRIDE] * name.endswith("_caffe") + [NO_CAFFE] * (zoo and name == "resnet152")
    return Converted(state, config, pixels, categories, anchors + dropped, notes)


def _resnest_name(state: Mapping[str, Tensor], path: Path) -> str:
    """Raises ValueError naming the file for a network that is none of the registered ones."""
    found = block_counts(state), len(state.get("backbone.conv1.0.weight", ()))
    wide, narrow = state["backbone.layer1.0.conv2.conv.weight"].shape[:2]
    if found not in RESNESTS or wide != 2 * 64 or narrow != 64 // 2:
        raise UserError(
            f"{path}: a ResNeSt of {found[0]} blocks and {found[1]} channels in the stem has no counterpart here; "
            f"there are {', '.join(RESNESTS.values())}, with two splits of one group"
        )
    return RESNESTS[found]


def _deformation(state: Mapping[str, Tensor]) -> dict[str, object]:
    """The keys of deformable stages; {} without any."""
    biases = [state.get(f"backbone.layer{i}.0.conv2_offset.bias") for i in range(1, 5)]
    channels = {len(bias) for bias in biases if bias is not None}
    if not channels:
        return {}
    # 27 for each group with masks, 18 without: of 3 groups without, which no width here has, it would be both.
    modulated = max(channels) % 27 == 0
    return {
        "MODEL.BACKBONE.DEFORM_STAGES": tuple(bias is not None for bias in biases),
        "MODEL.BACKBONE.DEFORM_MODULATED": modulated,
        "MODEL.BACKBONE.DEFORM_GROUPS": max(channels) // (27 if modulated else 18),
        "MODEL.BACKBONE.DEFORM_MASK_DOUBLED": False,
    }


def _dense_offsets(state: State) -> State:
    """Offsets of a ResNet that the ResNeSt authors' version convolves in groups -> over all channels, as detectron2's.

    A filter of a group has zeros for the channels of others.
    """
    for key in [key for key in state if key.endswith(".conv2_offset.weight")]:
        grouped, conv1 = state[key], state[key.replace("conv2_offset", "conv1")]
        width, groups = grouped.shape[1], len(conv1) // grouped.shape[1]
        rows = len(grouped) // groups
        dense = grouped.new_zeros(len(grouped), len(conv1), *grouped.shape[2:])
        for i, part in enumerate(grouped.split(rows)):
            dense[i * rows : (i + 1) * rows, i * width : (i + 1) * width] = part
        state[key] = dense
    return state


def _pixels(state: State) -> Pixels | None:
    """The statistics that a file holds: natural images are reddest, so the order of the means is the channels'."""
    if "pixel_mean" not in state:
        return None
    mean, std = (tuple(round(v, 4) for v in state[f"pixel_{k}"].flatten().tolist()) for k in ("mean", "std"))
    return Pixels("rgb" if mean[0] > mean[-1] else "bgr", mean, std)


def _layers_in_a_row(state: State) -> State:
    """A convolution that owns its norm, `conv1.weight` and `conv1.norm.weight` -> a row of layers, as ours are."""
    named: State = {}
    for key, value in state.items():
        stem, dot, leaf = key.rpartition(".")
        owner = stem.removesuffix(".norm")
        normed = f"{owner}.norm.weight" in state
        if owner.startswith("neck.") and normed:
            stem = f"{owner}.{int(stem != owner)}"
        elif owner.startswith("head.box_heads.") and owner.rpartition(".")[2].startswith("conv"):
            head, _, conv = owner.rpartition(".")
            place = (int(conv[4:]) - 1) * (3 if normed else 2) + int(stem != owner)
            stem = f"{head}.convs.{place}"
        named[stem + dot + leaf] = value
    return named
