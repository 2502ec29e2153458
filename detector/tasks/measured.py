"""What an evaluation leaves behind: metrics.json, which says what it measured, and results.json."""

import hashlib
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import msgspec
import torch
from torch import Tensor
from yacs.config import CfgNode

from detector.config import changed_keys
from detector.data.dataset import CocoDetection
from detector.distributed import is_main, world_size
from detector.engine.device import device_name, pick_device
from detector.engine.run import Run
from detector.engine.stop import Stopped, held
from detector.errors import FileAccessError, UserError
from detector.evaluation.base import Evaluator
from detector.evaluation.report import headline, summary_text
from detector.files import make_folder, write_json
from detector.text import counted
from detector.version import versions
from detector.weights.address import shown

log = logging.getLogger("detector")

MEASURED = "measured"
"""The key of metrics.json under which stands what was measured; all others are numbers."""


class Subject(NamedTuple):
    """Whose numbers they are.

    weight: the file that holds, or will hold, the weights, "" for none; digest: of their tensors, by `state_digest`;
    step: of their training, None if unknown; newest: whether they are the newest of the folder that is written to;
    beside: whether they are another file in that folder, so that numbers bear its name; training: whether they are in
    the middle of it, where those of earlier steps are no news; exported: whether the file is an exported one, whose
    numbers always bear its whole name, as it computes otherwise than the checkpoint with the same weights.
    """

    weight: str
    digest: str
    step: int | None
    newest: bool
    beside: bool = False
    training: bool = False
    exported: bool = False


def check_folder(folder: Path) -> None:
    """Make the folder that an evaluation writes to. Raises OSError with the remedy, before and not after the work."""
    try:
        make_folder(folder)
        fault = "" if os.access(folder, os.W_OK) else "Permission denied"
    except OSError as error:
        fault = str(error.strerror)
    if fault:
        raise FileAccessError(f"OUTPUT_DIR {folder} cannot be written: {fault}; write OUTPUT_DIR another/folder")


