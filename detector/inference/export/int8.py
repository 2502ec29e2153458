"""The network of an exported detector in int8: by onnxruntime's static quantisation, or by NNCF for OpenVINO.

What selects (decoding, exponentials, scores, suppression) stays in float32. Weights are symmetric, a scale for each
output channel; activations have one scale, from the ranges that they take in calibration pictures.
"""

import copy
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detector.extras import needed
from detector.inference.export.facts import KEY, SECOND, Facts, facts_text, second_path
from detector.inference.export.layers import BETWEEN, LAYERS, groups_of, groups_of_layers
from detector.inference.export.write import INPUTS, openvino_graph, save_onnx, save_openvino, with_second

if TYPE_CHECKING:
    from onnx import ModelProto
    from openvino import Model, Node

Inputs = tuple[np.ndarray, ...]
"""What a graph takes, in the order of its inputs: images uint8 [1, 3, H, W] and sizes int64 [1, 2]; of a second stage
maps and boxes."""

FEW = 16
"""Calibration pictures for the trials of one group of layers, where they cannot have the ranges of the file itself."""

OPENVINO_LAYERS = ("Convolution", "ConvolutionBackpropData", "GroupConvolution", "MatMul")
"""What OpenVINO makes of `layers.LAYERS`."""


class Quantiser:
    """An ONNX file's graph, to be written with some groups of layers in int8.

    pictures: to calibrate with; names: of the graph's inputs.
    """

    def __init__(self, source: Path, pictures: Sequence[Inputs], names: Sequence[str] = INPUTS) -> None:
        self.proto: ModelProto = needed("onnx").load(str(source))
        self.pictures, self.names = pictures, list(names)
        self.nodes = groups_of(self.proto)
        self.groups = groups_of_layers(self.proto, self.nodes)
        """Of layers, in the order of the graph."""

    def save(self, path: Path, said: str, left_out: Collection[str] = (), only: str = "") -> int:
        """Write the file; returns its bytes.

        said: its metadata; left_out: groups in float32; only: the one group that is not, a trial. A group of another
        graph may be among them.
        """
        raise NotImplementedError

    def chosen(self, left_out: Collection[str], only: str) -> list[str]:
        """Names of the nodes in int8."""
        return [name for name, group in self.nodes.items() if (group == only if only else group not in left_out)]


class OnnxQuantiser(Quantiser):
    """For onnxruntime: uint8 activations and int8 weights, for which its kernels on x86 are made."""

    def __init__(self, source: Path, pictures: Sequence[Inputs], names: Sequence[str] = INPUTS) -> None:
        super().__init__(source, pictures, names)
        self.ranges = ranges_of(self.proto, self.nodes, pictures, names)

    def save(self, path: Path, said: str, left_out: Collection[str] = (), only: str = "") -> int:
        """See `Quantiser`."""
        needed("onnxruntime")
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        data = {name: TensorData(lowest=low, highest=high) for name, (low, high) in self.ranges.items()}
        made, chosen = copy.deepcopy(self.proto), self.chosen(left_out, only)
        if chosen:  # it would take none for all
            with silent():
                quantiser = QDQQuantizer(
                    made, per_channel=True, reduce_range=False, weight_qType=QuantType.QInt8,
                    activation_qType=QuantType.QUInt8, tensors_range=TensorsData(CalibrationMethod.MinMax, data),
                    nodes_to_quantize=chosen, nodes_to_exclude=[],
                    op_types_to_quantize=[*LAYERS, *BETWEEN], extra_options={},
                )  # fmt: skip
                quantiser.quantize_model()
            made = quantiser.model.model
        for entry in list(made.metadata_props):
            if entry.key == KEY:
                made.metadata_props.remove(entry)
        made.metadata_props.add(key=KEY, value=said)
        return save_onnx(path, made.SerializeToString())


