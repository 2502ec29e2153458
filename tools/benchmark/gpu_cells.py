"""What the table of a GPU consists of: cells in order of worth, the detectors in them, and how each is measured."""

import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest import mock

import torch
from peers import CLASSES, Foreign, build_pair, random_target, spread
from start import write_pictures
from torch import Tensor, nn
from waits import host_waits, wait_share
from yacs.config import CfgNode

from detector.config import load_config
from detector.data.loader import collate
from detector.engine.device import autocast
from detector.inference.prepare import prepare_for_inference
from detector.models.build import build_detector
from detector.models.detector import Detector
from detector.models.heads.faster_rcnn import FasterRCNN
from detector.models.heads.fcos import FCOS
from detector.models.heads.refinedet import RefineDet
from detector.structures import Batch, Size
from detector.tasks.detection import DetectionTask
from detector.tasks.several import to_device

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "base"
BASES = {"fcos": "fcos_improved", "faster_rcnn": "faster_rcnn", "refinedet": "refinedet"}
PAIRED = ("fcos", "faster_rcnn")  # heads that torchvision has
TRAINED, PREDICTED = 2, 1  # images of a training step and of a prediction
BUDGET = 8.0  # seconds that a cell measures at most
WARM = 3  # runs that do not count; fewer where these take a third of the budget
REPEATS = 30  # runs that count, at most
LATE = 0.1  # share of a step's time: a step that waits longer for its data than this is one that waits


@dataclass(frozen=True)
class Cell:
    """One number of the table.

    who: ours | torchvision; work: train, infer, waits (for the device) or data (waits for it); precision: off | bf16 |
    fp16; channels_last: memory format; checkpoint: stages whose activations are computed again.
    """

    who: str
    head: str
    work: str
    precision: str = "off"
    backbone: str = "resnet50"
    channels_last: bool = True
    checkpoint: bool = False

    @property
    def name(self) -> str:
        """What it is called in the table, the same for nothing else."""
        form = [self.work, {"off": "fp32"}.get(self.precision, self.precision)]
        form += ["checkpointed"] * self.checkpoint
        if self.channels_last != (self.who == "ours" or self.precision != "off"):  # not as this detector is at its best
            form.append("channels_last" if self.channels_last else "contiguous")
        return f"{self.who} {self.head} {self.backbone} {' '.join(form)}"


def both(head: str, work: str, precision: str) -> list[Cell]:
    """Ours and torchvision's, whose best is in channels_last and which has it not by itself."""
    return [
        Cell("ours", head, work, precision),
        Cell("torchvision", head, work, precision, channels_last=precision != "off"),
    ]


def all_cells() -> list[Cell]:
    """Every cell, those first that say most."""
    ours = partial(Cell, "ours")
    pairs = [(precision, work) for precision in ("off", "fp16") for work in ("train", "infer")]
    cells = [cell for precision, work in pairs for head in PAIRED for cell in both(head, work, precision)]
    cells[4:4] = [ours("refinedet", "train")]
    cells += [ours(head, "waits", "fp16") for head in BASES]
    cells += [ours("fcos", "train", checkpoint=True)]
    cells += [ours("fcos", work, p, channels_last=False) for p in ("off", "fp16") for work in ("train", "infer")]
    cells += [ours("fcos", "data", "fp16")]
    cells += [ours("refinedet", "train", "fp16"), ours("refinedet", "infer"), ours("refinedet", "infer", "fp16")]
    for backbone in ("sreresnet50", "resnest50"):
        cells += [ours(head, work, "fp16", backbone) for head in BASES for work in ("train", "infer")]
    cells += [cell for work in ("train", "infer") for head in PAIRED for cell in both(head, work, "bf16")]
    return cells + [ours("refinedet", work, "bf16") for work in ("train", "infer")]


