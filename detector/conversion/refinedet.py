"""RefineDet.PyTorch: the port on VGG16, and its descendant on ResNeSt-50, resnest-refinedet."""

from pathlib import Path

from torch import Tensor

from detector.conversion.base import SOURCES, Converted, set_aside, used_categories
from detector.data.formats.voc import CLASSES
from detector.errors import UserError
from detector.weights.read import read_file
from detector.weights.record import Pixels
from detector.weights.rename import renamed

RULES = (
    (r"^module\.", ""),
    (r"^vgg\.31\.", "backbone.fc6."),
    (r"^vgg\.33\.", "backbone.fc7."),
    (r"^vgg\.", "backbone.blocks."),
    (r"^model\.", "backbone."),
    (r"^conv4_3_L2Norm\.", "neck.l2norm.c3."),
    (r"^conv5_3_L2Norm\.", "neck.l2norm.c4."),
    (r"^extras\.0\.", "neck.extra.conv1.0."),
    (r"^extras\.1\.", "neck.extra.conv2.0."),
    (r"^(arm|odm)_loc\.", r"head.\1_reg."),
    (r"^(arm|odm)_conf\.", r"head.\1_cls."),
    # Rows of convolution, ReLU, convolution and of ReLU, convolution, ReLU, one after the other for all levels.
    *((rf"^tcb0\.{3 * i}\.", f"head.tcbs.{i}.conv1.0.") for i in range(4)),
    *((rf"^tcb0\.{3 * i + 2}\.", f"head.tcbs.{i}.conv2.0.") for i in range(4)),
    *((rf"^tcb1\.{i}\.", f"head.tcbs.{i}.up.0.") for i in range(3)),
    *((rf"^tcb2\.{3 * i + 1}\.", f"head.tcbs.{i}.conv3.0.") for i in range(4)),
)

CONVENTIONS: dict[str, object] = {
    "MODEL.NECK.NAME": "refinedet_sources",
    "MODEL.NECK.SOURCES": ("c3", "c4", "c5"),
    "MODEL.NECK.EXTRA_LEVELS": "c6",
    "MODEL.NECK.NORM": "none",
    "MODEL.HEAD.NAME": "refinedet",
    "MODEL.REFINEDET.CLIP_ANCHORS": True,
    "MODEL.REFINEDET.NORM": "none",
    "MODEL.REFINEDET.PREDICTOR_BOTTLENECK": False,
    "INPUT.SQUARE_SIZE": 320,
    "INPUT.AUGMENTATION": "ssd",
    "DATALOADER.SIZE_DIVISIBILITY": 64,
    "TEST.DETECTIONS_PER_IMG": 500,
}

PIXELS = Pixels("rgb", (123.0, 117.0, 104.0), (1.0, 1.0, 1.0))
"""Its data loader subtracts the Caffe mean, then turns BGR into RGB."""

SIZE = "nothing in the file tells the size of the input: taken for RefineDet320; for another add INPUT.SQUARE_SIZE 512"


@SOURCES.register("refinedet-pytorch")
def convert_refinedet_pytorch(path: Path) -> Converted:
    """A .pth of RefineDet.PyTorch or resnest-refinedet. Raises ValueError naming a file of another network."""
    state, dropped = set_aside(read_file(path).state, r"(module\.)?model\.fc\.")
    # The descendant also stores a second backbone that it never runs.
    state, second = set_aside(state, r"(module\.)?Resnet86\.")
    dropped += [f"the {len(second)} tensors of Resnet86"] if second else []
    state = renamed(state, RULES)
    if "head.odm_cls.0.weight" not in state or "head.arm_reg.0.weight" not in state:
        raise UserError(f"{path} is no checkpoint of RefineDet.PyTorch: it has no odm_conf.0 or no arm_loc.0")
    backbones = {"backbone.blocks.0.weight": "vgg16", "backbone.conv1.0.weight": "resnest50"}
    backbone = next((name for key, name in backbones.items() if key in state), None)
    if backbone is None:
        raise UserError(f"{path}: its backbone is neither VGG16 (vgg.0) nor ResNeSt-50 (model.conv1.0)")
    anchors = len(state["head.arm_reg.0.weight"]) // 4
    for key in [key for key in state if key.startswith(("head.arm_cls.", "head.odm_cls."))]:
        state[key] = roll_background(state[key], anchors)
    classes = len(state["head.odm_cls.0.weight"]) // anchors - 1
    names = {len(CLASSES): dict(enumerate(CLASSES, 1)), 80: used_categories()}
    config: dict[str, object] = {
        **CONVENTIONS,
        "MODEL.BACKBONE.NAME": backbone,
        "MODEL.BACKBONE.NORM": "frozen_bn",
        "MODEL.NUM_CLASSES": classes,
        "MODEL.REFINEDET.TCB_CHANNELS": len(state["head.odm_reg.0.weight"][0]),
    }
    return Converted(state, config, PIXELS, names.get(classes, {}), dropped, [SIZE])


def roll_background(tensor: Tensor, anchors: int) -> Tensor:
    """Class outputs [A * (C + 1), ..] of which each anchor's first is the background's -> its last."""
    return tensor.unflatten(0, (anchors, -1)).roll(-1, 1).flatten(0, 1)
