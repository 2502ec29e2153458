"""A trained detector set to work: `load` for Python, and the work of `detector predict`."""

import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yacs.config import CfgNode

from detector.config.tasks import require_boxes
from detector.console import progress, show_log
from detector.errors import MissingFileError, UserError, cut
from detector.files import no_empty_folder, output_folder, user_path
from detector.inference import drawn
from detector.inference.formats import exported_form
from detector.inference.sources import Input, Picture, open_source
from detector.plugins import load_plugins
from detector.tasks import written
from detector.tasks.exported import exported_predictor, open_exported
from detector.text import counted

if TYPE_CHECKING:  # a mistake in a source is told before torch is imported
    import torch

    from detector.inference.predictor import Predictor
    from detector.models.detector import Detector
    from detector.tasks.thresholds import Thresholds
    from detector.tasks.trained import Trained

log = logging.getLogger("detector")

AUTO = "auto"

RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}
"""What runs the files of `formats.EXPORTS`."""


def load(
    path_or_run: "str | os.PathLike[str]",
    device: "str | torch.device" = "auto",
    precision: str = "auto",
    runtime: str = "auto",
) -> "Predictor":
    """A trained detector, ready to be called with pictures; see `Predictor`.

    path_or_run: a run's folder, of which the newest checkpoint counts, or a checkpoint, or what `detector convert` or
    `detector export` wrote; its config is in it. device: as MODEL.DEVICE: auto (cuda, else mps, else cpu), cpu, cuda,
    cuda:1, mps, or a torch.device. precision: off (float32), bf16 or fp16; auto: the TEST.AMP of the config unless that
    is off, else bf16 where the processor or card has instructions for it, which the log says. runtime: auto is what
    fits the file: torch for a run, a checkpoint and FILE.pt2, onnxruntime for FILE.onnx, openvino for FILE.xml; another
    than that, as torch for FILE.onnx, is refused. An exported file is computed on the CPU as it was written, auto is
    off for it; of an OpenVINO file bf16 is obeyed too, where the processor has it. Plugins that are installed are
    loaded first.
    Raises ValueError or OSError naming the file, and what to do, where there is no detector or no such device.
    """
    show_log()
    if not isinstance(path_or_run, str | os.PathLike) or not isinstance(os.fspath(path_or_run), str):
        raise UserError(f"load({cut(path_or_run)}): pass the path of a run's folder, a checkpoint or an exported file")
    path, device = user_path(os.fspath(path_or_run)), str(device)
    form = exported_form(path)
    fitting = RUNTIMES.get(form, "torch")
    if runtime not in (AUTO, fitting):
        raise UserError(f"runtime {runtime!r}: {path} is for {fitting}; leave runtime out")
    if not path.exists():
        raise MissingFileError(f"{path}: there is no such folder or checkpoint; name output/NAME or FILE.pth")
    load_plugins([])
    if form:
        return _load_exported(path, device, precision)
    from detector.tasks.trained import run_config

    cfg = run_config(path, ["MODEL.DEVICE", device])
    require_boxes(cfg.MODEL.TASK, f"load({str(path)!r})")
    chosen = _precision(cfg, precision)
    if chosen != cfg.TEST.AMP:
        cfg.defrost()
        cfg.TEST.AMP = chosen
        cfg.freeze()
    own = _Own(cfg.OUTPUT_DIR)
    return build_predictor(cfg, path, check=own.check, thresholds=own)


def _load_exported(path: Path, device: str, precision: str) -> "Predictor":
    """The predictor of a file that `detector export` wrote."""
    from detector.inference.runtimes import check_precision

    if device not in (AUTO, "cpu"):
        raise UserError(f"{path} runs on the CPU: leave out device {device}")
    if precision != AUTO:
        check_precision(path, precision)
    return exported_predictor(*open_exported(path, ["TEST.AMP", precision], said="precision"), path)


def _precision(cfg: CfgNode, wanted: str) -> str:
    """The precision that "auto" stands for; says which."""
    from detector.engine.device import AMP, chosen_precision, chosen_text, pick_device

    if wanted != AUTO:
        if wanted not in AMP:
            raise UserError(f"precision {wanted!r}: write auto, {', '.join(AMP)}")
        return wanted
    if cfg.TEST.AMP not in ("off", AUTO):
        log.info("precision %s, by the TEST.AMP of the config", cfg.TEST.AMP)
        return cfg.TEST.AMP
    device = pick_device(cfg.MODEL.DEVICE)
    log.info("precision %s", chosen_text(device, 'precision="off"'))
    return chosen_precision(device, AUTO)


