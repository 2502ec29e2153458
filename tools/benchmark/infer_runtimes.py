"""What `infer.py` compares: torchvision, mayaku and ours in torch, onnxruntime and OpenVINO, each in its own process.

A runtime's threads, allocator and memory are then its own. The processes take turns: while one works, the others wait.
"""

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from peers import build_peer, clock, convert_peer, counted, prepared_peer

from detector.config import config_from_text, config_text
from detector.engine.device import autocast, peak_memory_mb
from detector.inference.export.write import export, quiet, to_openvino
from detector.inference.prepare import prepare_for_inference
from detector.inference.runtimes import load_exported
from detector.models.build import build_detector
from detector.models.detector import Detector
from detector.structures import Detection, Size
from detector.tasks.export import facts_of

CALIBRATION = 8  # pictures of noise: int8's time does not depend on its ranges
PICTURES = 3  # a turn; the first one does not count

Run = Callable[[], Detection]


class Contest(NamedTuple):
    """head: fcos or faster_rcnn; folder: where `prepare` put the files; size: of the picture; device; threads."""

    head: str
    folder: Path
    size: Size
    device: torch.device
    threads: int

    def image(self) -> torch.Tensor:
        """The picture, uint8 [1, 3, H, W]."""
        made = torch.Generator().manual_seed(1)
        return torch.randint(0, 256, (1, 3, *self.size), dtype=torch.uint8, generator=made).to(self.device)

    def file(self, name: str) -> Path:
        """A file of the head."""
        return self.folder / f"{self.head}_{name}"


class Form(NamedTuple):
    """One contestant. build: makes its run; precision: of ours; needs: a package; file: of `prepare`, for its size."""

    build: Callable[[Contest], Run]
    precision: str = ""
    needs: str = ""
    file: str = ""
    heads: tuple[str, ...] = ("fcos", "faster_rcnn")


def torchvision_run(contest: Contest, precision: str = "off") -> Run:
    """Torchvision's detector: as most run it, or at its best."""
    theirs = build_peer(contest.head, *contest.size)
    theirs.load_state_dict(torch.load(contest.file("theirs.pth"), weights_only=True))
    theirs.to(contest.device).eval()
    if precision != "off":
        theirs = theirs.to(memory_format=torch.channels_last)
    floats, shift = [contest.image()[0].float() / 255], int(contest.head == "faster_rcnn")

    def run() -> Detection:
        with torch.inference_mode(), autocast(contest.device, precision):
            found = theirs(floats)[0]
        return Detection(boxes=found["boxes"], labels=found["labels"] - shift, scores=found["scores"])

    return run


def eager_run(contest: Contest, precision: str = "off") -> Run:
    """Ours in torch, prepared as `detector.load` prepares it."""
    model, image = prepare_for_inference(ours(contest).to(contest.device), precision), contest.image()

    def run() -> Detection:
        with torch.inference_mode(), autocast(contest.device, precision):
            return model(image, [contest.size])[0]

    return run


def compiled_run(contest: Contest) -> Run:
    """Ours in bf16 with the backbone by torch.compile."""
    model, image = prepare_for_inference(ours(contest).to(contest.device), "bf16"), contest.image()
    model.backbone = torch.compile(model.backbone, options={"freezing": True})  # type: ignore[assignment]

    def run() -> Detection:
        with torch.inference_mode(), autocast(contest.device, "bf16"):
            return model(image, [contest.size])[0]

    return run


def ours(contest: Contest) -> Detector:
    """Ours with torchvision's weights."""
    cfg = config_from_text(contest.file("config.yaml").read_text(), "the benchmark's config")
    model = build_detector(cfg)
    model.load_state_dict(torch.load(contest.file("ours.pth"), weights_only=True))
    return model.eval()


def file_run(contest: Contest, name: str, precision: str = "off") -> Run:
    """An exported file, called as `detector.load` calls it."""
    image, model = contest.image(), load_exported(contest.file(name), precision)

    def run() -> Detection:
        with torch.inference_mode():
            return model(image, [contest.size])[0]

    return run


