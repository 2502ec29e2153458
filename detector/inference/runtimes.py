"""Exported detectors at work in onnxruntime, OpenVINO or torch, called as the detector itself is, on the CPU.

They compute in float32, and what a file has in int8 in that; OpenVINO also in bf16, if asked.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from detector.config import config_from_text
from detector.engine.device import gains_bf16
from detector.errors import MissingFileError, UserError
from detector.extras import needed
from detector.inference.export.facts import KEY, SECOND, Facts, read_facts, second_path
from detector.inference.export.program import read_program
from detector.inference.export.whole import select_raw
from detector.inference.export.write import INPUTS, file_digest
from detector.inference.formats import EXPORTS, exported_form
from detector.models.build import build_detector
from detector.models.detector import check_input
from detector.models.heads.base import Head
from detector.ops import arrays
from detector.structures import Detection, Size
from detector.text import counted

log = logging.getLogger("detector")

HINTS = {"off": "f32", "bf16": "bf16"}
"""Precision -> what OpenVINO calls it."""

Arrays = Sequence[np.ndarray]

Graph = Callable[[np.ndarray, np.ndarray], Arrays]
"""images uint8 [N, 3, H, W], sizes int64 [N, 2] -> the outputs that the facts name: those of `ops.flat.Padded`, or what
a head's `export.whole.raw` has."""


class Opened(NamedTuple):
    """A file in its runtime. run: inputs by name, and the names of the outputs wanted -> these; said: its metadata.

    outputs: their names, or, as a file of torch has none, their number.
    """

    run: Callable[[Mapping[str, np.ndarray], Sequence[str]], Arrays]
    said: str | None
    inputs: list[str]
    outputs: list[str] | int