def build_predictor(
    cfg: CfgNode,
    weight: str | Path | None = None,
    which: str = "newest",
    check: "Callable[[Trained, Detector], None] | None" = None,
    thresholds: "Callable[[], Thresholds] | None" = None,
) -> "Predictor":
    """The predictor of a config, in the precision of TEST.AMP.

    weight, which: as `find_trained` takes them; check: as `load_for_inference` does; thresholds: gives those for the
    threshold "auto", or raises UserError.
    """
    from detector.data.pipeline import at_sizes, build_transforms
    from detector.inference.augmented import build_augmentation
    from detector.inference.predictor import Predictor, TorchNetwork
    from detector.models.build import resolve_parts
    from detector.tasks import trained

    model, names, category_ids = trained.load_for_inference(cfg, weight, which, check)
    cfg = resolve_parts(cfg)
    transforms = [build_transforms(one, train=False) for one in at_sizes(cfg)]
    network = TorchNetwork(
        model, names, category_ids, transforms, cfg.DATALOADER.SIZE_DIVISIBILITY, cfg.TEST.AMP, build_augmentation(cfg)
    )
    lowest = None if thresholds is None else lambda: thresholds().of(names, category_ids)
    return Predictor(network, lowest, cfg.DATASETS.ROOT, cfg.DATASETS.ALLOW_OUTSIDE)


class _Own:
    """The thresholds in a run's folder, or what is wrong with them, which is told when somebody asks for them."""

    def __init__(self, folder: str) -> None:
        from detector.tasks.thresholds import read_thresholds

        self.fault: UserError | None = None
        try:
            self.found = read_thresholds(folder)
        except UserError as error:
            self.fault = _in_python(error)

    def check(self, found: "Trained", model: "Detector") -> None:
        """Whether they are of these weights."""
        try:
            if self.fault is None:
                self.found.check(found, model)
        except UserError as error:
            self.fault = _in_python(error)

    def __call__(self) -> "Thresholds":
        if self.fault is not None:
            raise self.fault
        return self.found


def _in_python(error: UserError) -> UserError:
    """The same error in the words of a caller in Python."""
    return type(error)(str(error).replace("--threshold auto", 'threshold="auto"'))


# ---------------------------------------------------------------------------- detector predict


@dataclass
class Summary:
    """What a prediction came to.

    read, failed: pictures; empty: of those read without a detection; highest: score, also below the threshold; rows: of
    detections.json, where that is written.
    """

    read: int = 0
    failed: int = 0
    empty: int = 0
    detections: int = 0
    highest: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)


def predict(
    cfg: CfgNode,
    source: str,
    output: Path,
    threshold: float | str,
    weight: str | Path | None = None,
    which: str = "newest",
    formats: Sequence[str] = (),
) -> Summary:
    """Detect on all pictures of `source`, and write what was found to the folder `output`.

    source: as `open_text` takes it. threshold: the lowest score that is shown, or "auto": that of each class in
    OUTPUT_DIR's thresholds.json, which has to be of these weights. weight, which: as `find_trained` takes them.
    formats: some of FORMATS; none: pictures and json, of a video or camera video and json. A picture that cannot be
    read is named in a warning, counted and left out.
    Raises ValueError, before anything is done, where a file would be overwritten that no prediction wrote, where a
    format does not fit the source, and where there are no such thresholds; at the end where no picture could be read.
    """

    def build() -> "tuple[Predictor, Thresholds | None]":
        from detector.tasks.thresholds import read_thresholds

        own = read_thresholds(cfg.OUTPUT_DIR) if isinstance(threshold, str) else None
        check, given = (own.check, lambda: own) if own else (None, None)
        return build_predictor(cfg, weight, which, check, given), own

    return _look(cfg, source, output, threshold, formats, build)


def predict_exported(
    path: Path,
    source: str,
    output: Path,
    threshold: float | str,
    opts: Sequence[str] = (),
    formats: Sequence[str] = (),
) -> Summary:
    """`predict` by a file that `detector export` wrote, which has config and thresholds; opts: KEY VALUE overrides."""
    model, cfg = open_exported(path, opts)
    return _look(cfg, source, output, threshold, formats, lambda: (exported_predictor(model, cfg, path), None))


def _look(
    cfg: CfgNode,
    source: str,
    output: Path,
    threshold: float | str,
    formats: Sequence[str],
    build: "Callable[[], tuple[Predictor, Thresholds | None]]",
) -> Summary:
    """build: gives the predictor, once nothing else is wrong, and the thresholds of its run, if it has them."""
    if threshold != AUTO and (isinstance(threshold, str) or not 0 <= threshold <= 1):
        raise UserError(f"--threshold {threshold}: scores lie in 0..1")
    opened = open_source(source, root=cfg.DATASETS.ROOT, outside=cfg.DATASETS.ALLOW_OUTSIDE, output=output)
    try:
        formats = written.fitting(opened, formats)
        pictures = [] if opened.moving else list(opened.pictures)
        names = written.drawn_names(pictures) if "pictures" in formats else {}
        drawn.check_targets(
            output, dict(written.targets(output, opened, formats, names)), written.files_read(opened, pictures)
        )
        with no_empty_folder(output):
            return _predict(cfg, opened, pictures, output, threshold, formats, names, build)
    finally:
        opened.close()