def ranges_of(
    proto: "ModelProto", nodes: Collection[str], pictures: Sequence[Inputs], names: Sequence[str] = INPUTS
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The lowest and highest value, 0 included, that each tensor around the nodes takes, each the mean over pictures.

    The extremes of all pictures would be wider and the steps in between coarser, for a few values. They are found in
    the graph: the tensors themselves, all at once, can take gigabytes.
    """
    onnx, onnxruntime = needed("onnx"), needed("onnxruntime")
    helper, graph = onnx.helper, copy.deepcopy(proto)
    fixed = {one.name for one in graph.graph.initializer}
    floats = {
        one.name
        for one in (*graph.graph.value_info, *graph.graph.input, *graph.graph.output)
        if one.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    around = [name for node in graph.graph.node if node.name in nodes for name in (*node.input, *node.output)]
    wanted = [name for name in dict.fromkeys(around) if name in floats and name not in fixed]
    graph.graph.initializer.extend(
        [
            helper.make_tensor("range:row", onnx.TensorProto.INT64, [1], [-1]),
            helper.make_tensor("range:zero", onnx.TensorProto.FLOAT, [1], [0.0]),
        ]
    )
    outputs = []
    for i, name in enumerate(wanted):  # 0 with them: none may be there, as where no region is proposed
        graph.graph.node.extend(
            [
                helper.make_node("Reshape", [name, "range:row"], [f"range:{i}:row"]),
                helper.make_node("Concat", [f"range:{i}:row", "range:zero"], [f"range:{i}:all"], axis=0),
                helper.make_node("ReduceMin", [f"range:{i}:all"], [f"range:{i}:low"], keepdims=0),
                helper.make_node("ReduceMax", [f"range:{i}:all"], [f"range:{i}:high"], keepdims=0),
            ]
        )
        outputs += [f"range:{i}:low", f"range:{i}:high"]
    del graph.graph.output[:]
    graph.graph.output.extend([helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, []) for name in outputs])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = np.array([session.run(outputs, dict(zip(names, one, strict=True))) for one in pictures], np.float32)
    low, high = found[:, 0::2].mean(0), found[:, 1::2].mean(0)
    return {name: (low[i], high[i]) for i, name in enumerate(wanted)}


class OpenVinoQuantiser(Quantiser):
    """For OpenVINO: NNCF's post-training quantisation with fast bias correction."""

    def __init__(self, source: Path, pictures: Sequence[Inputs], names: Sequence[str] = INPUTS) -> None:
        super().__init__(source, pictures, names)
        self.everywhere: Model | None = None
        """The graph that the trials of one group are made of; calibrated when the first one is asked for."""
        self.latest: tuple[list[str], Model] | None = None
        """Nodes in int8 and the graph, which is often asked for again: calibrating takes longest."""

    def save(self, path: Path, said: str, left_out: Collection[str] = (), only: str = "") -> int:
        """See `Quantiser`."""
        if not (names := self.chosen(left_out, only)):
            return save_openvino(path, self._float32(), said)
        if not only:
            if self.latest is None or self.latest[0] != names:
                self.latest = names, self._quantised(names, self.pictures)
            return save_openvino(path, self.latest[1], said)
        if self.everywhere is None:
            # Without correction of biases, which would stay in the layers that are not on trial.
            self.everywhere = self._quantised(list(self.nodes), self.pictures[:FEW], trial=True)
        made = self.everywhere.clone()
        round_only(made, set(names))
        return save_openvino(path, made, said)

    def _quantised(self, names: Collection[str], pictures: Sequence[Inputs], trial: bool = False) -> "Model":
        """The graph with the nodes in int8; of a trial its weights stay float32 behind operators that round them."""
        with silent():
            nncf = needed("nncf")
        graph, kept = self._float32(), set(names)
        ignored = [one.get_friendly_name() for one in graph.get_ordered_ops() if node_of(one) not in kept]
        advanced = nncf.AdvancedQuantizationParameters(
            disable_bias_correction=trial, backend_params={"compress_weights": not trial}
        )
        data = nncf.Dataset(pictures, lambda one: dict(zip(self.names, one, strict=True)))
        with silent():
            return nncf.quantize(
                graph, data, subset_size=len(pictures), advanced_parameters=advanced,
                ignored_scope=nncf.IgnoredScope(names=ignored, validate=False),
            )  # fmt: skip

    def _float32(self) -> "Model":
        return openvino_graph(with_biases(self.proto, self.nodes).SerializeToString())


def with_biases(proto: "ModelProto", nodes: Collection[str]) -> "ModelProto":
    """The graph with a bias of 1e-30 where a convolution among the nodes has none, or nothing but zeros.

    Of a graph of any height and width OpenVINO 2026.4.1 gives zeros to what reads such a convolution in int8, if its
    result is used in float32 as well: the first stage of Faster R-CNN would see nothing of a neck without biases
    (findings/openvino_int8_without_bias_reads_zeros.sh).
    """
    onnx = needed("onnx")
    made = copy.deepcopy(proto)
    fixed = {one.name: one for one in made.graph.initializer}
    for node in made.graph.node:
        if node.name not in nodes or node.op_type != "Conv":
            continue
        bias = node.input[2] if len(node.input) > 2 else ""
        if bias and (bias not in fixed or onnx.numpy_helper.to_array(fixed[bias]).any()):
            continue
        values = np.full(fixed[node.input[1]].dims[0], 1e-30, np.float32)
        name = f"{node.name}:bias"
        made.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        node.input[:] = [*node.input[:2], name]
    return made


def node_of(operator: "Node") -> str:
    """The node of ONNX that an operator of OpenVINO is of: one node becomes several, called NAME and NAME/WHAT."""
    return str(operator.get_friendly_name()).split("/")[0]


def round_only(graph: "Model", nodes: Collection[str]) -> None:
    """Take those FakeQuantize out of an OpenVINO model, in its place, that stand before none of the nodes."""
    operators = graph.get_ordered_ops()
    rounding = [one for one in operators if one.get_type_name() == "FakeQuantize"]
    kept = set()
    for one in operators:
        if node_of(one) not in nodes or one in rounding:
            continue
        before = [one]
        while before:  # up to what rounds or computes: pooling and the like have none of their own
            for value in before.pop().input_values():
                source = value.get_node()
                if source.get_type_name() == "FakeQuantize":
                    kept.add(source.get_friendly_name())
                elif source.get_type_name() not in OPENVINO_LAYERS:
                    before.append(source)
    for one in rounding:
        if one.get_friendly_name() not in kept:
            for target in one.output(0).get_target_inputs():
                target.replace_source_output(one.input_value(0))


QUANTISERS: dict[str, type[Quantiser]] = {"onnx": OnnxQuantiser, "openvino": OpenVinoQuantiser}
"""By the formats of `formats.EXPORTS` that can be quantised."""


class FileQuantiser:
    """An exported ONNX file, to be written in a format with some groups of layers in int8: of both its graphs, if two.

    facts: of the file; pictures: to calibrate with; second_inputs: what the second graph is given of one in float32.
    groups: of layers, in the order of the graphs.
    """

    def __init__(
        self,
        form: str,
        source: Path,
        facts: Facts,
        pictures: Sequence[Inputs],
        second_inputs: Callable[[np.ndarray, np.ndarray], Inputs],
    ) -> None:
        self.parts = [QUANTISERS[form](source, pictures)]
        if facts.second is not None:
            given = SecondInputs(second_inputs, pictures)
            self.parts.append(QUANTISERS[form](second_path(source), given, facts.second.inputs))
        self.groups = [group for part in self.parts for group in part.groups]

    def save(self, path: Path, facts: Facts, left_out: Collection[str] = (), only: str = "") -> int:
        """As `Quantiser.save`; facts: what the file says of itself."""
        written = 0
        for second in self.parts[1:]:
            written += second.save(second_path(path), SECOND, left_out, only)
            facts = with_second(facts, second_path(path))
        return written + self.parts[0].save(path, facts_text(facts), left_out, only)


class SecondInputs(Sequence[Inputs]):
    """What the second graph of a file sees of pictures: made anew each time, as the maps of all take gigabytes."""

    def __init__(self, of_one: Callable[[np.ndarray, np.ndarray], Inputs], pictures: Sequence[Inputs]) -> None:
        self.of_one, self.pictures = of_one, pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, place: Any) -> Any:  # noqa: ANN401 - of an index or a slice
        if isinstance(place, slice):
            return SecondInputs(self.of_one, self.pictures[place])
        images, sizes = self.pictures[place]
        return self.of_one(images, sizes)


@contextmanager
def silent() -> Iterator[None]:
    """Without what the quantisers say to their own developers."""
    loud = [logging.getLogger(name) for name in ("", "nncf", "torch.utils.cpp_extension")]
    levels = [one.level for one in loud]
    for one in loud:
        one.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for one, level in zip(loud, levels, strict=True):
            one.setLevel(level)