class ExportedDetector(nn.Module):
    """A graph in another runtime in the place of a `Detector`; it may be called from several threads at once.

    graph: runs it; facts: what its file says of it; second: runs the file of the second stage, where there is one.
    """

    mean: Tensor

    def __init__(self, graph: Graph, facts: Facts, second: arrays.RoIHeads | None = None) -> None:
        super().__init__()
        self.graph, self.facts, self.second = graph, facts, second
        self.names, self.category_ids = list(facts.names), list(facts.category_ids)
        self.head = head_of(facts) if facts.split and not facts.selection else None
        self.register_buffer("mean", torch.zeros(1), persistent=False)  # tells where images go

    def forward(self, images: Tensor, sizes: list[Size]) -> list[Detection]:
        """As `Detector`: images [N, 3, H, W] uint8 RGB, padded right and bottom; sizes before padding."""
        check_input(images, sizes)
        if self.facts.split:
            return self.select(images, sizes)
        found = self.graph(np.ascontiguousarray(images.numpy()), np.array(sizes, np.int64))
        boxes, scores, labels, counts = (np.array(entry) for entry in found)  # their memory may be the runtime's
        return [
            Detection(
                boxes=torch.from_numpy(boxes[i, :number]),
                labels=torch.from_numpy(labels[i, :number]),
                scores=torch.from_numpy(scores[i, :number]),
            )
            for i, number in enumerate(counts.tolist())
        ]

    def second_inputs(self, images: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, ...]:
        """What the second stage of a split file is given, in the order of its inputs; images and sizes as a graph's."""
        rule, known = self.facts.selection, self.facts.second
        if known is None:
            raise ValueError("the file has one graph")
        grids = arrays.grids_of(rule, (images.shape[2], images.shape[3]))
        given, _ = arrays.regions(rule, self.graph(images, sizes), grids, sizes.tolist())
        return tuple(np.array(given[name]) for name in known.inputs)

    def select(self, images: Tensor, sizes: list[Size]) -> list[Detection]:
        """The detections of a split file, from what the network gives; of a head that NumPy does not know in torch.

        Then the head, which has no weights here, selects.
        """
        found = self.graph(np.ascontiguousarray(images.numpy()), np.array(sizes, np.int64))
        height, width = images.shape[2:]
        if self.head is None:
            return [
                Detection(
                    boxes=torch.from_numpy(boxes), labels=torch.from_numpy(labels), scores=torch.from_numpy(scores)
                )
                for boxes, scores, labels in arrays.select(
                    self.facts.selection, found, (height, width), sizes, self.second
                )
            ]
        grids: list[Size] = [(-(-height // stride), -(-width // stride)) for stride in self.facts.strides]
        return select_raw(self.head, [torch.from_numpy(np.array(one)) for one in found], grids, sizes)


def head_of(facts: Facts) -> Head:
    """The head of a split file, without weights: what it selects by is in the config."""
    with torch.device("meta"):
        return build_detector(config_from_text(facts.config, "the exported file's config")).head


def load_exported(path: str | Path, precision: str = "off", *, say: bool = True) -> ExportedDetector:
    """The detector in a file that `detector export` wrote: FILE.onnx by onnxruntime, FILE.xml by OpenVINO, FILE.pt2.

    It takes as many threads as torch does. precision: off, or of an OpenVINO file bf16; say: whether the log tells what
    it is. Raises ValueError or OSError naming a file that is none, a precision that it cannot be computed in, and the
    package that is missing.
    """
    path = Path(path)
    if not exported_form(path):
        raise UserError(f"{path}: exported detectors are called {', '.join(f'NAME{s}' for s in EXPORTS.values())}")
    if not path.is_file():
        raise MissingFileError(f"{path}: there is no such file")
    check_precision(path, precision)
    first = _opened(path, precision)
    facts = read_facts(first.said, path)
    _check(path, first, INPUTS, facts.outputs)
    second = None if facts.second is None else _second(path, facts, precision)
    if say:
        kind = "in int8, " * (facts.int8 is not None)
        classes = counted(len(facts.names), "class|classes")
        log.info("%s: %s, %sof %s", path, classes, kind, facts.weight or "unknown weights")

    def graph(images: np.ndarray, sizes: np.ndarray) -> Arrays:
        return first.run(dict(zip(INPUTS, (images, sizes), strict=True)), facts.outputs)

    return ExportedDetector(graph, facts, second)


def facts_of_file(path: Path) -> Facts:
    """What an exported file says of itself. Raises ValueError or OSError as `load_exported` does."""
    return read_facts(_opened(path, "off").said, path)


def _opened(path: Path, precision: str) -> Opened:
    if path.suffix.lower() == ".xml" and not path.with_suffix(".bin").is_file():
        raise MissingFileError(f"{path}: its weights, {path.with_suffix('.bin').name}, are not beside it")
    if (form := exported_form(path)) == "openvino":
        return _openvino(path, precision)
    return {"onnx": _onnxruntime, "torch": _torch}[form](path)


def _second(path: Path, facts: Facts, precision: str) -> arrays.RoIHeads:
    """Runs the file of the second stage. Raises ValueError or OSError where it is not there, or of another export."""
    beside, known = second_path(path), facts.second
    if known is None:
        raise ValueError(f"{path} has no second stage")
    if not beside.is_file():
        raise MissingFileError(f"{path}: its second stage, {beside.name}, is not beside it; copy both files")
    opened = _opened(beside, precision)
    if opened.said != SECOND or file_digest(beside) != known.digest:
        raise UserError(f"{beside} does not belong to {path.name}: it is of another export; copy both files of one")
    _check(beside, opened, known.inputs, known.outputs)
    return lambda given: opened.run({name: np.ascontiguousarray(given[name]) for name in known.inputs}, known.outputs)


def check_precision(path: Path, precision: str) -> None:
    """Raise ValueError for a precision that a file, or this processor, is not computed in."""
    if precision == "off":
        return
    if precision != "bf16" or exported_form(path) != "openvino":
        also = "; an OpenVINO file can be computed in bf16" * (precision == "bf16")
        raise UserError(f"precision {precision}: {path} is computed in what it was written in{also}; leave it out")
    if not gains_bf16(torch.device("cpu")):
        raise UserError(f"precision bf16: this processor has no instructions for it, so {path} would stay as it is")


def auto_text(path: Path, facts: Facts) -> str:
    """What the precision "auto" is for a file."""
    if facts.int8 is not None:
        return "int8, which the file was written in, and float32 where it selects"
    faster = exported_form(path) == "openvino" and gains_bf16(torch.device("cpu"))
    return "off (float32), as the file was written" + "; bf16 is faster here, and moves boxes" * faster


def _onnxruntime(path: Path) -> Opened:
    runtime = needed("onnxruntime")
    state = runtime.capi.onnxruntime_pybind11_state
    faults = state.InvalidProtobuf, state.InvalidGraph, state.InvalidArgument, state.Fail, state.NotImplemented
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except faults as error:
        raise UserError(f"{path} cannot be read as an ONNX file: {_first_line(error)}") from None
    said = _said(path, lambda: session.get_modelmeta().custom_metadata_map.get(KEY))
    ports = ([one.name for one in some] for some in (session.get_inputs(), session.get_outputs()))
    return Opened(lambda given, outputs: session.run(list(outputs), dict(given)), said, *ports)


def _openvino(path: Path, precision: str) -> Opened:
    openvino = needed("openvino")
    core = openvino.Core()
    # By default bf16 where the processor has it, which moves edges by pixels.
    settings = {"INFERENCE_PRECISION_HINT": HINTS[precision], "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    try:
        graph = core.read_model(str(path))
        compiled = core.compile_model(graph, "CPU", settings)
    except RuntimeError as error:
        raise UserError(f"{path} cannot be read as an OpenVINO file: {_first_line(error)}") from None
    there = graph.has_rt_info([KEY])
    said = _said(path, lambda: graph.get_rt_info([KEY]).astype(str)) if there else None
    own = threading.local()  # a request serves one caller at a time

    def run(given: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Arrays:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        found = own.request.infer(dict(given), share_inputs=True)
        return [found[name] for name in outputs]

    return Opened(run, said, *([one.any_name for one in ports] for ports in (compiled.inputs, compiled.outputs)))


def _torch(path: Path) -> Opened:
    program, notes = read_program(path)

    def run(given: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Arrays:
        return [one.numpy() for one in program(*map(torch.from_numpy, given.values()))]

    return Opened(run, notes.get(KEY), program.inputs, len(program.outputs))


def _said(path: Path, read: Callable[[], str | None]) -> str | None:
    """The text that a file's metadata hold."""
    try:
        return read()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged: what it says of itself is no text ({error}); export it anew") from None


def _check(path: Path, opened: Opened, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Raise ValueError where a file's graph is not the one that its metadata speak of."""
    if isinstance(opened.outputs, int):  # of torch, where the inputs of a second stage have no names of their own
        same = opened.inputs == list(inputs) if inputs == INPUTS else len(opened.inputs) == len(inputs)
        if not same or opened.outputs != len(outputs):
            raise UserError(
                f"{path} is no detector that `detector export` wrote: its graph has other inputs and outputs"
            )
    elif (opened.inputs, opened.outputs) != (list(inputs), list(outputs)):
        raise UserError(
            f"{path} is no detector that `detector export` wrote: it turns {', '.join(opened.inputs)} into "
            f"{', '.join(opened.outputs)}, and not {', '.join(inputs)} into {', '.join(outputs)}"
        )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
