"""From a run to a file for other runtimes, and the measures of such a file."""

import logging
from collections.abc import Sequence
from os.path import realpath
from pathlib import Path

import torch
from yacs.config import CfgNode

from detector.config import config_text
from detector.console import show_log
from detector.data.check import check_tests
from detector.data.loader import build_test_datasets, check_memory
from detector.data.sources import Origin
from detector.distributed import first_here, joined
from detector.errors import MissingFileError, UserError
from detector.inference.export.facts import Facts, Resizing, second_path
from detector.inference.export.whole import second_stage
from detector.inference.export.write import check_form, export
from detector.models.build import check_names, pixel_statistics, resolve_parts
from detector.tasks.detection import Metrics, evaluate
from detector.tasks.exported import open_exported
from detector.tasks.int8 import Wish, check_wish, export_int8
from detector.tasks.measured import Subject, check_folder, state_digest
from detector.tasks.replaced import Replaced
from detector.tasks.thresholds import FILE, read_thresholds
from detector.tasks.trained import find_trained, load_found
from detector.text import counted

log = logging.getLogger("detector")

SCORES = {
    "fcos": "MODEL.FCOS.INFERENCE_TH",
    "refinedet": "MODEL.REFINEDET.SCORE_THRESH",
    "faster_rcnn": "MODEL.ROI_HEADS.SCORE_THRESH",
}
"""Head -> the key of the lowest score that it lets through."""


def export_run(
    cfg: CfgNode,
    form: str,
    output: Path,
    weight: str | Path | None = None,
    which: str = "newest",
    *,
    split: bool = False,
    int8: Wish | None = None,
) -> Facts:
    """Write the detector of a run as a file for another runtime; returns what is known of it.

    form, output, split: as `inference.export.write.export` takes them; weight, which: as `find_trained`; int8: that the
    network is computed in it, and how, see `tasks.int8.export_int8`.
    Raises ValueError or OSError that names file, key and remedy.
    """
    if int8 is not None:
        check_wish(cfg, form, int8)
    check_form(form, output)
    check_names(cfg)
    found = find_trained(cfg, weight, which)
    if output.exists() and realpath(output) == realpath(found.file.path):
        raise UserError(f"--output {output} is the checkpoint itself")
    cfg = found.resolve(cfg)
    model, names, category_ids = load_found(cfg, found)
    digest = state_digest(model.state_dict())
    step = found.file.content.get("step")
    facts = facts_of(cfg, names, category_ids, digest, found.file.path.name, step)
    two, replaced = split and second_stage(model.head) is not None, Replaced(output)
    if int8 is not None:
        facts = export_int8(model, facts, form, output, cfg, int8, split)
    else:
        written = export(model, facts, form, output, split)
        log.info(
            "%s: %.1f MB, up to %s an image; boxes in pixels of the resized image", output, written / 1e6,
            counted(facts.limit, "detection|detections"),
        )  # fmt: skip
    replaced.clear(second=two, measured=int8 is not None)
    if two:
        log.info("%s, with the second stage, belongs to it: copy both files", second_path(output))
    return facts


def facts_of(
    cfg: CfgNode, names: list[str], category_ids: list[int], digest: str, weight: str, step: int | None
) -> Facts:
    """What a file says of a detector whose config leaves nothing open."""
    pixels, node = pixel_statistics(cfg), cfg.INPUT
    score = cfg
    for part in SCORES.get(cfg.MODEL.HEAD.NAME, "").split("."):
        score = score[part] if part else 0.0
    return Facts(
        version=1,
        names=names,
        category_ids=category_ids,
        resize=Resizing(
            node.SQUARE_SIZE, node.MIN_SIZE_TEST, node.MAX_SIZE_TEST, resolve_parts(cfg).DATALOADER.SIZE_DIVISIBILITY
        ),
        order=pixels.order,
        mean=list(pixels.mean),
        std=list(pixels.std),
        limit=cfg.TEST.DETECTIONS_PER_IMG,
        scores=float(score),
        digest=digest,
        weight=weight,
        step=step if isinstance(step, int) else None,
        config=config_text(cfg),
        thresholds=own_thresholds(cfg, names, category_ids, digest),
    )


def own_thresholds(cfg: CfgNode, names: list[str], category_ids: list[int], digest: str) -> list[float] | None:
    """The thresholds of each class that OUTPUT_DIR has for the weights of a digest; None without any."""
    try:
        own = read_thresholds(cfg.OUTPUT_DIR)
    except (MissingFileError, UserError):  # nobody asked for them
        return None
    if own.content.digest != digest:
        log.info("%s is of other weights: the file has no thresholds of classes", Path(cfg.OUTPUT_DIR) / FILE)
        return None
    return own.of(names, category_ids)


def evaluate_exported(path: Path, opts: Sequence[str] = ()) -> Metrics:
    """`tasks.detection.test` of an exported file, whose config counts; opts: KEY VALUE overrides on top.

    The numbers go beside those of the weights that it was made of, into the folder of the file or OUTPUT_DIR: of
    model.onnx to metrics_model.onnx.json and results_model.onnx.json.
    """
    show_log()
    model, cfg = open_exported(path, opts)
    with joined(torch.device("cpu")):
        folder = Path(cfg.OUTPUT_DIR)
        check_folder(folder)
        with first_here():
            datasets = build_test_datasets(cfg, outputs=model.names, origin=Origin(str(path)))
            datasets = check_tests(datasets, cfg.DATALOADER.BROKEN)
        check_memory(cfg, None, datasets.values())
        subject = Subject(str(path), model.facts.digest, model.facts.step, newest=False, exported=True)
        return evaluate(model, datasets, cfg, folder, subject, model.names)  # type: ignore[arg-type]
