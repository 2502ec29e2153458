"""From config to the transforms of training and evaluation."""

from yacs.config import CfgNode

from detector.data.ssd import ANY_INTERPOLATION, Expand, MinIoUCrop, PhotometricDistort
from detector.data.transforms import Compose, HorizontalFlip, Resize, Transform, Warp
from detector.models.build import pixel_statistics


def build_transforms(cfg: CfgNode, train: bool) -> Compose:
    """The transforms of training (INPUT.AUGMENTATION, drawn sizes, flips) or of evaluation (one size)."""
    node = cfg.INPUT
    if not train:
        return Compose(
            [Warp(node.SQUARE_SIZE) if node.SQUARE_SIZE else Resize((node.MIN_SIZE_TEST,), node.MAX_SIZE_TEST)]
        )
    steps: list[Transform] = []
    ssd = node.AUGMENTATION == "ssd"
    if ssd:
        # the mean is zero after normalisation, as padding is
        mean = pixel_statistics(cfg).rgb_mean()
        steps += [PhotometricDistort(), Expand(mean), MinIoUCrop()]
    if node.SQUARE_SIZE:
        steps.append(Warp(node.SQUARE_SIZE, ANY_INTERPOLATION) if ssd else Warp(node.SQUARE_SIZE))
    else:
        low, high = node.MIN_SIZE_RANGE_TRAIN
        min_sizes = node.MIN_SIZE_TRAIN if low == -1 else range(low, high + 1)
        steps.append(Resize(min_sizes, node.MAX_SIZE_TRAIN))
    return Compose([*steps, HorizontalFlip(node.HORIZONTAL_FLIP_PROB_TRAIN)])
