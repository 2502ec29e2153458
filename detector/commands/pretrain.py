"""Train a backbone's classification network on a folder of pictures; weights.pth is a MODEL.WEIGHT for the detector.

With --teacher it learns the classes that another network sees in the same pictures: distillation.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import TypeVar

from detector.commands.base import AMP, CLASSIFIER_FLAGS, add_workers, run, tool_parser
from detector.commands.output import place
from detector.extras import to_install
from detector.plugins import load_plugins

EXAMPLE = """\
detector pretrain --backbone skresnet50 --data imagenet --output output/classifier_skresnet50 --amp bf16
detector pretrain --backbone resnet18 --data imagenet --output output/kd --teacher resnet50 --teacher-weight imagenet"""

T = TypeVar("T")

DISTILL = ("kl", "jeffreys", "soft_ce")
"""The names of `detector.ops.soft_targets.DISTILL`, which needs torch."""


def main(argv: Sequence[str] | None = None) -> None:
    """`--backbone NAME --data DIR --output DIR [--resume] [flags]`."""
    args = build_parser().parse_args(argv)
    run(lambda: begin(args), CLASSIFIER_FLAGS)


def build_parser() -> argparse.ArgumentParser:
    """A flag for each field of the recipe, with its default, and --resume."""
    parser = tool_parser(__doc__, "pretrain", EXAMPLE)
    add = parser.add_argument
    add("--backbone", required=True, metavar="NAME", help="a registered backbone, e.g. resnet50")
    add("--data", required=True, metavar="DIR", help="holds train/ and val/, each with a folder of pictures per class")
    add("--output", required=True, type=place, metavar="DIR", help="where checkpoints, log.jsonl and weights go")
    add("--resume", action="store_true", help="continue from the newest checkpoint of --output")
    add("--weight", default="", metavar="FILE", help="start from imagenet (published), a path or an address")
    add("--norm", default="bn", choices=("bn", "gn", "frozen_bn"), help="bn is loaded as frozen_bn later")
    add("--passes", type=int, default=0, metavar="N", help="runs of each stage; 0: as registered")
    add("--epochs", type=int, default=90, metavar="N", help="times that each picture is seen")
    add("--batch-size", type=int, default=64, metavar="N", help="pictures a step")
    add("--optimizer", default="sgd", choices=("sgd", "adamw"), help="no weight decay on norms and biases")
    add(
        "--lr", type=float, metavar="RATE",
        help="after the warm-up, falling to 0 as a cosine; None: for 256 pictures a step 0.1 (sgd) and 0.001 (adamw), "
        "and for --batch-size in proportion to it (sgd) or to its square root (adamw)",
    )  # fmt: skip
    add("--momentum", type=float, default=0.9, metavar="SHARE", help="of sgd")
    add("--weight-decay", type=float, metavar="SHARE", help="None: 0.0001 (sgd) and 0.05 (adamw)")
    add("--warmup-epochs", type=float, metavar="N", help="of rising rate; None: a tenth of --epochs, at most 5")
    add("--label-smoothing", type=float, default=0.1, metavar="SHARE", help="0 is none")
    add("--mixup", type=float, default=0.0, metavar="ALPHA", help="mix pictures, e.g. 0.2; 0 is none")
    add("--cutmix", type=float, default=0.0, metavar="ALPHA", help="paste parts, e.g. 1; 0 is none")
    add("--ema", type=float, default=0.0, metavar="DECAY", help="average the weights, e.g. 0.9999; 0 is none")
    add(
        "--patience", type=int, default=0, metavar="N",
        help="end after so many epochs in a row without a better top-1; 0: never",
    )  # fmt: skip
    add("--amp", default="off", choices=AMP, help="mixed precision")
    add("--crop", type=int, default=224, metavar="PIXELS", help="side of the pictures that the network sees")
    add_workers(parser)
    add("--seed", type=int, default=0, metavar="N", help="of weights, order of pictures and augmentation")
    add(
        "--checkpoint-steps", type=int, default=1000, metavar="N",
        help="steps between checkpoints; one is also written after each epoch, and 0 means only then",
    )  # fmt: skip
    add(
        "--checkpoint-stages", type=_numbers, default=(), metavar="1,2,..",
        help="stages, 1 to 4, whose activations the backward pass computes again: less memory, more time",
    )  # fmt: skip
    add(
        "--stage-lr-factors", type=_factors, default=(), metavar="X,X,..",
        help="times the rate: five numbers, of the stem and the four stages, or six with the classifier",
    )  # fmt: skip
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    add("--tensorboard", action="store_true", help=f"write for TensorBoard too; needs {to_install('log')}")
    _add_teacher(parser)
    return parser


def _add_teacher(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("a student of a teacher").add_argument
    add("--teacher", default="", metavar="NAME", help="a registered backbone that teaches: frozen, never trained")
    add(
        "--teacher-weight", default="", metavar="FILE",
        help="its classification network: imagenet (published), a path or an address; weights.pth or a checkpoint of a "
        "pre-training will do. It has to have the classes of --data",
    )  # fmt: skip
    add(
        "--distill", default="", choices=DISTILL,
        help="the loss, kl where it is not named; with probabilities t of the teacher and s of the student. kl: "
        "KL(t || s); soft_ce: the cross entropy of s against t, whose gradient is the same; jeffreys: (KL(t || s) + "
        "KL(s || t)) / 2, half of Jeffreys' divergence, which is SSLD's loss. Means over the pictures, times the "
        "square of --temperature",
    )  # fmt: skip
    add("--temperature", type=float, default=1.0, metavar="T", help="the logits of both are divided by it")
    add(
        "--labels", type=float, default=0.0, metavar="SHARE",
        help="of the cross entropy of the true labels in the loss, the rest is the teacher's; 0: labels are not used",
    )  # fmt: skip
    add(
        "--unlabelled", nargs="+", default=(), metavar="FOLDER",
        help="further pictures to train on, in any depth; their folders are no classes, and only the teacher's part of "
        "the loss counts for them",
    )  # fmt: skip
    add("--teacher-amp", default="off", choices=AMP, help="precision of the teacher, whatever --amp is")


def _factors(text: str) -> tuple[float, ...]:
    return _listed(text, float, "numbers", "0.05,0.05,0.05,0.1,0.15")


def _numbers(text: str) -> tuple[int, ...]:
    return _listed(text, int, "whole numbers", "1,2")


def _listed(text: str, kind: Callable[[str], T], what: str, example: str) -> tuple[T, ...]:
    try:
        return tuple(map(kind, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of {what}: write e.g. {example}") from None


def begin(args: argparse.Namespace) -> None:
    """Load plugins, then train as the flags say."""
    load_plugins(args.imports)
    from detector.tasks.classification import train_classifier
    from detector.tasks.recipe import Recipe

    settings = {name: value for name, value in vars(args).items() if name not in ("imports", "resume")}
    train_classifier(Recipe(**settings), resume=args.resume)