def peer_onnx_run(contest: Contest) -> Run:
    """Torchvision's own ONNX export in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = contest.threads, 3
    session = onnxruntime.InferenceSession(
        str(contest.file("theirs.onnx")), options, providers=["CPUExecutionProvider"]
    )
    inputs = {session.get_inputs()[0].name: (contest.image()[0].float() / 255).numpy()}
    shift = int(contest.head == "faster_rcnn")

    def run() -> Detection:
        found = dict(zip("bac", (torch.from_numpy(one) for one in session.run(None, inputs)), strict=True))
        scores, labels = (found["a"], found["c"]) if found["c"].dtype == torch.int64 else (found["c"], found["a"])
        return Detection(boxes=found["b"], labels=labels - shift, scores=scores)

    return run


def mayaku_run(contest: Contest, precision: str = "off") -> Run:
    """Mayaku's Faster R-CNN with torchvision's weights: the same layers in the same order, background last."""
    from mayaku.config.schemas import MayakuConfig
    from mayaku.models.detectors.faster_rcnn import build_faster_rcnn

    settings = {
        "model": {"meta_architecture": "faster_rcnn", "roi_heads": {"num_classes": 90}},
        "test": {"detections_per_image": 100},
    }
    model = build_faster_rcnn(MayakuConfig.model_validate(settings)).eval()
    theirs = torch.load(contest.file("theirs.pth"), weights_only=True)
    for kind in ("weight", "bias"):
        logits, boxes = (f"roi_heads.box_predictor.{name}.{kind}" for name in ("cls_score", "bbox_pred"))
        theirs[logits], theirs[boxes] = theirs[logits].roll(-1, 0), theirs[boxes][4:]
    model.load_state_dict(dict(zip(model.state_dict(), theirs.values(), strict=True)))
    if precision != "off":
        model = model.to(memory_format=torch.channels_last)
    image = {"image": contest.image()[0], "height": contest.size[0], "width": contest.size[1]}

    def run() -> Detection:
        with torch.inference_mode(), autocast(contest.device, precision):
            found = model([image])[0]["instances"]
        return Detection(boxes=found.pred_boxes.tensor, labels=found.pred_classes, scores=found.scores)

    return run


RCNN = ("faster_rcnn",)

FORMS: dict[str, Form] = {
    "torchvision fp32": Form(torchvision_run),
    "torchvision best": Form(lambda contest: torchvision_run(contest, "bf16")),
    "torchvision onnx": Form(peer_onnx_run, needs="onnxruntime", file="theirs.onnx"),
    "mayaku fp32": Form(mayaku_run, needs="mayaku", heads=RCNN),
    "mayaku bf16": Form(lambda contest: mayaku_run(contest, "bf16"), needs="mayaku", heads=RCNN),
    "ours fp32": Form(eager_run, "fp32"),
    "ours best": Form(lambda contest: eager_run(contest, "bf16"), "bf16"),
    "ours compiled": Form(compiled_run, "bf16"),
    "onnx fp32": Form(lambda contest: file_run(contest, "fp32.onnx"), "fp32", "onnxruntime", "fp32.onnx"),
    "onnx split": Form(lambda contest: file_run(contest, "split.onnx"), "fp32", "onnxruntime", "split.onnx"),
    "onnx int8": Form(lambda contest: file_run(contest, "int8.onnx"), "int8", "onnxruntime", "int8.onnx"),
    "openvino fp32": Form(lambda contest: file_run(contest, "fp32.xml"), "fp32", "openvino", "fp32.xml"),
    "openvino split": Form(lambda contest: file_run(contest, "split.xml"), "fp32", "openvino", "split.xml"),
    "openvino bf16": Form(lambda contest: file_run(contest, "fp32.xml", "bf16"), "bf16", "openvino", "fp32.xml"),
    "openvino split bf16": Form(
        lambda contest: file_run(contest, "split.xml", "bf16"), "bf16", "openvino", "split.xml"
    ),
    "openvino int8": Form(lambda contest: file_run(contest, "int8.xml"), "int8", "nncf", "int8.xml"),
    "openvino int8, bf16": Form(lambda contest: file_run(contest, "int8.xml", "bf16"), "int8", "nncf", "int8.xml"),
}
"""In the order in which they are printed. Those in int8 and bf16 compute in bf16 what is left out of int8."""


def available(head: str, device: torch.device, compiled: bool) -> list[str]:
    """Names of the forms that this installation can run."""
    names = []
    for name, form in FORMS.items():
        lacks = form.needs and importlib.util.find_spec(form.needs) is None
        fits = head in form.heads and (device.type == "cpu" or not form.needs) and (compiled or name != "ours compiled")
        if fits and not lacks:
            names.append(name)
    return names


def prepare(contest: Contest, names: list[str]) -> None:
    """Write the weights, and the files that are not there yet, into the contest's folder."""
    if not contest.file("ours.pth").exists():
        theirs = prepared_peer(contest.head, *contest.size, torch.device("cpu"))
        model, cfg = convert_peer(theirs)
        torch.save(theirs.state_dict(), contest.file("theirs.pth"))
        contest.file("config.yaml").write_text(config_text(cfg))
        torch.save(model.state_dict(), contest.file("ours.pth"))
    cfg = config_from_text(contest.file("config.yaml").read_text(), "the benchmark's config")
    classes = cfg.MODEL.NUM_CLASSES
    facts = facts_of(cfg, [str(i) for i in range(classes)], list(range(classes)), "0" * 64, "", None)
    wanted = dict.fromkeys(FORMS[name].file for name in names if FORMS[name].file)
    rng = np.random.default_rng(0)
    pictures = [
        (rng.integers(0, 256, (1, 3, *contest.size), dtype=np.uint8), np.array([contest.size]))
        for _ in range(CALIBRATION)
    ]
    for name in [name for name in wanted if not contest.file(name).exists()]:
        path, started = contest.file(name), time.perf_counter()
        source = contest.file("split.onnx" if name.startswith("split") else "fp32.onnx")
        if name.startswith("theirs"):
            export_peer(contest, path)
        else:
            if not source.exists():
                export(ours(contest), facts, "onnx", source, split=source.name.endswith("split.onnx"))
            float32 = load_exported(source, say=False)
            written = float32.facts
            if name.startswith("int8"):
                from detector.inference.export.int8 import FileQuantiser

                form = "openvino" if path.suffix == ".xml" else "onnx"
                FileQuantiser(form, source, written, pictures, float32.second_inputs).save(path, written)
            elif path.suffix == ".xml":
                to_openvino(source, path, written)
        print(f"  {path.name}: written in {time.perf_counter() - started:.0f} s", file=sys.stderr)


