"""What a training costs on this machine: time of a step and of an image, memory, disk; from a few of each."""

import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor
from yacs.config import CfgNode

from detector.console import progress
from detector.data.loader import view_loader
from detector.engine.keep import Statistics
from detector.engine.loop import update
from detector.engine.memory import overhead
from detector.engine.run import Run
from detector.errors import NonFiniteError, UserError
from detector.inference.augmented import build_augmentation
from detector.inference.detect import detect_views
from detector.inference.prepare import prepare_for_inference
from detector.structures import Batch
from detector.tasks.detection import DetectionTask, plan, start
from detector.tasks.footprint import Footprint
from detector.tasks.plan import step_of
from detector.weights.checkpoint import BEST, read_checkpoint
from detector.weights.load import load_state

WARM = 2
"""Steps, and batches of a test, that are not measured: the first ones choose algorithms and fill caches."""

STEPS = 4
"""Steps, and batches of a test, that are."""


class Pace(NamedTuple):
    """What a training costs.

    steps: of the whole of it; step_s, image_s: seconds of a step without reading pictures, and of an image in a test;
    tests: how often the test sets are measured on the way and at the end; test_images: in all of them; memory: bytes of
    a step, counted, with what libraries take; disk: bytes that the run leaves.
    """

    steps: int
    step_s: float
    image_s: float
    tests: int
    test_images: int
    memory: int
    disk: int

    @property
    def each(self) -> float:
        """Seconds of a step, with its share of the tests."""
        return self.seconds / self.steps

    @property
    def seconds(self) -> float:
        """Of the training with its tests."""
        return self.steps * self.step_s + self.tests * self.test_images * self.image_s


class Pacer:
    """A config's training, of which a few steps are made that leave nothing behind.

    Raises whatever a training of the config would raise before its first step.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.task = DetectionTask.from_config(cfg)
        self.cfg = self.task.cfg
        self.batches: list[Batch] = list(self.task.batches(0, WARM + STEPS))
        self.augmentation = build_augmentation(self.cfg)
        sizes = len(self.augmentation.mirrored) if self.augmentation else 1
        self.tests: list[list[Batch]] = []  # each in every size
        for dataset in [*self.task.tests.values()][:1]:
            loader = iter(view_loader(self.cfg, dataset))
            self.tests = [[batch, *islice(loader, sizes - 1)] for batch in islice(loader, WARM + STEPS)]

    def times(self, trained: Path | None = None) -> tuple[list[float], list[float]]:
        """Seconds of each of STEPS steps and of an image in each of as many batches of a test.

        trained: a checkpoint, whose weights the test takes: what a model finds decides on some of its time.
        """
        with tempfile.TemporaryDirectory() as folder:
            run = start(self.task, Path(folder))
            steps = self._steps(run)
            self.run = run
        if trained:
            file = read_checkpoint(trained)
            load_state(run.averaged, file.state, source=str(file.path), exact=True)
        model = prepare_for_inference(run.averaged, self.cfg.TEST.AMP)  # type: ignore[arg-type]
        model.eval()
        images = []
        for views in self.tests:
            begun = self._now()
            detect_views(model, views, self.cfg.TEST.AMP, self.augmentation)
            images.append((self._now() - begun) / len(views[0].targets))
        return steps[WARM:], images[WARM:] or images

    def pace(self, cfg: CfgNode | None = None, medians: tuple[float, float] | None = None) -> Pace:
        """Times by their medians, and what is counted.

        cfg: whose schedule counts, where it is not this one's; medians: of `times`, where they are known.
        """
        step_s, image_s = medians or middle(*self.times())
        cfg = cfg if cfg is not None and cfg.SOLVER.EPOCHS == 0 else self.cfg
        solver, run = cfg.SOLVER, self.run
        when = plan(cfg, tests=bool(self.task.tests))
        done = range(1, solver.MAX_ITER + 1)
        kept = sum(when.saves(step) for step in done[:-1])  # the last one is final
        checkpoint = _bytes(run.content())
        best = _bytes(run.averaged.state_dict()) if run.kept == BEST else 0
        return Pace(
            solver.MAX_ITER,
            step_s,
            image_s,
            sum(when.tests(step) for step in done),
            sum(len(dataset.index) for dataset in self.task.tests.values()),
            overhead(self.task.device.type).needed(self.memory()),
            checkpoint * (1 + (min(kept, solver.CHECKPOINT_KEEP) if solver.CHECKPOINT_KEEP else kept)) + best,
        )

    def memory(self) -> int:
        """Bytes of the tensors of a step: at the peak of those that were made on CUDA, counted elsewhere."""
        if self.task.device.type == "cuda":
            return self.peak
        return Footprint(self.cfg).peak(step_of(self.cfg, self.task.train_set)).total

    def _steps(self, run: Run) -> list[float]:
        parameters = [p for p in run.model.parameters() if p.requires_grad]
        statistics = Statistics(run.model)
        what = plan(self.cfg, tests=False)
        run.model.train()
        times = []
        if self.task.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.task.device)
        for batch in self.batches:
            begun = self._now()
            statistics.note()
            try:
                update(run, self.task, what, batch, parameters, statistics)
            except NonFiniteError as error:  # whose batch and remedy are those of a training that has a folder
                raise UserError(f"{str(error).partition('. The batch')[0]}. {self.task.advice}") from None
            times.append(self._now() - begun)
        if self.task.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self.task.device)
        return times

    def _now(self) -> float:
        if self.task.device.type == "cuda":
            torch.cuda.synchronize(self.task.device)
        return time.perf_counter()


class Times(NamedTuple):
    """Seconds of a step and of an image, median by median of several rounds; no images where nothing is tested on."""

    steps: list[float]
    images: list[float]


def alternating(pacers: Sequence[tuple[Pacer, Path]], rounds: int = 3) -> list[Times]:
    """The times of several trainings, which take turns: all see the same neighbours.

    pacers: each with a checkpoint of its training.
    """
    found = [Times([], []) for _ in pacers]
    with progress(total=rounds * len(pacers), desc="times", unit="turn", leave=False) as bar:
        for _ in range(rounds):
            for (pacer, trained), times in zip(pacers, found, strict=True):
                steps, images = pacer.times(trained)
                times.steps.append(median(steps))
                times.images.extend([median(images)] if images else [])
                bar.update()
    return found


def middle(steps: Sequence[float], images: Sequence[float]) -> tuple[float, float]:
    """Their medians; 0 for images where nothing is tested on."""
    return median(steps), median(images) if images else 0.0


def _bytes(content: Any) -> int:  # noqa: ANN401 - nested tensors and plain values
    """Of all tensors in a nested content."""
    if isinstance(content, Tensor):
        return content.numel() * content.element_size()
    items = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else ()
    return sum(map(_bytes, items))
