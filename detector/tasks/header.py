"""What a training says of itself before its first step, and after its last one."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn
from yacs.config import CfgNode

from detector.data.capacity import workers_text
from detector.data.dataset import CocoDetection, JoinedDataset
from detector.data.loader import repeats_of
from detector.distributed import world_size
from detector.engine.run import Run
from detector.plugins import import_words
from detector.tasks.best import best_by
from detector.tasks.recipe import Recipe
from detector.text import agreeing, printable
from detector.weights.address import shown

NAMED = 5  # classes that are listed
SETS = 3  # test sets that have a line each

_PRECISIONS = {"off": "float32", "bf16": "mixed bf16", "fp16": "mixed fp16"}


def detection_header(
    cfg: CfgNode,
    run: Run,
    device: torch.device,
    train: CocoDetection | JoinedDataset,
    tests: Mapping[str, CocoDetection],
) -> str:
    """What is about to be trained, on what and how, as an aligned block of at most twelve lines."""
    solver, model = cfg.SOLVER, cfg.MODEL
    start = f"the weights of {model.WEIGHT}" if model.WEIGHT else "random weights"
    parts = f"{model.BACKBONE.NAME} ({model.BACKBONE.NORM}), {model.NECK.NAME}, {model.HEAD.NAME}"
    shown = [("test", pictures_text(dataset)) for dataset in tests.values()]
    if len(shown) > SETS:
        shown = [("test", f"{len(shown)} sets: {', '.join(tests)}")]
    special = averaged_text(solver.EMA_DECAY, solver.EMA_WARMUP) + stages_text(solver.STAGE_LR_FACTORS)
    repeats = repeats_of(cfg, train)
    epochs = solver.MAX_ITER * solver.IMS_PER_BATCH / (len(train) if repeats is None else repeats.draws)
    rows = [
        ("device", device_text(device, solver.AMP)),
        ("model", f"{parts}; from {start if run.source is None else run.source.name}"),
        ("parameters", parameters_text(run.model)),
        ("classes", classes_text(train.classes)),
        ("train", pictures_text(train)),
        *(shown or [("test", "nothing")]),
        ("schedule", schedule_text(run.step, solver.MAX_ITER, solver.IMS_PER_BATCH, epochs, solver.ACCUM_ITERS)),
        ("rate", f"{solver.OPTIMIZER} {solver.BASE_LR:g}, {decay_text(solver)}{special}"),
        ("workers", workers_text(cfg.DATALOADER.NUM_WORKERS)),
        ("output", ": ".join([str(run.folder), *filter(None, [periods_text(cfg, bool(tests))])])),
    ]
    return block("training", rows)


def classification_header(
    recipe: Recipe, run: Run, device: torch.device, classes: Sequence[str], pictures: Sequence[int], steps: int
) -> str:
    """Likewise for a pre-training.

    pictures: with labels to train on, to evaluate, and without labels to train on; steps: of the whole training.
    """
    start = f"the weights of {recipe.weight}" if recipe.weight else "random weights"
    special = averaged_text(recipe.ema) + stages_text(recipe.stage_lr_factors)
    warmup = f"warm-up over {recipe.warmup_epochs:g} epochs, then " if recipe.warmup_epochs else ""
    rows = [
        ("device", device_text(device, recipe.amp)),
        ("model", f"{recipe.backbone} ({recipe.norm}); from {start if run.source is None else run.source.name}"),
        ("parameters", parameters_text(run.model)),
        ("classes", classes_text(classes)),
        *([("teacher", teacher_text(recipe))] if recipe.teacher else []),
        (
            "train",
            f"{pictures[0]:,} {agreeing(pictures[0], 'picture|pictures')} of {Path(recipe.data) / 'train'}, crops of "
            f"{recipe.crop} pixels",
        ),
        *([("", f"{pictures[2]:,} pictures without labels of {', '.join(recipe.unlabelled)}")] if pictures[2] else []),
        (
            "test",
            f"{pictures[1]:,} {agreeing(pictures[1], 'picture|pictures')} of {Path(recipe.data) / 'val'}, after each "
            "epoch",
        ),
        ("schedule", schedule_text(run.step, steps, recipe.batch_size, recipe.epochs)),
        ("rate", f"{recipe.optimizer} {recipe.lr:g}, {warmup}a cosine to 0{special}"),
        ("workers", workers_text(recipe.workers)),
        ("output", str(run.folder)),
    ]
    return block("training", rows)


def teacher_text(recipe: Recipe) -> str:
    """Who teaches, and what the loss is made of."""
    precision = _PRECISIONS[recipe.teacher_amp]
    loss = f"{1 - recipe.labels:g} x {recipe.distill} at temperature {recipe.temperature:g}"
    true = f", {recipe.labels:g} x the true labels" if recipe.labels else ", no labels"
    return f"{recipe.teacher} of {shown(recipe.teacher_weight)}, {precision}; loss {loss}{true}"


FOUND = "detections on the test set"
"""What results.json holds where boxes were looked for."""


def detection_farewell(
    folder: Path, tests: Sequence[str], patience: int = 0, results: str = FOUND, finished: int = 0
) -> str:
    """The files that a training of a detector leaves, and what to type next.

    patience: what ended it, 0: its end; results: what results.json holds; finished: its steps, where all of them had
    been made before, so that this time nothing was.
    """
    homes = [""] if len(tests) == 1 else [f"{name}/" for name in tests]
    files = {
        "model_final.pth": f"weights and optimiser after the last step{', as patience ended' * bool(patience)}",
        "model_best.pth": "weights of the best test",
        **{f"{home}metrics.json": "measures" for home in homes},
        **{f"{home}results.json": results for home in homes},
        "log.jsonl": "losses, rates and times",
        "tensorboard": f"the same as curves and pictures: tensorboard --logdir {shlex.quote(str(folder))}",
        "config.yaml": "the whole config",
    }
    place = shlex.quote(str(folder))
    studied = [shlex.quote(str(folder / home)) for home in homes if tests and results == FOUND]
    commands = [*(f"detector analyze errors {one}" for one in studied[:1]), f"detector predict {place} PHOTOS"]
    if patience:
        commands += [
            f"detector test {place} --which best",
            f"detector train {place} --resume SOLVER.PATIENCE {2 * patience}",
        ]
    elif finished:
        commands.append(f"detector train {place} --resume SOLVER.MAX_ITER {2 * finished}")
    return farewell(folder, files, commands, "in" if finished else "written to")


def classification_farewell(folder: Path, recipe: Recipe) -> str:
    """The files that a pre-training leaves, and what to type next."""
    weights = shlex.quote(str(folder / "weights.pth"))
    norm = f" --norm {recipe.norm}" if recipe.norm == "gn" else ""
    files = {
        "weights.pth": "the network after the last epoch",
        "weights_best.pth": "the network after the best epoch",
        "log.jsonl": "losses, rates and times",
    }
    data = shlex.quote(str(Path(recipe.data) / "val"))
    commands = [
        f"detector classify --backbone {recipe.backbone} --data {data} --weight {weights}{norm}",
        f"detector train --config-file FILE MODEL.BACKBONE.NAME {recipe.backbone} MODEL.WEIGHT {weights}",
    ]
    return farewell(folder, files, commands)


def farewell(folder: Path, files: Mapping[str, str], commands: Sequence[str], how: str = "written to") -> str:
    """The files that are there, with what they hold, and commands to go on with."""
    rows = [(name, what) for name, what in files.items() if (folder / name).exists()]
    return "\n".join(
        [block(f"{how} {folder}", rows), "next", *(f"  {command}{import_words()}" for command in commands)]
    )


def block(title: str, rows: Sequence[tuple[str, str]]) -> str:
    """A title, and under it words with what stands for them, aligned."""
    width = max((len(word) for word, _ in rows), default=0)
    return "\n".join([title, *(f"  {word:<{width}}  {text}" for word, text in rows)])


def device_text(device: torch.device, precision: str) -> str:
    """Name, threads of a CPU, and precision."""
    if device.type == "cuda":
        name = f"{device} ({torch.cuda.get_device_name(device)})"
    else:
        threads = torch.get_num_threads()
        name = f"{device}, {threads} thread{'s' * (threads != 1)}" if device.type == "cpu" else str(device)
    number = world_size()
    return f"{name}, {_PRECISIONS[precision]}" + f", the first of {number} processes" * (number > 1)


def averaged_text(decay: float, warmup: bool = False) -> str:
    """That weights are averaged; "" where they are not."""
    return f"; weights averaged, decay {decay:g}{' after a warm-up' * warmup}" if decay else ""


def stages_text(factors: Sequence[float]) -> str:
    """That the stages of the backbone have rates of their own; "" where they have not."""
    return f"; of the stages times {' '.join(f'{factor:g}' for factor in factors)}" if factors else ""


def parameters_text(model: nn.Module) -> str:
    """Number of parameters, and how many of them are trained."""
    every = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return f"{every:,}, " + ("all trained" if trained == every else f"{trained:,} of them trained")


def classes_text(classes: Sequence[str]) -> str:
    """How many, and the first names."""
    names = printable(", ".join(classes[:NAMED]))
    return f"{len(classes)}: {names}{', ..' if len(classes) > NAMED else ''}"


def pictures_text(dataset: CocoDetection | JoinedDataset) -> str:
    """Name, pictures and boxes of a data set."""
    return f"{printable(dataset.name)}: {many(len(dataset), 'picture')}, {many(dataset.num_boxes, 'box', 'es')}"


def schedule_text(step: int, steps: int, batch: int, epochs: float, accumulate: int = 1) -> str:
    """Steps, pictures a step, how they are shared, and how often every picture is seen."""
    shared = [many(world_size(), "process", "es")] * (world_size() > 1) + [f"{accumulate} turns"] * (accumulate > 1)
    begun = f", from step {step:,}" if step else ""
    times = f"{epochs:.3g}"
    parts = f" in {' and '.join(shared)}" if shared else ""
    return f"{many(steps, 'step')} of {many(batch, 'picture')}{parts}{begun}: {times} epoch{'s' * (times != '1')}"


def periods_text(cfg: CfgNode, tests: bool) -> str:
    """How often there is a checkpoint and, where there are data to test on, a test, and what these decide."""
    solver = cfg.SOLVER
    periods = [f"a checkpoint {_every(solver.CHECKPOINT_PERIOD)}"] if solver.CHECKPOINT_PERIOD else []
    if tests:
        periods.append(f"a test {_every(solver.TEST_PERIOD) if solver.TEST_PERIOD else 'at the end'}")
    if tests and 0 < solver.TEST_PERIOD < solver.MAX_ITER:
        periods.append(f"the best by {printable(best_by(cfg))}")
        if solver.PATIENCE:
            periods.append(f"the end after {many(solver.PATIENCE, 'test')} without a better one")
    return ", ".join(periods)


def many(number: int, what: str, ending: str = "s") -> str:
    """A number of things, "2 steps"; ending: of the plural."""
    return f"{number:,} {what}{ending * (number != 1)}"


def decay_text(solver: CfgNode) -> str:
    """What becomes of the rate."""
    warmup = f"warm-up over {many(solver.WARMUP_ITERS, 'step')}, then " if solver.WARMUP_ITERS else ""
    if solver.SCHEDULE == "cosine":
        return f"{warmup}a cosine to 0"
    steps = [f"{step:,}" for step in solver.STEPS if step < solver.MAX_ITER]
    return warmup + (f"times {solver.GAMMA:g} at {' and '.join(steps)}" if steps else "constant")


def _every(steps: int) -> str:
    return "every step" if steps == 1 else f"every {steps:,} steps"