class Bench:
    """The detectors, the images and the clock of all cells.

    size: (height, width) of the images; budget: seconds that a cell measures; repeats: runs that count, at most.
    """

    def __init__(self, device: torch.device, size: Size, budget: float = BUDGET, repeats: int = REPEATS) -> None:
        self.device, self.size, self.budget, self.repeats = device, size, budget, repeats
        self.warm = min(WARM, repeats - 1)
        self.models: dict[tuple[str, str, str], nn.Module] = {}
        generator, cpu = torch.Generator().manual_seed(0), torch.device("cpu")
        self.items = [(some_image(size, generator), random_target(size, cpu, generator)) for _ in range(TRAINED)]

    def measure(self, cell: Cell) -> dict[str, Any]:
        """The numbers of a cell by name."""
        if cell.work == "data":
            return self.data(cell)
        model = self.model(cell)
        self.reset()
        if cell.work == "waits":
            return self.waits(cell, model)
        run, images = (
            (self.step(cell, model), TRAINED) if cell.work == "train" else (self.predict(cell, model), PREDICTED)
        )
        count, seconds = self.clock(run)
        return {
            "images_per_s": count * images / seconds,
            "run_s": seconds / count,
            "runs": count,
            "peak_memory_mb": self.peak(),
        }

    def data(self, cell: Cell) -> dict[str, Any]:
        """How many steps of a short training on pictures from the disk wait for their data."""
        with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, DETECTOR_CACHE=f"{folder}/cache"):
            cfg = self.pictures(cell, Path(folder))
            task = DetectionTask.from_config(cfg)
            model = task.build().to(self.device).train()
            step = self.update(cell, model)
            waited, spent = [], []
            batches = iter(task.batches(0, cfg.SOLVER.MAX_ITER))
            with closing(cast(Generator[Batch], batches)):
                begun = mark = time.perf_counter()
                for batch in batches:
                    arrived = time.perf_counter()
                    step(partial(task.losses, model, batch))
                    waited.append(arrived - mark)
                    spent.append(time.perf_counter() - mark)
                    mark = time.perf_counter()
                    if mark - begun > self.budget:
                        break
        skipped = min(self.warm, len(spent) - 1)  # the workers start, and libraries load
        late = [w > LATE * s for w, s in zip(waited, spent, strict=True)][skipped:]
        return {
            "images_per_s": TRAINED * len(late) / sum(spent[skipped:]),
            "steps": len(late),
            "steps_that_wait": sum(late),
            "share_waited": sum(waited[skipped:]) / sum(spent[skipped:]),
            "workers": cfg.DATALOADER.NUM_WORKERS,
        }

    def pictures(self, cell: Cell, folder: Path) -> CfgNode:
        """The config of a training on generated pictures of COCO's size, resized as all."""
        entry = write_pictures(folder, 2 * TRAINED * self.repeats, (480, 640))
        short, long = sorted(self.size)
        opts = {
            "MODEL.WEIGHT": "", "MODEL.NUM_CLASSES": 1, "MODEL.BACKBONE.NAME": cell.backbone,
            "MODEL.DEVICE": self.device.type, "DATASETS.TRAIN": entry, "DATASETS.TEST": "()",
            "INPUT.MIN_SIZE_TRAIN": f"({short},)", "INPUT.MAX_SIZE_TRAIN": long, "SOLVER.IMS_PER_BATCH": TRAINED,
            "SOLVER.MAX_ITER": self.warm + self.repeats, "SOLVER.AMP": cell.precision, "OUTPUT_DIR": folder / "output",
        }  # fmt: skip
        if self.device.type == "cpu":
            opts["DATALOADER.NUM_WORKERS"] = 0
        return config(cell.head, opts)

    def waits(self, cell: Cell, model: nn.Module) -> dict[str, Any]:
        """Where a training step waits for the device, targets and all, and for how much of its time."""
        batch = self.batch(model, TRAINED)
        batch = batch.pin_memory() if self.device.type == "cuda" else batch
        run = self.update(cell, model)

        def losses() -> dict[str, Tensor]:
            images = batch.images.to(self.device, non_blocking=True)
            return model(images, batch.sizes, [to_device(target, self.device) for target in batch.targets])

        run(losses)  # what is set up once
        places = host_waits(lambda: run(losses), self.device)
        share = wait_share(lambda: run(losses), self.device)
        return {"waits": places.total(), "places": dict(places.most_common()), "share_waited": share}

    def model(self, cell: Cell) -> nn.Module:
        """A detector of its own on the device, made ready for its work."""
        # Converted from torchvision's, so that both have the same weights, or with our own losses and keys.
        paired = cell.head in PAIRED and cell.backbone == "resnet50" and not cell.checkpoint and cell.work != "waits"
        key = cell.who, cell.head, "paired" if paired else f"{cell.backbone} {cell.checkpoint}"
        if key not in self.models:
            self.models |= self.pair(cell.head) if paired else {key: self.lively(cell)}
        model = deepcopy(self.models[key]).to(self.device)
        memory_format = torch.channels_last if cell.channels_last else torch.contiguous_format
        model.to(memory_format=memory_format)  # type: ignore[call-overload]
        if isinstance(model, Detector):
            model.memory_format = memory_format
            if cell.work == "infer":
                model = prepare_for_inference(model, self.precision(cell))
        return model.train(cell.work != "infer")

    def config(self, cell: Cell) -> CfgNode:
        """The config of a cell of ours."""
        opts = {"MODEL.BACKBONE.NAME": cell.backbone, "MODEL.BACKBONE.FREEZE_CONV_BODY_AT": 2, "MODEL.WEIGHT": ""}
        if cell.checkpoint:
            opts["MODEL.BACKBONE.CHECKPOINT_STAGES"] = "(2, 3, 4)"  # the first is frozen
        return config(cell.head, {**opts, "MODEL.NUM_CLASSES": CLASSES})

    def pair(self, head: str) -> dict[tuple[str, str, str], nn.Module]:
        """The detectors of both on the CPU, where no cell's memory counts them."""
        theirs, ours = build_pair(head, *self.size, self.device)
        return {("torchvision", head, "paired"): theirs.cpu(), ("ours", head, "paired"): ours.cpu()}

    def lively(self, cell: Cell) -> Detector:
        """Ours with random weights that find about as much as trained ones."""
        torch.manual_seed(0)
        model = build_detector(self.config(cell)).to(self.device).eval()
        batch = self.batch(model, 1)
        images = batch.images.to(self.device)
        enliven(model, lambda: model(images, batch.sizes))
        return model.cpu()

    def batch(self, model: nn.Module, number: int) -> Batch:
        """The same images for all, on the host, padded as the model's head wants them."""
        refined = isinstance(model, Detector) and isinstance(model.head, RefineDet)
        return collate(self.items[:number], 64 if refined else 32)

    def step(self, cell: Cell, model: nn.Module) -> Callable[[], object]:
        """A training step."""
        run = self.update(cell, model)
        batch = self.batch(model, TRAINED)
        targets = [to_device(target, self.device) for target in batch.targets]
        if isinstance(model, Detector):
            images = batch.images.to(self.device)
            return lambda: run(lambda: model(images, batch.sizes, targets))
        floats = self.floats(TRAINED)
        # Two-stage detectors of torchvision count the background as class 0.
        shifted = [{"boxes": t["boxes"], "labels": t["labels"] + (cell.head == "faster_rcnn")} for t in targets]
        return lambda: run(lambda: model(floats, shifted))

    def update(self, cell: Cell, model: nn.Module) -> Callable[[Callable[[], dict[str, Tensor]]], dict[str, Tensor]]:
        """A step of the training loop around losses: backward pass, norm of the gradients, SGD, numbers for the log."""
        parameters = [p for p in model.parameters() if p.requires_grad]
        # A rate this small leaves the weights alike, so that every step does the same work.
        optimizer = torch.optim.SGD(parameters, 1e-12, 0.9)
        scaler = torch.amp.GradScaler(self.device.type, enabled=cell.precision == "fp16")

        def step(losses: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
            with autocast(self.device, self.precision(cell)):
                terms = losses()
            total = torch.stack([term.float() for term in terms.values()]).sum()
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(total).backward()
            scaler.unscale_(optimizer)
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            torch.stack([total.detach(), norm]).tolist()
            scaler.step(optimizer)
            scaler.update()
            return terms

        return step

    def precision(self, cell: Cell) -> str:
        """The one to compute in: bf16 for fp16 on a CPU, most of which have no instructions for the latter."""
        return "bf16" if self.device.type == "cpu" and cell.precision == "fp16" else cell.precision

    def predict(self, cell: Cell, model: nn.Module) -> Callable[[], object]:
        """The detections of one image, which lies on the device and stays there."""
        batch, floats = self.batch(model, PREDICTED), self.floats(PREDICTED)
        images = batch.images.to(self.device)

        def run() -> object:
            with torch.inference_mode(), autocast(self.device, self.precision(cell)):
                return model(images, batch.sizes) if isinstance(model, Detector) else model(floats)

        return run

    def floats(self, number: int) -> list[Tensor]:
        """The images as torchvision takes them."""
        return [image.to(self.device).float() / 255 for image, _ in self.items[:number]]

    def clock(self, run: Callable[[], object]) -> tuple[int, float]:
        """How many runs, and the seconds of all of them; the first ones do not count."""
        begun = time.perf_counter()
        for _ in range(self.warm):
            run()
            self.wait()
            spent = time.perf_counter() - begun
            if spent > self.budget:  # one run is all that there is time for
                return 1, spent
            if spent > self.budget / 3:
                break
        count, start = 0, time.perf_counter()
        while True:
            run()
            self.wait()  # without, the host would be ahead by any number of runs when the budget ends
            count += 1
            now = time.perf_counter()
            if count == self.repeats or now - begun > self.budget - (now - start) / count:
                return count, now - start

    def wait(self) -> None:
        """Until the device has done everything."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def reset(self) -> None:
        """Count the peak of memory from here."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> float | None:
        """MiB of the allocator at most since the last reset; None on the CPU, which has no such count."""
        return torch.cuda.max_memory_allocated(self.device) / 2**20 if self.device.type == "cuda" else None


def config(head: str, opts: dict[str, Any]) -> CfgNode:
    """The base config of a head with overrides."""
    return load_config(CONFIGS / f"{BASES[head]}.yaml", [str(word) for pair in opts.items() for word in pair])


def some_image(size: Size, generator: torch.Generator) -> Tensor:
    """Noise, uint8 [3, H, W]."""
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)


