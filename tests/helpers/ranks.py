"""Trainings by several processes, as torchrun starts them, and what they come to."""

import json
import subprocess
import sys

import torch

from detector.config import load_config
from detector.distributed import gathered, is_main, joined
from detector.engine import loop
from detector.models.heads.rpn import RPN
from detector.tasks import detection
from helpers import ROOT, environment
from helpers.fresh import fresh

LIKE_TORCHRUN = """
import sys
from pathlib import Path
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from helpers.ranks import main

place = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": "courses"}
launched = LaunchConfig(1, 1, int(sys.argv[1]), **place, max_restarts=0, start_method="fork")
elastic_launch(launched, main)(Path(sys.argv[2]))
"""
"""What `torchrun --standalone` does behind its flags, with processes that have torch from the start."""


class Course(detection.DetectionTask):
    """A task that notes what each step sees: of every image its id, draw, sizes and boxes, and the anchors it samples.

    double: in float64, but for the pixels.
    """

    double = False

    def build(self):
        model = super().build()
        return model.double() if self.double else model

    def losses(self, model, batch):
        for target, size in zip(batch.targets, batch.sizes, strict=True):
            entry = [target["image_id"], target["draw"], list(size), list(batch.images.shape[2:])]
            self.seen.append([*entry, target["boxes"].tolist()])
        return super().losses(model, batch)


def course(cfg, double=False):
    """Train as `detector train` does. Returns the loss terms of each step, the weights, and what the steps saw."""
    terms, sampled = [], []
    task = Course.from_config(cfg)
    task.double, task.seen = double, []
    update, sample = loop.update, RPN.sample

    def noted(run, *rest):
        values, rate = update(run, *rest)
        terms.append(values)
        return values, rate

    def noted_sample(self, match, generator):
        chosen = sample(self, match, generator)
        sampled.append([generator.initial_seed(), *(places.tolist() for places in chosen)])
        return chosen

    with detection.claimed(cfg.OUTPUT_DIR, False) as (folder, make):
        run = detection.start(task, folder)
        make()
        loop.update, RPN.sample = noted, noted_sample
        task.seen.clear()
        try:
            loop.train(run, task, detection.plan(task.cfg, tests=bool(task.tests)))
        finally:
            loop.update, RPN.sample = update, sample
    shares = gathered((task.seen, sampled))
    seen = [sorted(entry for share in shares for entry in share[i]) for i in range(2)]
    return {"terms": terms, "model": run.model.state_dict(), "seen": json.dumps(seen)}


def courses(home, jobs, number=2):
    """What `course` gives for each job, a name with (config, double), by `number` processes.

    Where a path of weights stands for double they are tested, and the measures of all processes given.
    """
    home.mkdir()
    for name, (cfg, double) in jobs.items():
        (home / f"{name}.yaml").write_text(cfg.dump())
        (home / f"{name}.json").write_text(json.dumps(double))
    ran = fresh("-c", LIKE_TORCHRUN, number, home, env=environment(ROOT / "tests"))
    assert ran.returncode == 0, ran.stderr
    return {name: torch.load(home / f"{name}.pt", weights_only=True) for name in jobs}


def torchrun(number, *words, cwd=None, flags=(), timeout=300):
    """Run a command by `number` processes."""
    head = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number), *flags]
    env = {**environment(ROOT / "tests"), "OMP_NUM_THREADS": "1"}
    return subprocess.run([*head, *map(str, words)], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)


def main(home):
    torch.set_num_threads(1)
    with joined(torch.device("cpu")):
        for path in sorted(home.glob("*.yaml")):
            double = json.loads(path.with_suffix(".json").read_text())
            cfg = load_config(str(path), ["OUTPUT_DIR", str(home / path.stem)])
            if isinstance(double, str):
                found = gathered(detection.test(cfg, double))
            else:
                found = course(cfg, double)
            if is_main():
                torch.save(found, path.with_suffix(".pt"))