def export_peer(contest: Contest, path: Path) -> None:
    """Torchvision's detector as its own tests export it: the newer exporter cannot (torch 2.14)."""
    theirs = build_peer(contest.head, *contest.size)
    theirs.load_state_dict(torch.load(contest.file("theirs.pth"), weights_only=True))
    with torch.no_grad(), quiet():
        torch.onnx.export(theirs.eval(), ([torch.rand(3, *contest.size)],), str(path), dynamo=False, opset_version=17)


class Process:
    """A contestant in a process of its own. found: its detections; macs: multiply-adds, of torchvision alone.

    Raises RuntimeError with what went wrong in it.
    """

    def __init__(self, name: str, contest: Contest) -> None:
        context = get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, name, contest), daemon=True)
        self.process.start()
        other.close()
        boxes, labels, scores, self.macs = self.answer()
        self.found = Detection(boxes=boxes, labels=labels, scores=scores)

    def answer(self) -> Any:  # noqa: ANN401 - of whatever question
        """What it says next."""
        try:
            said = self.pipe.recv()
        except EOFError:
            raise RuntimeError("its process ended") from None
        if isinstance(said, str):
            raise RuntimeError(said)
        return said

    def turn(self) -> float:
        """Seconds an image."""
        self.pipe.send("turn")
        return float(self.answer())

    def end(self) -> float:
        """Stop; returns the peak memory in MiB."""
        self.pipe.send("end")
        peak = float(self.answer())
        self.process.join()
        return peak


def work(pipe: Connection, name: str, contest: Contest) -> None:
    """What a contestant's process does."""
    torch.set_num_threads(contest.threads)
    try:
        run = FORMS[name].build(contest)
        found = run()
        run()
        macs = counted(run) if name in ("torchvision fp32", "torchvision best") else 0.0
        pipe.send((*(found[key].cpu() for key in ("boxes", "labels", "scores")), macs))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
        return
    while pipe.recv() == "turn":
        pipe.send(statistics.median([clock(run, contest.device) for _ in range(PICTURES)][1:]))
    pipe.send(peak_memory_mb(contest.device))