@torch.no_grad()
def enliven(model: Detector, run: Callable[[], object]) -> None:
    """Give random predictors outputs from which detections of many classes, sizes and levels come."""
    for name, module in model.backbone.named_modules():
        if name.endswith("bn3"):  # the residual sums of random blocks would grow without bound
            nn.init.uniform_(cast(Tensor, module.weight), 0.1, 0.3)
    for layer, std, bias in predictors(model.head):
        spread(layer, std, run)
        layer.bias += torch.as_tensor(bias).to(layer.bias)


def predictors(head: Foreign) -> Iterator[tuple[Foreign, float, float | Tensor]]:
    """The last layers of a head, the spread of their outputs, and what is added to their bias."""
    if isinstance(head, FCOS):
        yield from ((head.cls_logits, 1.0, -3.5), (head.bbox_pred, 0.7, 2.0), (head.centerness, 1.0, 0.0))
    elif isinstance(head, FasterRCNN):
        yield from ((head.rpn.objectness, 0.3, 0.0), (head.rpn.deltas, 0.3, 0.0))
        boxes = cast(Foreign, head.box_heads[0])
        yield from ((boxes.cls_logits, 2.0, 0.0), (boxes.deltas, 0.5, 0.0))
    else:
        background = torch.zeros(len(head.aspect_ratios), CLASSES + 1)
        background[:, -1] = 8
        for layers in zip(head.arm_cls, head.arm_reg, head.odm_cls, head.odm_reg, strict=True):
            yield from zip(layers, (1.0, 0.3, 1.0, 0.3), (0.0, 0.0, background.flatten(), 0.0), strict=True)
