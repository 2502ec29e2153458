"""Find objects in pictures, videos, a camera or a data set: drawn, and as JSON, a table or in other formats."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yacs.config import CfgNode

from detector.commands.base import (
    expanded,
    exported_path,
    read_trained,
    run,
    score_or_auto,
    split_words,
    trained_parser,
)
from detector.commands.output import place
from detector.errors import UserError
from detector.inference.formats import FORMATS, exported_form
from detector.plugins import load_plugins

if TYPE_CHECKING:
    from detector.tasks.predict import Summary

EXAMPLE = """\
detector predict output/quickstart photos --output pictures --threshold auto
detector predict --config-file tv.yaml --input film.mp4 --format video csv MODEL.WEIGHT tv.pth"""


NOTES = """
RUN may also be a file of `detector export` (.onnx, .xml, .pt2), which has its thresholds in it.
SOURCE is a picture, a folder (with all folders and links in it), a glob, a text file that lists pictures, a video, the
number of a camera, a data set as DATASETS.TEST names it (its truth is drawn in dashes), or - for a list on standard
input. FOLDER gets detections.json and, for photos/inner/a.png of a SOURCE photos, the picture inner/a.jpg; where two
images would have the same one, their whole names stay: a.jpg.jpg and a.png.jpg. What is there is replaced only if an
earlier prediction wrote it (its pictures carry a comment that says so); else nothing is done, and the file is named.
Bytes of file names that are no UTF-8 stand in detections.json as \\xNN. Outputs without a class, which torchvision
names N/A, are left out. The status is 1 where nothing could be read, or not every picture.
Of a run of salient objects (MODEL.TASK saliency), FOLDER gets no detections.json but maps/inner/a.png, of 256 grey
levels and as large as the picture, and overlays/inner/a.jpg, where what reaches SCORE is tinted; SOURCE is then
pictures or saliency:FOLDER."""


def main(argv: Sequence[str] | None = None) -> None:
    """`RUN SOURCE | --config-file FILE --input SOURCE`, then `[--output FOLDER] [--threshold SCORE] [KEY VALUE ..]`."""
    parser = trained_parser(
        f"{__doc__}\n{NOTES}", "predict", EXAMPLE, "RUN SOURCE", "--config-file FILE --input SOURCE"
    )
    parser.add_argument("--input", type=expanded, metavar="SOURCE", help="in place of the word SOURCE")
    parser.add_argument(
        "--output", type=place, default="output/predictions", metavar="FOLDER", help="where all that is written goes"
    )
    parser.add_argument(
        "--threshold", type=score_or_auto, default=0.5, metavar="SCORE|auto",
        help="lowest score shown, in 0..1; auto: of each class that of its best F1, from the run's thresholds.json",
    )  # fmt: skip
    parser.add_argument(
        "--format", type=formats_of, action="extend", default=[], metavar="FORMAT ...", dest="formats",
        help=f"one or more of {', '.join(FORMATS)}; []: pictures and json, of a video or camera video and json; coco, "
        "yolo and voc are data sets, for instance to be corrected by hand",
    )  # fmt: skip
    args = parser.parse_intermixed_args(joined(sys.argv[1:] if argv is None else argv))
    named = {"RUN": not args.config_file, "SOURCE": args.input is None}
    names = [name for name, wanted in named.items() if wanted]
    if other := [word for word in args.words[len(names) :: 2] if os.path.lexists(word) or _is_place(word)]:
        parser.error(f"{other[0]} is no KEY: there is one SOURCE: a folder, or a pattern in quotes")
    words, opts = split_words(parser, args.words, names)
    found = dict(zip(names, words, strict=True))
    run(lambda: begin(args, found.get("RUN"), found.get("SOURCE", args.input), opts))


def _is_place(word: str) -> bool:
    return "/" in word and "=" not in word


def joined(argv: Sequence[str]) -> list[str]:
    """The words with those behind --format that name one as a single word: they end where other words begin."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] == "--format=":
            words[-1] += word
        elif word in FORMATS and words and words[-1].startswith("--format="):
            words[-1] += f",{word}"
        else:
            words.append("--format=" if word == "--format" else word)
    return words


def formats_of(text: str) -> list[str]:
    """The type of `--format`: names with commas between them."""
    names = text.split(",")
    if wrong := [name for name in names if name not in FORMATS]:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is none of {', '.join(FORMATS)}")
    return names


def begin(args: argparse.Namespace, trained: str | None, source: str, opts: Sequence[str]) -> None:
    """Read the config, then predict; an exported file by its own runtime."""
    if trained is not None and exported_form(expanded(trained)):
        from detector.tasks.predict import predict_exported

        load_plugins(args.imports)
        path, output = exported_path(trained, args.which, opts), Path(args.output)
        finished(predict_exported(path, source, output, args.threshold, opts, args.formats), source)
        return
    cfg, weight = read_trained(args, trained, opts)
    predict(cfg, source, Path(args.output), args.threshold, weight, args.which or "newest", args.formats)


def predict(
    cfg: CfgNode,
    source: str,
    output: Path,
    threshold: float | str,
    weight: str | Path | None = None,
    which: str = "newest",
    formats: Sequence[str] = (),
) -> list[dict[str, object]]:
    """`detector.tasks.predict.predict`; returns what detections.json holds, nothing where the task is saliency.

    Raises ValueError at the end, when all is written, where a picture could not be read.
    """
    if cfg.MODEL.TASK == "saliency":
        from detector.tasks.saliency_predict import predict_maps

        predict_maps(cfg, source, output, threshold, weight, which, formats)
        return []
    from detector.tasks.predict import predict as looked_at

    return finished(looked_at(cfg, source, output, threshold, weight, which, formats), source)


def finished(summary: "Summary", source: str) -> list[dict[str, object]]:
    """What detections.json holds. Raises ValueError where a picture could not be read."""
    if summary.failed:
        from detector.tasks.predict import unread_text

        raise UserError(f"{source}: {unread_text(summary.failed, summary.failed + summary.read)}")
    return summary.rows
