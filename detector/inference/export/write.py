"""A detector as one file for onnxruntime, OpenVINO or torch: the graph and what has to be known of it."""

import hashlib
import io
import logging
import secrets
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from detector.errors import FileAccessError, UserError
from detector.extras import needed
from detector.files import write_atomic
from detector.inference.export.facts import KEY, SECOND, Facts, Second, facts_text, second_path
from detector.inference.export.plain import make_plain
from detector.inference.export.program import Tuple, program_bytes
from detector.inference.export.whole import Network, SecondStage, Whole, rule_of, second_stage
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
    network does, before the selection, see `whole.raw`; a head of two stages then has its second one in a second file.
    Raises ValueError for a head that cannot be exported, a name that ends otherwise, and without the packages.
    """
    check_form(form, path)
    if facts.resize.divisibility % model.backbone.pads_to:
        raise UserError(
            f"DATALOADER.SIZE_DIVISIBILITY {facts.resize.divisibility}: the backbone pads pictures to multiples of "
            f"{model.backbone.pads_to}, which an exported graph cannot; export with a multiple of that"
        )
    merge_norms(model.float().cpu())
    use_sampling(model)
    if split:
        facts = split_facts(model, facts)
    network = Network(model) if split else Whole(model)
    stage = second_stage(model.head) if split else None
    if stage is not None:
        second = graph_of_second(stage, network, _coarsest(model))
        for name in stage.layers:  # torch's file would hold them twice, as it holds what no operator reads
            delattr(model.head, name)
    first = graph_of(Tuple(network) if form == "torch" else network, _coarsest(model))
    written = 0
    if facts.second is not None:
        beside = second_path(path)
        written = _write(form, beside, second, facts.second.inputs, facts.second.outputs, SECOND)
        facts = with_second(facts, beside)
    return written + _write(form, path, first, INPUTS, facts.outputs, facts_text(facts))


def split_facts(model: Detector, facts: Facts) -> Facts:
    """The facts of a file that ends where the network does; of a second one they lack the digest."""
    names, rule, second = names_of(model), rule_of(model.head), second_stage(model.head)
    said = None if second is None else Second(second.inputs, second.outputs, "")
    strides = rule.get("strides") or list(model.head.strides.values())  # type: ignore[union-attr, operator]
    return msgspec.structs.replace(facts, outputs=names, strides=strides, selection=rule, second=said)


def with_second(facts: Facts, path: Path) -> Facts:
    """The facts with the digest of the second file, which is written first."""
    if facts.second is None:
        return facts
    return msgspec.structs.replace(facts, second=msgspec.structs.replace(facts.second, digest=file_digest(path)))


def file_digest(path: Path) -> str:
    """The SHA-256 of an exported file, and of its weights where they lie beside it."""
    digest = hashlib.sha256(path.read_bytes())
    if path.suffix.lower() == EXPORTS["openvino"]:
        digest.update(path.with_suffix(".bin").read_bytes())
    return digest.hexdigest()


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


def graph_of_second(stage: SecondStage, network: nn.Module, coarsest: int) -> ExportedProgram:
    """The graph of a second stage, of any number of boxes, images, and sizes of maps."""
    height, width = 2 * coarsest, 3 * coarsest
    sizes = torch.tensor([[height, width], [height, coarsest]])
    with torch.no_grad():
        found = network(torch.zeros(2, 3, height, width, dtype=torch.uint8), sizes)._asdict()
    given = {"boxes": torch.zeros(5, 4), "image": torch.zeros(5, dtype=torch.int64), "sizes": sizes} | found
    example = tuple(given[name] for name in stage.inputs)
    free = Dim.DYNAMIC
    dims = tuple({0: free, 2: free, 3: free} if name in found else {0: free} for name in stage.inputs)
    with torch.no_grad(), quiet():
        return torch.export.export(stage, example, dynamic_shapes=(dims,))


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


def _coarsest(model: Detector) -> int:
    return max(level.stride for level in model.neck.levels.values())


def _write(
    form: str, path: Path, program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str], said: str
) -> int:
    """A graph as a file of a format, with everything inside. Returns bytes written."""
    if form == "torch":
        with quiet():
            return save_onnx(path, program_bytes(program, {KEY: said}))
    proto = onnx_of(program, outputs, inputs).model_proto
    make_plain(proto)
    proto.metadata_props.add(key=KEY, value=said)
    if (size := proto.ByteSize()) > LARGEST:
        raise UserError(f"the detector takes {size / 2**30:.1f} GiB, and an ONNX file holds at most 2")
    content = proto.SerializeToString()
    if form == "onnx":
        return save_onnx(path, content)
    return save_openvino(path, openvino_graph(content), said)


def onnx_of(program: ExportedProgram, outputs: Sequence[str], inputs: Sequence[str] = INPUTS) -> torch.onnx.ONNXProgram:
    """The graph in ONNX's operators.

    Not by the exporter of before, dynamo=False, which writes other numbers without a word, even of a plain ResNet-18.
    And not optimised here: that takes x + 1e-10 for x, and so divides by zero where it is there against it
    (findings/torch_onnx_drops_small_terms.sh); the runtimes optimise by themselves.
    """
    with torch.no_grad(), quiet():
        made = torch.onnx.export(
            program, dynamo=True, input_names=inputs, output_names=outputs, optimize=False, verbose=False
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


def to_openvino(source: Path, path: Path, facts: Facts) -> int:
    """An exported ONNX file, with the second one beside it, as OpenVINO's. Returns bytes written."""
    written = 0
    if facts.second is not None:
        written = save_openvino(second_path(path), openvino_graph(second_path(source).read_bytes()), SECOND)
        facts = with_second(facts, second_path(path))
    return written + save_openvino(path, openvino_graph(source.read_bytes()), facts_text(facts))


def openvino_graph(onnx: bytes) -> Any:  # noqa: ANN401 - its package may be missing
    """The graph of an ONNX file, for OpenVINO.

    RoIAlign of a map that is an input takes OpenVINO 2026.4.1 ten times as long as of one that a convolution made,
    which lies with its channels last (findings/openvino_roi_align_is_slow_on_inputs.sh). So a convolution stands in
    between that leaves every value as it is.
    """
    openvino = needed("openvino")
    graph, ops = openvino.Core().read_model(model=io.BytesIO(onnx)), openvino.opset13
    regions = [one.input(0) for one in graph.get_ordered_ops() if one.get_type_name() == "ROIAlign"]
    for given in graph.get_parameters():
        name = given.get_friendly_name()
        of_it = [one for one in regions if one.get_source_output().get_node().get_friendly_name() == name]
        if of_it:  # in a cascade several
            ones = ops.constant(np.ones((given.get_partial_shape()[1].get_length(), 1, 1, 1, 1), np.float32))
            same = ops.group_convolution(given, ones, [1, 1], [0, 0], [0, 0], [1, 1], name=f"{name}/channels_last")
            for one in of_it:
                one.replace_source_output(same.output(0))
    graph.validate_nodes_and_infer_types()
    return graph


def save_openvino(path: Path, graph: Any, said: str) -> int:  # noqa: ANN401 - its package may be missing
    """FILE.xml and FILE.bin, in float32: OpenVINO would halve the weights unless told. Returns bytes written."""
    openvino = needed("openvino")
    graph.set_rt_info(said, [KEY])
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
