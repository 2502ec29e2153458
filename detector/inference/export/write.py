"""A detector as one file for onnxruntime, OpenVINO or torch: the graph and what has to be known of it."""

import io
import logging
import secrets
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from detector.errors import FileAccessError, UserError
from detector.extras import needed
from detector.files import write_atomic
from detector.inference.export.facts import KEY, Facts, facts_text
from detector.inference.export.program import Tuple, program_bytes
from detector.inference.export.whole import Network, Whole, rule_of
from detector.inference.formats import EXPORTS
from detector.inference.prepare import merge_norms
from detector.models.deform import use_sampling
from detector.models.detector import Detector

log = logging.getLogger("detector")

INPUTS = ("images", "sizes")

PACKAGES = {"onnx": ("onnx", "onnxscript"), "openvino": ("onnx", "onnxscript", "openvino"), "torch": ()}
"""What writing a format takes."""

LARGEST = 2**31 - 2**20  # bytes of an ONNX file: protocol buffers hold no more


def export(model: Detector, facts: Facts, form: str, path: Path, split: bool = False) -> int:
    """Write a detector as `path`; it is for nothing else afterwards, as its norms are merged. Returns bytes written.

    form: a key of EXPORTS; an OpenVINO file has its weights beside it, in FILE.bin. split: whether it ends where the
    network does, before the selection, see `whole.raw`.
    Raises ValueError for a head that cannot be exported, a name that ends otherwise, and without the packages.
    """
    check_form(form, path)
    merge_norms(model.float().cpu())
    use_sampling(model)
    if split:
        facts = msgspec.structs.replace(
            facts, outputs=names_of(model), strides=strides_of(model), selection=rule_of(model.head)
        )
    graph = Network(model) if split else Whole(model)
    if form == "torch":
        program = graph_of(Tuple(graph), _coarsest(model))
        with quiet():
            return save_onnx(path, program_bytes(program, {KEY: facts_text(facts)}))
    onnx = _onnx(graph, model, facts)
    if form == "onnx":
        return save_onnx(path, onnx)
    return _write_openvino(path, onnx, facts)


def check_form(form: str, path: Path) -> None:
    """Raise ValueError for what `export` cannot do with a format and a file, and for packages that it lacks."""
    if form not in EXPORTS:
        raise UserError(f"--format {form}: write {', '.join(EXPORTS)}")
    if path.suffix.lower() != EXPORTS[form]:
        raise UserError(f"--output {path}: a file of --format {form} is called NAME{EXPORTS[form]}")
    if PACKAGES[form]:
        needed(*PACKAGES[form])


def graph_of(module: nn.Module, coarsest: int) -> ExportedProgram:
    """The graph of a function of images [N, 3, H, W] and sizes [N, 2], of any N, H and W.

    coarsest: pixels per cell of the coarsest level. The example has two cells of it and more: a side of one cell would
    be taken for one that is always one.
    """
    height, width = 2 * coarsest, 3 * coarsest
    example = torch.zeros(2, 3, height, width, dtype=torch.uint8), torch.tensor([[height, width], [height, coarsest]])
    free = Dim.DYNAMIC
    with torch.no_grad(), quiet():
        return torch.export.export(module, example, dynamic_shapes=({0: free, 2: free, 3: free}, {0: free}))


@contextmanager
def quiet() -> Iterator[None]:
    """Without what torch's exporter says to its own developers."""
    loud = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [one.level for one in loud]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in loud:
            one.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for one, level in zip(loud, levels, strict=True):
                one.setLevel(level)


@torch.no_grad()
def names_of(model: Detector) -> list[str]:
    """Names of the outputs of a model's `Network`. Raises ValueError for a head that cannot be split."""
    side = 2 * max(level.stride for level in model.neck.levels.values())
    blank = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    return list(Network(model)(blank, torch.tensor([[side, side]]))._fields)


def strides_of(model: Detector) -> list[int]:
    """Pixels per cell of the levels that a head predicts from."""
    return list(model.head.strides.values())  # type: ignore[union-attr, operator]


def _coarsest(model: Detector) -> int:
    return max(level.stride for level in model.neck.levels.values())


def _onnx(graph: nn.Module, model: Detector, facts: Facts) -> bytes:
    """An ONNX file with everything inside."""
    made = onnx_of(graph_of(graph, _coarsest(model)), facts.outputs)
    proto = made.model_proto
    proto.metadata_props.add(key=KEY, value=facts_text(facts))
    if (size := proto.ByteSize()) > LARGEST:
        raise UserError(f"the detector takes {size / 2**30:.1f} GiB, and an ONNX file holds at most 2")
    return proto.SerializeToString()


def onnx_of(program: ExportedProgram, outputs: Sequence[str]) -> torch.onnx.ONNXProgram:
    """The graph in ONNX's operators.

    Not by the exporter of before, dynamo=False, which writes other numbers without a word, even of a plain ResNet-18.
    And not optimised here: that takes x + 1e-10 for x, and so divides by zero where it is there against it
    (findings/torch_onnx_drops_small_terms.sh); the runtimes optimise by themselves.
    """
    with torch.no_grad(), quiet():
        made = torch.onnx.export(
            program, dynamo=True, input_names=INPUTS, output_names=outputs, optimize=False, verbose=False
        )
    if made is None:
        raise RuntimeError("torch.onnx.export gave nothing")
    return made


def save_onnx(path: Path, content: bytes) -> int:
    """One file, whole. Returns bytes written."""
    try:
        write_atomic(path, content)
    except OSError as error:
        raise FileAccessError(f"--output {path} cannot be written: {error.strerror or error}") from None
    return len(content)


def _write_openvino(path: Path, onnx: bytes, facts: Facts) -> int:
    return save_openvino(path, needed("openvino").Core().read_model(model=io.BytesIO(onnx)), facts)


def save_openvino(path: Path, graph: Any, facts: Facts) -> int:  # noqa: ANN401 - its package may be missing
    """FILE.xml and FILE.bin, in float32: OpenVINO would halve the weights unless told. Returns bytes written."""
    openvino = needed("openvino")
    graph.set_rt_info(facts_text(facts), [KEY])
    aside = path.with_name(f".{path.stem[:50]}.{secrets.token_hex(8)}.xml")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        openvino.save_model(graph, str(aside), compress_to_fp16=False)
        weights = aside.with_suffix(".bin")
        written = aside.stat().st_size + weights.stat().st_size
        weights.replace(path.with_suffix(".bin"))  # first: a graph without weights is worse than weights without one
        aside.replace(path)
    except OSError as error:
        raise FileAccessError(f"--output {path} cannot be written: {error.strerror or error}") from None
    finally:
        for left in (aside, aside.with_suffix(".bin")):
            left.unlink(missing_ok=True)
    return written
