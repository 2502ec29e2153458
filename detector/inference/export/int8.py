"""The network of an exported detector in int8: by onnxruntime's static quantisation, or by NNCF for OpenVINO.

What selects (decoding, exponentials, scores, suppression) stays in float32. Weights are symmetric, a scale for each
output channel; activations have one scale, from the ranges that they take in calibration pictures.
"""

import copy
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detector.inference.export.facts import KEY, Facts, facts_text
from detector.inference.export.layers import BETWEEN, LAYERS, groups_of, groups_of_layers
from detector.inference.export.write import INPUTS, needed, save_onnx, save_openvino

if TYPE_CHECKING:
    from onnx import ModelProto

Inputs = tuple[np.ndarray, np.ndarray]
"""images uint8 [1, 3, H, W] and sizes int64 [1, 2], as a graph takes them."""

FEW = 16
"""Calibration pictures for a trial of one group of layers, where a calibration is made anew for each."""


class Quantiser:
    """An ONNX file's graph, to be written with some groups of layers in int8. pictures: to calibrate with."""

    def __init__(self, source: Path, pictures: Sequence[Inputs]) -> None:
        self.proto: ModelProto = needed("onnx").load(str(source))
        self.pictures = pictures
        self.nodes = groups_of(self.proto)
        self.groups = groups_of_layers(self.proto, self.nodes)
        """Of layers, in the order of the graph."""

    def save(self, path: Path, facts: Facts, left_out: Collection[str] = (), only: str = "") -> int:
        """Write the file; returns its bytes. left_out: groups in float32; only: the one group that is not, a trial."""
        raise NotImplementedError

    def chosen(self, left_out: Collection[str], only: str) -> list[str]:
        """Names of the nodes in int8."""
        return [name for name, group in self.nodes.items() if (group == only if only else group not in left_out)]


class OnnxQuantiser(Quantiser):
    """For onnxruntime: uint8 activations and int8 weights, for which its kernels on x86 are made."""

    def __init__(self, source: Path, pictures: Sequence[Inputs]) -> None:
        super().__init__(source, pictures)
        self.ranges = ranges_of(self.proto, self.nodes, pictures)

    def save(self, path: Path, facts: Facts, left_out: Collection[str] = (), only: str = "") -> int:
        """See `Quantiser`."""
        needed("onnxruntime")
        from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorData, TensorsData

        data = {name: TensorData(lowest=low, highest=high) for name, (low, high) in self.ranges.items()}
        with silent():
            quantiser = QDQQuantizer(
                copy.deepcopy(self.proto), per_channel=True, reduce_range=False, weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QUInt8, tensors_range=TensorsData(CalibrationMethod.MinMax, data),
                nodes_to_quantize=self.chosen(left_out, only), nodes_to_exclude=[],
                op_types_to_quantize=[*LAYERS, *BETWEEN], extra_options={},
            )  # fmt: skip
            quantiser.quantize_model()
        made = quantiser.model.model
        for entry in list(made.metadata_props):
            if entry.key == KEY:
                made.metadata_props.remove(entry)
        made.metadata_props.add(key=KEY, value=facts_text(facts))
        return save_onnx(path, made.SerializeToString())


def ranges_of(
    proto: "ModelProto", nodes: Collection[str], pictures: Sequence[Inputs]
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
    found = np.array([session.run(outputs, dict(zip(INPUTS, one, strict=True))) for one in pictures], np.float32)
    low, high = found[:, 0::2].mean(0), found[:, 1::2].mean(0)
    return {name: (low[i], high[i]) for i, name in enumerate(wanted)}


class OpenVinoQuantiser(Quantiser):
    """For OpenVINO: NNCF's post-training quantisation with fast bias correction."""

    def __init__(self, source: Path, pictures: Sequence[Inputs]) -> None:
        super().__init__(source, pictures)
        self.source = source

    def save(self, path: Path, facts: Facts, left_out: Collection[str] = (), only: str = "") -> int:
        """See `Quantiser`."""
        with silent():
            nncf = needed("nncf", "int8")
        graph = needed("openvino").Core().read_model(str(self.source))
        kept = set(self.chosen(left_out, only))
        # An operator of ONNX becomes several ones called NAME and NAME/WHAT.
        names = [one.get_friendly_name() for one in graph.get_ordered_ops()]
        ignored = [name for name in names if name.split("/")[0] not in kept]
        pictures = [dict(zip(INPUTS, one, strict=True)) for one in self.pictures[: FEW if only else None]]
        with silent():
            made: Any = nncf.quantize(
                graph, nncf.Dataset(pictures), subset_size=len(pictures),
                ignored_scope=nncf.IgnoredScope(names=ignored, validate=False),
            )  # fmt: skip
        return save_openvino(path, made, facts)


QUANTISERS: dict[str, type[Quantiser]] = {"onnx": OnnxQuantiser, "openvino": OpenVinoQuantiser}
"""By the formats of `formats.EXPORTS` that can be quantised."""


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