def _predict(
    cfg: CfgNode,
    opened: Input,
    pictures: list[Picture],
    output: Path,
    threshold: float | str,
    formats: Sequence[str],
    names: dict[int | str, Path],
    build: "Callable[[], tuple[Predictor, Thresholds | None]]",
) -> Summary:
    from detector.inference import listings
    from detector.structures import real_outputs

    data_sets = [listings.DataSet(output, form, *written.below(pictures)) for form in written.data_forms(formats)]
    predictor, own = build()
    try:
        lowest = predictor.lowest(threshold)
    except UserError as error:
        raise type(error)(str(error).replace('threshold="auto"', "--threshold auto")) from None
    if own:
        log.info("--threshold auto: %s", own.text(predictor.names, lowest, real_outputs(predictor.names, ())))
    output_folder(output)
    shown = listings.Pictures(output, names) if "pictures" in formats else None
    rows = listings.Json(output / listings.LISTING, shown) if "json" in formats else None
    film = listings.Video(output / written.film(opened), opened.rate or 0) if "video" in formats else None
    table = listings.Csv(output / listings.TABLE) if "csv" in formats else None
    coco = listings.Coco(output, opened, written.below(pictures)[1] if pictures else {}) if "coco" in formats else None
    sinks = [sink for sink in (shown, film, rows, table, coco, *data_sets) if sink is not None]
    summary = Summary(rows=rows.rows if rows else [])
    unit = "frame" if opened.moving else "image"
    stream = predictor.look(opened, lowest, cfg.TEST.IMS_PER_BATCH, keep=shown is not None or film is not None)
    try:
        with progress(total=opened.total, desc="predict", unit=unit) as bar:
            try:
                for seen in stream:
                    bar.update()
                    summary.highest = max(summary.highest, seen.highest)
                    if seen.result is None:
                        summary.failed += 1
                        log.warning("%s; it is left out", seen.error)
                        continue
                    summary.read += 1
                    summary.detections += len(seen.result)
                    summary.empty += not len(seen.result)
                    for sink in sinks:
                        sink.add(seen, seen.result)
            except KeyboardInterrupt:
                if opened.kind != "camera":  # which has no other end
                    raise
                log.info("%s: ended", opened.name)
        if not summary.read:
            raise UserError(f"{opened.name}: {unread_text(summary.failed, summary.failed)}")
        for sink in sinks:
            sink.finish()
    finally:
        stream.close()  # type: ignore[attr-defined]
        if film is not None:
            film.close()
    if opened.total and opened.moving and summary.read < 0.98 * opened.total:
        log.warning(
            "%s: %s could be read, and it says that it has %d: its end may be damaged",
            *(opened.name, counted(summary.read, "frame|frames"), opened.total),
        )
    log.info("%s -> %s", summary_text(summary, threshold, unit), output)
    return summary


def summary_text(summary: Summary, threshold: float | str, unit: str = "image") -> str:
    """Detections, highest score, pictures without one, and how many were read."""
    text = count_text(summary.detections, threshold, summary.highest)
    if summary.detections:
        text += f", the highest of score {summary.highest:.2f}"
    total, pair = summary.read + summary.failed, f"{unit}|{unit}s"
    if summary.empty:
        text += f"; {summary.empty} of {counted(summary.read, pair)} without one"
    return f"{text}; {summary.read} of {counted(total, pair)} read"


def unread_text(failed: int, total: int) -> str:
    """What is said at the end of pictures that could not be read, of so many; total 0: the frames of a video."""
    if not total:
        return "none of its frames could be read"
    each = "; it is named above" if failed == 1 else "; each is named above"
    if failed < total:
        return f"{failed} of {counted(total, 'image|images')} could not be read{each}"
    return f"none of {total} images could be read{each}" if total > 1 else f"the one image could not be read{each}"


def count_text(number: int, threshold: float | str, highest: float) -> str:
    """How many detections are shown; where there are none, the threshold that would show the best one."""
    if number or highest <= 0:
        return counted(number, "detection|detections")
    lower = math.floor(highest * 100) / 100
    none = "no detection reaches its class's threshold"
    if not isinstance(threshold, str):
        none = f"no detection of score {threshold:g} or more"
    return f"{none}: the highest is {highest:.2f}, so try --threshold {lower:g}"
