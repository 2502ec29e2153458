"""From config to the transforms of training and evaluation."""

from yacs.config import CfgNode

from detector.data.ssd import ANY_INTERPOLATION, Expand, MinIoUCrop, PhotometricDistort
from detector.data.transforms import Compose, HorizontalFlip, Resize, Transform, Warp, resized
from detector.errors import UserError
from detector.structures import Size

Colour = tuple[float, float, float]  # red, green, blue in 0..255


def build_transforms(cfg: CfgNode, train: bool, fill: Colour | None = None) -> Compose:
    """The transforms of training (INPUT.AUGMENTATION, drawn sizes, flips) or of evaluation (one size).

    fill: what the network takes for zero, as padding is; the training augmentation "ssd" surrounds images with it.
    Raises ValueError where that is needed and missing.
    """
    node = cfg.INPUT
    if not train:
        return Compose(
            [Warp(node.SQUARE_SIZE) if node.SQUARE_SIZE else Resize((node.MIN_SIZE_TEST,), node.MAX_SIZE_TEST)]
        )
    steps: list[Transform] = []
    ssd = node.AUGMENTATION == "ssd"
    if ssd:
        if fill is None:
            raise UserError("INPUT.AUGMENTATION ssd needs the fill colour: pixel_statistics(cfg).rgb_mean()")
        steps += [PhotometricDistort(), Expand(fill), MinIoUCrop()]
    if node.SQUARE_SIZE:
        steps.append(Warp(node.SQUARE_SIZE, ANY_INTERPOLATION) if ssd else Warp(node.SQUARE_SIZE))
    else:
        low, high = node.MIN_SIZE_RANGE_TRAIN
        min_sizes = node.MIN_SIZE_TRAIN if low == -1 else range(low, high + 1)
        steps.append(Resize(min_sizes, node.MAX_SIZE_TRAIN))
    return Compose([*steps, HorizontalFlip(node.HORIZONTAL_FLIP_PROB_TRAIN)])


def at_sizes(cfg: CfgNode) -> list[CfgNode]:
    """The config of each size that evaluation sees pictures in: INPUT's own, then those of TEST.BBOX_AUG.SCALES.

    They differ in INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST, or in SQUARE_SIZE where pictures are warped.
    """
    configs = [cfg]
    for scale in cfg.TEST.BBOX_AUG.SCALES if cfg.TEST.BBOX_AUG.ENABLED else ():
        other = cfg.clone()
        other.defrost()
        if cfg.INPUT.SQUARE_SIZE:
            other.INPUT.SQUARE_SIZE = scale
        else:
            other.INPUT.MIN_SIZE_TEST, other.INPUT.MAX_SIZE_TEST = scale, cfg.TEST.BBOX_AUG.MAX_SIZE
        configs.append(other)
    return configs


def tested_size(cfg: CfgNode, size: Size) -> Size:
    """The (height, width) that the transforms of evaluation give a picture of this size, before it is padded."""
    node = cfg.INPUT
    return (node.SQUARE_SIZE,) * 2 if node.SQUARE_SIZE else resized(size, node.MIN_SIZE_TEST, node.MAX_SIZE_TEST)
