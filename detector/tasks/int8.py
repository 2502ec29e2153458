"""A run's detector as a file in int8: calibrated with its training pictures, and what that costs on its test sets."""

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from yacs.config import CfgNode

from detector.data.check import check_tests
from detector.data.dataset import CocoDetection
from detector.data.loader import build_test_datasets, collate
from detector.data.sources import Origin
from detector.engine.stop import listening
from detector.errors import UserError
from detector.evaluation.significance import Resampled, judge, less, resample, spread
from detector.extras import needed
from detector.files import write_json
from detector.inference.export.choose import Choice, choose, difference
from detector.inference.export.facts import Facts, Int8, LeftOut, Loss, second_path
from detector.inference.export.int8 import QUANTISERS, FileQuantiser, Inputs
from detector.inference.export.write import PACKAGES, export, to_openvino, with_second
from detector.inference.formats import EXPORTS
from detector.inference.runtimes import ExportedDetector, load_exported
from detector.models.detector import Detector
from detector.structures import Detection
from detector.tasks.detection import detect_on
from detector.text import counted

log = logging.getLogger("detector")

CALIBRATE = 128
"""Pictures that the ranges of activations are taken from, by default."""

HELD_OUT = 16
"""Further pictures, on which errors of layers and times are measured."""

AIM = 0.5
"""Points of AP, of 100, that int8 may cost by default."""

REPLICATES = 1000
"""Of the bootstrap over the test images."""

ROUNDS = 3
"""How often both files look at the pictures held out, in turns, for their times."""


class Wish(NamedTuple):
    """calibrate: pictures; aim: points of AP, of 100, that may be lost; measured: whether on DATASETS.TEST."""

    calibrate: int = CALIBRATE
    aim: float = AIM
    measured: bool = True


def check_wish(cfg: CfgNode, form: str, wish: Wish) -> None:
    """Raise ValueError for what cannot be quantised, or not measured, before anything is done; packages included."""
    if form not in QUANTISERS:
        raise UserError(f"--int8 --format {form}: write {' or '.join(QUANTISERS)}")
    if wish.calibrate < 1:
        raise UserError(f"--calibrate {wish.calibrate}: it is a number of pictures, 1 or more")
    if not math.isfinite(wish.aim) or wish.aim < 0:
        raise UserError(f"--aim {wish.aim}: points of AP that int8 may cost, 0 or more")
    if wish.measured and not cfg.DATASETS.TEST:
        raise UserError(
            "DATASETS.TEST is empty, so what int8 costs cannot be measured: name a test set, or write --unmeasured"
        )
    needed(*PACKAGES[form], "onnxruntime", *["nncf"] * (form == "openvino"))


def export_int8(
    model: Detector, facts: Facts, form: str, output: Path, cfg: CfgNode, wish: Wish, split: bool = False
) -> Facts:
    """Write the detector with its network in int8; returns the facts with what was measured.

    model, facts, form, split: as `inference.export.write.export` takes them; cfg: the run's, for its data. Beside the
    file FILE.int8.json (small.onnx.int8.json) gets what the metadata say of int8, and the intervals.
    Raises ValueError or OSError naming data, file or package that is missing.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE, cfg.TEST.AMP = "cpu", "off"
    pictures = training_pictures(cfg, facts, wish.calibrate)
    tests = {}
    if wish.measured:
        tests = build_test_datasets(cfg, outputs=facts.names, origin=Origin("the run"))
        tests = check_tests(tests, cfg.DATALOADER.BROKEN)
    with listening(), TemporaryDirectory(prefix="detector_int8_") as folder:  # which also goes when a signal comes
        source, trial = Path(folder, "float32.onnx"), Path(folder, f"int8{EXPORTS[form]}")
        size = export(model, facts, "onnx", source, split)
        reference = source
        if form == "openvino":
            reference = Path(folder, "float32.xml")
            size = to_openvino(source, reference, load_exported(source, say=False).facts)
        float32 = load_exported(reference, say=False)
        facts = float32.facts
        number = counted(len(pictures.calibration), "picture|pictures")
        log.info("int8: calibrated with %s of DATASETS.TRAIN", number)
        quantiser = FileQuantiser(form, source, facts, pictures.calibration, float32.second_inputs)
        costs = Costs(float32, quantiser, trial, facts, pictures.held_out, tests, cfg, wish.aim)
        choice = choose(quantiser.groups, costs.lost, costs.errors, wish.aim / 100) if tests else Choice([], 0.0, True)
        left_out = [one.layers for one in choice.left_out]
        written = quantiser.save(trial, facts, left_out)
        made = load_exported(trial, say=False)
        said = Int8(
            pictures=len(pictures.calibration),
            layers=[group for group in quantiser.groups if group not in left_out],
            left_out=choice.left_out,
            error=difference(costs.wanted, list(detections(made, pictures.held_out))),
            losses=costs.losses(left_out),
            seconds=time_ratio(made, float32, pictures.held_out),
            bytes=written / size,
        )
        facts = msgspec.structs.replace(facts, int8=said)
        quantiser.save(output, facts, left_out)
        facts = with_second(facts, second_path(output))
    write_json(beside(output), msgspec.to_builtins(said))
    log.info("%s", int8_text(said, output.name))
    if not choice.reached:
        log.warning("int8 costs more than %g points of AP with whatever layers left out; --aim allows more", wish.aim)
    return facts


def beside(output: Path) -> Path:
    """Where a file's measurement lies."""
    return output.with_name(f"{output.name}.int8.json")


