"""Train a backbone's classification network on a folder of pictures; weights.pth is a MODEL.WEIGHT for the detector."""

import argparse
from collections.abc import Sequence
from dataclasses import fields

from detector.cli import CLASSIFIER_FLAGS, run, tool_parser
from detector.engine.device import AMP
from detector.tasks.classification import train_classifier
from detector.tasks.recipe import BASE, Recipe
from detector.plugins import load_plugins


def main(argv: Sequence[str] | None = None) -> None:
    """`--backbone NAME --data DIR --output DIR [--resume] [flags]`."""
    parser = tool_parser(__doc__)
    add = parser.add_argument
    add("--backbone", required=True, metavar="NAME", help="a registered backbone, e.g. resnet50")
    add("--data", required=True, metavar="DIR", help="holds train/ and val/, each with a folder of pictures per class")
    add("--output", required=True, metavar="DIR", help="where checkpoints, log.jsonl and weights go")
    add("--resume", action="store_true", help="continue from the newest checkpoint of --output")
    add("--weight", default=Recipe.weight, metavar="FILE", help="start from imagenet (published), a path or an address")
    add("--norm", default=Recipe.norm, choices=("bn", "gn", "frozen_bn"), help="bn is loaded as frozen_bn later")
    add("--passes", type=int, default=Recipe.passes, metavar="N", help="runs of each stage; 0: as registered")
    add("--epochs", type=int, default=Recipe.epochs, metavar="N", help="times that each picture is seen")
    add("--batch-size", type=int, default=Recipe.batch_size, metavar="N", help="pictures a step")
    add("--optimizer", default=Recipe.optimizer, choices=tuple(BASE), help="no weight decay on norms and biases")
    add(
        "--lr", type=float, metavar="RATE",
        help="after the warm-up, falling to 0 as a cosine; None: for 256 pictures a step "
        + " and ".join(f"{rate:g} ({name})" for name, (rate, _) in BASE.items()) + ", in proportion to --batch-size",
    )  # fmt: skip
    add("--momentum", type=float, default=Recipe.momentum, metavar="SHARE", help="of sgd")
    add(
        "--weight-decay", type=float, metavar="SHARE",
        help="None: " + " and ".join(f"{decay:g} ({name})" for name, (_, decay) in BASE.items()),
    )  # fmt: skip
    add("--warmup-epochs", type=float, metavar="N", help="of rising rate; None: a tenth of --epochs, at most 5")
    add("--label-smoothing", type=float, default=Recipe.label_smoothing, metavar="SHARE", help="0 is none")
    add("--mixup", type=float, default=Recipe.mixup, metavar="ALPHA", help="mix pictures, e.g. 0.2; 0 is none")
    add("--cutmix", type=float, default=Recipe.cutmix, metavar="ALPHA", help="paste parts, e.g. 1; 0 is none")
    add("--ema", type=float, default=Recipe.ema, metavar="DECAY", help="average the weights, e.g. 0.9999; 0 is none")
    add("--amp", default=Recipe.amp, choices=tuple(AMP), help="mixed precision")
    add("--crop", type=int, default=Recipe.crop, metavar="PIXELS", help="side of the pictures that the network sees")
    add("--workers", type=int, default=Recipe.workers, metavar="N", help="processes that read pictures; 0: this one")
    add("--seed", type=int, default=Recipe.seed, metavar="N", help="of weights, order of pictures and augmentation")
    add(
        "--checkpoint-steps", type=int, default=Recipe.checkpoint_steps, metavar="N",
        help="steps between checkpoints; one is also written after each epoch, and 0 means only then",
    )  # fmt: skip
    add("--device", default=Recipe.device, help="auto, cpu, cuda, cuda:1 or mps")
    run(lambda: train(parser.parse_args(argv)), CLASSIFIER_FLAGS)


def train(args: argparse.Namespace) -> None:
    """Train as the flags say."""
    load_plugins(args.imports)
    recipe = Recipe(**{field.name: getattr(args, field.name) for field in fields(Recipe)})
    train_classifier(recipe, resume=args.resume)


if __name__ == "__main__":
    main()