def state_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors by name: the same for the same weights, whatever file they lie in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_measures(
    folder: Path, evaluators: list[Evaluator], dataset: CocoDetection, cfg: CfgNode, subject: Subject, seconds: float
) -> dict[str, float]:
    """Compute, print and write the measures of a data set and its detections; returns the flat numbers.

    metrics.json holds them beside "measured": weight, digest, step, data, config (what differs from the defaults),
    versions, device, threads, processes, date (UTC) and seconds, of the whole evaluation. Numbers of other weights than
    the folder's newest do not take the place of its metrics.json and results.json: they go beside them, under the name
    of their file. So do those of a checkpoint that lies alone in the folder, and, with the ending that tells the
    format, those of every exported file.
    """
    metrics = {key: value for one in evaluators for key, value in one.compute().items()}
    folder.mkdir(parents=True, exist_ok=True)
    data = {"name": dataset.name, "annotations": str(dataset.index.path), "images": len(dataset.index)}
    suffix = _suffix(folder, subject)
    _say_before(folder / f"metrics{suffix}.json", subject, data, cfg)
    evaluators[0].save_results(folder / f"results{suffix}.json")
    said = {
        "weight": subject.weight,
        "digest": subject.digest,
        "step": subject.step,
        "data": data,
        "config": {k: shown(v) if k == "MODEL.WEIGHT" else v for k, v in changed_keys(cfg).items()},
        "versions": versions(),
        # an exported file runs on the CPU, whatever there is
        "device": device_name(pick_device("cpu" if subject.exported else cfg.MODEL.DEVICE)),
        "threads": torch.get_num_threads(),
        "processes": world_size(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
    }
    write_json(folder / f"metrics{suffix}.json", {**metrics, MEASURED: said})
    log.info("%s\n%s", headline(metrics, dataset.name, subject.step), summary_text(metrics))
    places = folder / f"metrics{suffix}.json", evaluators[0].kept, folder / f"results{suffix}.json"
    log.info("numbers -> %s, %s -> %s", *places)
    return metrics


@contextmanager
def naming(run: Run, tests: Collection[str]) -> Iterator[None]:
    """A training, after which metrics.json names the file of the weights that were measured last.

    When they are measured nobody knows yet whether a file will hold them: whether patience ends there, they are the
    best, or a signal stops the training at that step. tests: names of the test sets.
    """
    start = run.step
    try:
        yield
    finally:
        with suppress(Stopped, UserError), held():  # of a full disk, which costs the name alone
            if is_main() and (path := _file_of_last(run, start)) is not None:
                _name_weights(run, tests, path)


def _file_of_last(run: Run, start: int) -> Path | None:
    """The file that holds the weights of a run's last evaluation, if any. start: the step that it began with."""
    if run.evaluated == run.step:
        newest = run.source if run.step == start else run.written
        if newest is not None and newest in (run.source, run.checkpoint(last=True), run.checkpoint(last=False)):
            return newest
    best = run.folder / run.kept
    return best if run.kept and run.evaluated == run.best_step and best.is_file() else None


def _name_weights(run: Run, tests: Collection[str], path: Path) -> None:
    for home in [run.folder] if len(tests) == 1 else [run.folder / name for name in tests]:
        said = what_was_measured(home / "metrics.json") or {}
        if said.get("weight") == "" and said.get("step") == run.evaluated:
            content = msgspec.json.decode((home / "metrics.json").read_bytes())
            write_json(home / "metrics.json", {**content, MEASURED: {**said, "weight": str(path)}})


def _suffix(folder: Path, subject: Subject) -> str:
    """What the names of the files end in, so that nothing of other weights is overwritten without a word."""
    if subject.exported:
        return _exported_suffix(folder, subject)
    there = what_was_measured(folder / "metrics.json")
    if there is None and not subject.beside:
        return ""
    if there is not None and there.get("digest") == subject.digest:
        return ""
    if there is not None and subject.newest:
        if not (subject.training and _is_earlier(there, folder, subject)):
            log.info(
                "%s: the numbers of step %s (%s) give way to those of step %s",
                *(folder / "metrics.json", there.get("step"), there.get("weight") or "unknown weights", subject.step),
            )
        return ""
    suffix = f"_{Path(subject.weight).stem}"
    other = what_was_measured(folder / f"metrics{suffix}.json")
    if other is not None and other.get("digest") != subject.digest:
        suffix += f"_{subject.digest[:8]}"
    if there is None:
        return suffix
    log.info(
        "%s is of other weights (%s) and stays: these numbers go to metrics%s.json",
        *(folder / "metrics.json", there.get("weight") or "unknown", suffix),
    )
    return suffix


def _exported_suffix(folder: Path, subject: Subject) -> str:
    """That of an exported file, of whatever weights the folder's own numbers are."""
    suffix = f"_{Path(subject.weight).name}"
    there = what_was_measured(folder / f"metrics{suffix}.json")
    return suffix if there is None or there.get("digest") == subject.digest else f"{suffix}_{subject.digest[:8]}"


def _say_before(path: Path, subject: Subject, data: Mapping[str, Any], cfg: CfgNode) -> None:
    """Say what differs from the numbers that give way at `path`, or else from those of the run.

    Of other weights that is the number of images alone: without it two numbers of a data set seem to be of the same.
    """
    there = what_was_measured(path) or {}
    if there.get("digest") == subject.digest:
        otherwise = _other_settings(there, data, cfg)
        weight = there.get("weight")
        if (
            subject.exported
            and isinstance(weight, str)
            and os.path.realpath(weight) != os.path.realpath(subject.weight)
        ):
            otherwise.insert(0, f"in {weight}")
        if otherwise:
            log.warning(
                "%s: these weights were measured otherwise before (%s), and those numbers give way; OUTPUT_DIR "
                "another/folder keeps both",
                *(path, "; ".join(otherwise)),
            )
        return
    run = Path(subject.weight or path).parent
    for place in (path, path.parent / "metrics.json", run / "metrics.json", run / data["name"] / "metrics.json"):
        said = (what_was_measured(place) or {}).get("data")
        if _same_set(said, data) and said["images"] != data["images"]:
            log.warning(
                "%s has %s, and had %s when %s was written: those numbers are of other images, not to be compared with "
                "these",
                *(data["name"], counted(data["images"], "image|images"), said["images"], place),
            )
            return


def _same_set(said: object, data: Mapping[str, Any]) -> TypeGuard[Mapping[str, Any]]:
    """Whether what a metrics.json says of its data is of these, whatever became of them since."""
    if not isinstance(said, dict) or said.get("name") != data["name"] or not isinstance(said.get("images"), int):
        return False
    path = said.get("annotations")
    return isinstance(path, str) and os.path.realpath(path) == os.path.realpath(data["annotations"])


def _other_settings(there: Mapping[str, Any], data: Mapping[str, Any], cfg: CfgNode) -> list[str]:
    """What of the data and of the keys that decide about the measures was different, with both values."""
    said, config = there.get("data"), there.get("config")
    if not isinstance(said, dict) or not isinstance(config, dict):
        return []
    was, now = config_values(config), config_values(changed_keys(cfg))
    found = [
        f"{k} {was.get(k, 'default')} -> {now.get(k, 'default')}" for k in {**was, **now} if was.get(k) != now.get(k)
    ]
    if said != data:
        found.insert(
            0,
            f"data {said.get('name')} ({counted(said.get('images'), 'image|images')}) -> {data['name']} "
            f"({data['images']})",
        )
    return found


def config_values(changed: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the keys that an evaluation of given weights depends on, as JSON has them."""
    parts = ("TEST.", "MODEL.", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST", "INPUT.SQUARE_SIZE", "INPUT.PIXEL")
    free = ("MODEL.WEIGHT", "MODEL.DEVICE", "MODEL.CHANNELS_LAST", "TEST.IMS_PER_BATCH", "TEST.BEST_BY")
    kept = {key: value for key, value in changed.items() if key.startswith(parts) and key not in free}
    return msgspec.json.decode(msgspec.json.encode(kept))


def _is_earlier(there: Mapping[str, Any], folder: Path, subject: Subject) -> bool:
    """Whether numbers are of an earlier step of the same run."""
    weight, step = there.get("weight"), there.get("step")
    same_run = isinstance(weight, str) and (not weight or Path(weight).parent == folder)  # "": of no checkpoint
    return same_run and isinstance(step, int) and subject.step is not None and step < subject.step


def what_was_measured(path: Path) -> dict[str, Any] | None:
    """What a metrics.json says of itself; {} where it says nothing, None where there is none."""
    if not path.is_file():
        return None
    try:
        content = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
    said = content.get(MEASURED) if isinstance(content, dict) else None
    return said if isinstance(said, dict) else {}