class Pictures(NamedTuple):
    """As a graph takes them, in the order of a permutation that is always the same."""

    calibration: list[Inputs]
    held_out: list[Inputs]


def training_pictures(cfg: CfgNode, facts: Facts, number: int) -> Pictures:
    """Pictures of DATASETS.TRAIN in the size of a test, and further ones; of few, a quarter is held out."""
    train = cfg.clone()
    train.defrost()
    train.DATASETS.TEST = cfg.DATASETS.TRAIN
    if not train.DATASETS.TEST:
        raise UserError("DATASETS.TRAIN is empty: int8 is calibrated with training pictures; name some")
    datasets = list(build_test_datasets(train, outputs=facts.names, origin=Origin("the run")).values())
    places = [(dataset, item) for dataset in datasets for item in range(len(dataset))]
    order = np.random.default_rng(0).permutation(len(places)).tolist()
    held = min(HELD_OUT, max(1, len(order) // 4))
    calibration = order[held:][:number] or order
    if len(calibration) < number:
        pictures = counted(len(calibration), "picture|pictures")
        log.warning("--calibrate %d: DATASETS.TRAIN has %s for it", number, pictures)
    step = facts.resize.divisibility
    inputs = [_input(places[i], step) for i in [*order[:held], *calibration]]
    return Pictures(calibration=inputs[held:], held_out=inputs[:held])


def _input(place: tuple[CocoDetection, int], divisibility: int) -> Inputs:
    dataset, item = place
    batch = collate([dataset[item]], divisibility)
    return np.ascontiguousarray(batch.images.numpy()), np.array(batch.sizes, np.int64)


def detections(model: ExportedDetector, pictures: Sequence[Inputs]) -> Iterator[Detection]:
    """What is found in each picture, in its own pixels."""
    for images, sizes in pictures:
        yield model(torch.from_numpy(images), [(int(sizes[0, 0]), int(sizes[0, 1]))])[0]


class Costs:
    """What int8 in some layers costs, measured by files of a quantiser against the one in float32."""

    def __init__(
        self,
        float32: ExportedDetector,
        quantiser: FileQuantiser,
        trial: Path,
        facts: Facts,
        held_out: Sequence[Inputs],
        tests: Mapping[str, CocoDetection],
        cfg: CfgNode,
        aim: float,
    ) -> None:
        self.quantiser, self.trial, self.facts, self.held_out, self.cfg = quantiser, trial, facts, held_out, cfg
        self.tests, self.aim = tests, aim
        self.wanted = list(detections(float32, held_out))
        self.float32 = {name: self.measure(float32, dataset) for name, dataset in tests.items()}
        self.known: dict[tuple[str, ...], list[Loss]] = {}

    def measure(self, model: ExportedDetector, dataset: CocoDetection) -> Resampled:
        """The measures on a test set, in replicates."""
        found = detect_on(model, dataset, self.cfg, model.names)[0].stacked()  # type: ignore[arg-type]
        return resample(judge(dataset.index, found), REPLICATES)

    def losses(self, left_out: Sequence[str]) -> list[Loss]:
        """Of each test set."""
        key = tuple(sorted(left_out))
        if self.tests and key not in self.known:
            self.quantiser.save(self.trial, self.facts, left_out)
            model = load_exported(self.trial, say=False)
            self.known[key] = [
                loss(name, len(dataset.index), self.float32[name], self.measure(model, dataset))
                for name, dataset in self.tests.items()
            ]
        return self.known.get(key, [])

    def lost(self, left_out: Sequence[str]) -> float:
        """AP of the test set that loses most; what is more than the aim is said, as no summary will have it."""
        found = self.losses(left_out)
        most = max(one.lost for one in found)
        if 100 * most > self.aim:
            said = f", {', '.join(left_out)} in float32" if left_out else ""
            texts = "; ".join(map(loss_text, found))
            log.info("int8%s: %s: more than --aim %g", said, texts, self.aim)
        return most

    def errors(self) -> dict[str, float]:
        """What int8 in each group of layers alone does to detections in the pictures held out."""
        found = {}
        for group in self.quantiser.groups:
            self.quantiser.save(self.trial, self.facts, only=group)
            found[group] = difference(
                self.wanted, list(detections(load_exported(self.trial, say=False), self.held_out))
            )
            log.info("int8 in %s alone changes detections by %.1f %%", group, 100 * found[group])
        return found


def loss(data: str, images: int, float32: Resampled, int8: Resampled) -> Loss:
    """float32 - int8 in AP, with the interval of a paired bootstrap over the images."""
    gap = spread(less(float32, int8))[0]
    low, high = (None if math.isnan(end) else end for end in gap.interval)
    lost = 0.0 if math.isnan(gap.value) else gap.value
    return Loss(data, images, float(float32.value[0]), float(int8.value[0]), lost, low, high)


def time_ratio(made: ExportedDetector, float32: ExportedDetector, pictures: Sequence[Inputs]) -> float:
    """The time of one file as a share of the other's: the median over pictures that both look at in turns."""
    ratios = []
    for turn in range(ROUNDS + 1):
        for inputs in pictures:
            spent = []
            for model in (float32, made):
                start = time.perf_counter()
                list(detections(model, [inputs]))
                spent.append(time.perf_counter() - start)
            if turn:  # the first one warms up
                ratios.append(spent[1] / spent[0])
    return median(ratios)


def loss_text(one: Loss) -> str:
    """AP of both, what is lost and its interval, in points."""
    interval = "no interval, too few images"
    if one.low is not None and one.high is not None:
        interval = f"95 % interval {100 * one.low:+.2f} to {100 * one.high:+.2f}"
    return (
        f"AP {100 * one.float32:.2f} -> {100 * one.int8:.2f} on {one.data} ({counted(one.images, 'image|images')}), "
        f"lost {100 * one.lost:+.2f} points ({interval})"
    )


def left_out_text(one: LeftOut) -> str:
    """A group and why it is in float32."""
    change = f"changes detections by {100 * one.error:.1f} %"
    return f"{one.layers} (int8 in it alone {change}; {100 * one.lost:+.2f} points lost)"


def int8_text(said: Int8, name: str) -> str:
    """What int8 costs and brings, a line each."""
    costs = [f"  {loss_text(one)}" for one in said.losses] or ["  what it costs in AP was not measured"]
    change = f"{100 * said.error:.1f} % (0: as they were, 100: none is found again)"
    left = "; ".join(map(left_out_text, said.left_out)) or "nothing"
    return "\n".join(
        [
            f"{name} in int8, calibrated with {counted(said.pictures, 'picture|pictures')}; of float32:",
            *costs,
            f"  detections in training pictures held out differ by {change}",
            f"  {said.seconds:.2f} of its time, {said.bytes:.2f} of its size",
            f"  left in float32: {left}",
        ]
    )
