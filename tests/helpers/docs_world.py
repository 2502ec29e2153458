"""A folder in which the commands of the docs find what they name: generated data and short trainings."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from detector.data.shapes import generate_shapes
from helpers import ROOT

# Data by the name that pages use: where it is, and the words of `detector convert-data` that make it of shapes.
SPLITS = ("shapes_train", "shapes_val", ".more/val:.more/annotations/val.json")  # train, val, test
DATA = {
    "photos": ("photos", [*SPLITS[:2], "yolo"], []),
    "birds": ("birds", [*SPLITS, "voc"], []),
    "cells": ("cells", [*SPLITS[1:], "voc"], ["--split", "trainval", "--split", "test"]),
    "cards": ("cards", [*SPLITS[:2], "coco"], []),
    "bccd": ("datasets/bccd", [*SPLITS[1:], "voc"], ["--split", "trainval", "--split", "test"]),
}
RUNS = {  # what a run of this name is trained and tested on, where the page itself did not make it before
    "quickstart": ("shapes_train", "shapes_val"),
    "photos": ("yolo:photos:train", "yolo:photos:val"),
    "cells": ("voc:cells:trainval", "voc:cells:test"),
    "birds": ("voc:birds:train", "voc:birds:test"),
}
SHORT = "MODEL.DEVICE cpu SOLVER.MAX_ITER 3 SOLVER.WARMUP_ITERS 1 DATALOADER.NUM_WORKERS 0"
SHORTER = {  # a shell's pattern -> what is added to the commands that fit it first, so that long ones take seconds
    "train*--resume*": "MODEL.DEVICE cpu DATALOADER.NUM_WORKERS 0 SOLVER.MAX_ITER 32",  # two more than the run has
    "train*": SHORT,
    "compare*--config-file*": f"--steps 4 {SHORT}",  # of two --steps the last one counts; fewer are refused
}
READS = re.compile(r"^(?:test|predict|export|card|analyze \w+|train(?= \S+ --resume)) (?P<runs>(output/\w+ ?)+)")


class World:
    """An empty folder; what a command needs beforehand comes into being when the command is run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "DETECTOR_CACHE": str(folder / ".cache")}
        self.environment["PATH"] = f"{folder / '.bin'}:{self.environment['PATH']}"
        self.environment.pop("DETECTOR_DATASETS", None)
        generate_shapes(folder / "datasets/shapes", num_train=16, num_val=6)
        generate_shapes(folder / ".more", num_train=1, num_val=6, seed=1)
        self._write(".bin/detector", self._door())
        (folder / ".bin/detector").chmod(0o755)

    def run(self, line: str) -> None:
        """Run a line of a page as it stands there."""
        for words in re.findall(r"(?:^|[|&] )detector ([^|>]*)", line):
            self._prepare(words)
        done = self._call(["bash", "-o", "pipefail", "-c", line])
        assert done.returncode == 0, (line, done.stdout[-1500:], done.stderr[-2500:])

    def python(self, text: str) -> None:
        """Run a script of a page."""
        done = self._call([sys.executable, "-c", text])
        assert done.returncode == 0, (text, done.stdout[-1500:], done.stderr[-2500:])

    def write(self, files: dict[str, str]) -> None:
        """Write the files that a page shows."""
        for name, text in files.items():
            self._write(name, text)

    def _call(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )

    def _prepare(self, words: str) -> None:
        target = words.split()[-1] if words.startswith("convert-data") else ""
        for name, (place, entries, splits) in DATA.items():
            if re.search(rf"(?<![\w/]){name}\b", words) and name != target and not (self.folder / place).exists():
                self._detector("convert-data", *entries, place, *splits)
        for name in re.findall(r"\bfilm\.mp4\b", words):
            film = cv2.VideoWriter(str(self.folder / name), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
            for grey in (0, 100, 200):
                film.write(np.full((48, 64, 3), grey, np.uint8))
            film.release()
        runs = match["runs"].split() if (match := READS.match(words)) else []
        for run in runs:
            self._train(run)
        if "--results found.json" in words:
            name = "photos" if "photos:val" in words else "birds"
            self._train(f"output/{name}")
            (self.folder / "found.json").write_bytes((self.folder / f"output/{name}/results.json").read_bytes())
        if "--threshold auto" in words:
            for run in runs:
                self._detector("analyze", "pr", run)

    def _train(self, run: str) -> None:
        name = run.rpartition("/")[2]
        if name in RUNS and not (self.folder / run).exists():
            train, test = RUNS[name]
            self._prepare(f"check {test}")
            data = ["DATASETS.TRAIN", train, "DATASETS.TEST", test]
            steps = ["SOLVER.MAX_ITER", "30"]  # enough to find something, without which there are no thresholds
            self._detector("train", "--config-file", "quickstart", *data, "OUTPUT_DIR", run, *SHORT.split(), *steps)

    def _detector(self, *words: str) -> None:
        done = self._call([sys.executable, "-m", "detector", *words])
        assert done.returncode == 0, (words, done.stdout[-1500:], done.stderr[-2500:])

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def _door(self) -> str:
        """`detector` as it stands on the command line, with few steps for what trains."""
        cases = "".join(f'  {pattern}) set -- "$@" {more};;\n' for pattern, more in SHORTER.items())
        path = f'PYTHONPATH="$PYTHONPATH:{ROOT}"; export PYTHONPATH'  # a line may have set it
        return f'#!/bin/sh\n{path}\ncase "$*" in\n{cases}esac\nexec {sys.executable} -m detector "$@"\n'
