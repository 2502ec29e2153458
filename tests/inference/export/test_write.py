"""Files for other runtimes find what the detector finds."""

import io
import math

import msgspec
import pytest
import torch
from helpers.exporting import CASCADE, assert_same, pictures, small
from torch import nn

from detector.errors import MissingFileError, UserError
from detector.inference.export import Network, Whole
from detector.inference.export.facts import Resizing, Second, facts_text, read_facts, second_path
from detector.inference.export.fcos import best_pairs
from detector.inference.export.write import PACKAGES, check_form, export, graph_of, onnx_of, openvino_graph
from detector.inference.formats import EXPORTS, exported_form
from detector.inference.runtimes import load_exported
from detector.models.detector import Detector
from detector.ops.flat import Flat, padded, suppress_flat
from detector.tasks.export import facts_of

CASES = ((1, 128, 192), (3, 160, 129), (2, 97, 256))


def skip_without(form):
    """Skip where a package is missing that writes or runs a format."""
    for name in (*PACKAGES[form], {"onnx": "onnxruntime"}.get(form, form)):
        pytest.importorskip(name)


def facts(cfg):
    return facts_of(cfg, ["a", "b", "é"], [3, 7, 9], "0" * 64, "model.pth", 12)


def assert_finds_the_same(path, model):
    """Whether a file finds what the model of before found, alone and among others, in several sizes."""
    other = load_exported(path)
    for case in CASES:
        images, sizes = pictures(*case)
        with torch.no_grad():
            want = model(images, sizes)
        assert sum(len(one["scores"]) for one in want) > 20
        found = other(images, sizes)
        for one, mine in zip(want, found, strict=True):
            number = torch.tensor([len(mine["scores"])])
            assert_same([*(mine[key][None] for key in ("boxes", "scores", "labels")), number], [one])
        alone = other(images[:1], sizes[:1])[0]
        torch.testing.assert_close(alone["scores"], found[0]["scores"], rtol=0, atol=1e-4)
    return other


class Selection(nn.Module):
    """What selects of logits and boxes, without a network."""

    def forward(self, images, sizes):
        logits = images[..., :8, :8].float().flatten(2).transpose(1, 2) / 32 - 6
        scores, place, label = best_pairs(logits, logits[..., 0], 0.05, 30, joint=False)
        image, slot = (scores > 0).nonzero(as_tuple=True)
        corner = torch.stack([place % 8, place // 8], dim=-1)[image, slot].float()
        found = Flat(torch.cat([corner, corner + 3], dim=1), scores[image, slot], label[image, slot], image)
        return padded(suppress_flat(found, sizes.shape[0], 3, 0.5, 10), sizes.shape[0], 10)


def test_the_selection_in_onnxruntime_is_that_in_torch():
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name)
    onnxruntime = pytest.importorskip("onnxruntime")
    selection = Selection()
    made = onnx_of(graph_of(selection, 32), ["boxes", "scores", "labels", "counts"])
    session = onnxruntime.InferenceSession(made.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for number in (1, 3):
        images, sizes = pictures(number, 40, 70)
        want = selection(images, torch.tensor(sizes))
        got = session.run(None, {"images": images.numpy(), "sizes": torch.tensor(sizes).numpy()})
        assert want.counts.sum() > 3 * number
        torch.testing.assert_close(torch.from_numpy(got[1]), want.scores)
        assert torch.equal(torch.from_numpy(got[3]), want.counts)
    nothing = torch.zeros_like(images)
    got = session.run(None, {"images": nothing.numpy(), "sizes": torch.tensor(sizes).numpy()})
    assert got[3].tolist() == [0, 0, 0]


class Lengths(nn.Module):
    """What `L2Norm` does, where images are 0."""

    def forward(self, images, sizes):
        x = images.float()
        return x / (x.square().sum(1, keepdim=True) + 1e-10).sqrt() + sizes[:, :1, None, None]


def test_small_terms_are_kept():
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name)
    onnxruntime = pytest.importorskip("onnxruntime")
    proto = onnx_of(graph_of(Lengths(), 2), ["lengths"]).model_proto
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    images = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    images[..., 0] = 7
    (got,) = session.run(None, {"images": images.numpy(), "sizes": torch.ones(1, 2, dtype=torch.int64).numpy()})
    assert got[..., 1:].max() == got[..., 1:].min() == 1
    assert got[..., 0].max() > 1.5


KINDS = {
    "fcos": ("fcos", []),
    "refinedet": ("refinedet", []),
    "faster_rcnn": ("faster_rcnn", []),
    "cascade": ("faster_rcnn", CASCADE),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", EXPORTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_finds_what_the_detector_finds(kind, form, tmp_path):
    skip_without(form)
    head, opts = KINDS[kind]
    model, cfg = small(head, *opts)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    path = tmp_path / f"a{EXPORTS[form]}"
    written = export(model, facts(cfg), form, path)
    assert written == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == (2 if form == "openvino" else 1)
    original, _ = small(head, *opts)
    original.load_state_dict(state)
    other = assert_finds_the_same(path, original)
    assert other.facts == facts(cfg)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "form"),
    [
        *(("fcos", "onnx"), ("refinedet", "onnx"), ("refinedet", "openvino"), ("fcos", "torch")),
        *((kind, form) for kind in ("faster_rcnn", "cascade") for form in EXPORTS),
        ("soft", "onnx"),
    ],
)
def test_a_split_file_finds_what_the_detector_finds(kind, form, tmp_path):
    skip_without(form)
    soft = "faster_rcnn", [*CASCADE, "MODEL.ROI_HEADS.NMS_METHOD", "soft_linear"]
    head, opts = {**KINDS, "soft": soft}[kind]
    model, cfg = small(head, *opts)
    original, _ = small(head, *opts)
    original.load_state_dict(model.state_dict())
    path = tmp_path / f"a{EXPORTS[form]}"
    written = export(model, facts(cfg), form, path, split=True)
    assert written == sum(file.stat().st_size for file in tmp_path.iterdir())
    two = head == "faster_rcnn"
    assert len(list(tmp_path.iterdir())) == (1 + two) * (2 if form == "openvino" else 1)
    other = assert_finds_the_same(path, original)
    assert other.facts.split
    assert other.facts.strides == list((original.head.rpn if two else original.head).strides.values())
    if two:
        assert b"box_heads" not in path.read_bytes()  # weights that lie in the second file
        with pytest.raises(
            UserError, match=rf"a\.roi_heads\{EXPORTS[form]} is the second of two files: name the first, a"
        ):
            load_exported(second_path(path))


def test_for_openvino_regions_are_cut_from_what_a_convolution_gives():
    """From an input they would take ten times as long; the values stay."""
    onnx, openvino = pytest.importorskip("onnx"), pytest.importorskip("openvino")
    helper, regions = onnx.helper, {"of_map": "map", "again": "map", "of_x": "x"}
    nodes = [
        helper.make_node("Relu", ["map"], ["x"]),
        *(helper.make_node("RoiAlign", [name, "boxes", "image"], [found]) for found, name in regions.items()),
    ]
    kinds = {"map": (1, ["N", 5, "H", "W"]), "boxes": (1, ["R", 4]), "image": (7, ["R"])}
    inputs = [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()]
    outputs = [helper.make_tensor_value_info(name, 1, None) for name in regions]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    ).SerializeToString()
    graph = openvino_graph(proto)
    operators = {one.get_friendly_name(): one for one in graph.get_ordered_ops()}
    before = {name: operators[name].input_value(0).get_node().get_friendly_name() for name in regions}
    assert before == {"of_map": "map/channels_last", "again": "map/channels_last", "of_x": "x"}
    assert operators["map/channels_last"].get_type_name() == "GroupConvolution"
    assert len({one.get_friendly_name() for one in graph.get_ordered_ops()}) == len(graph.get_ordered_ops())
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(2, 5, 9, 11, generator=generator).numpy(), torch.tensor([[1.0, 2, 6, 7]]).numpy(), [1]]
    plain = openvino.Core().read_model(io.BytesIO(proto))
    found, want = (
        openvino.Core().compile_model(one, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}) for one in (graph, plain)
    )
    for one, other in zip(found(given).values(), want(given).values(), strict=True):
        torch.testing.assert_close(torch.from_numpy(one), torch.from_numpy(other), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("form", EXPORTS)
def test_a_second_stage_of_nothing(form, tmp_path):
    """Where nothing is proposed; and the second files of two exports are not mixed."""
    skip_without(form)
    model, cfg = small("faster_rcnn", "MODEL.RPN.MIN_SIZE", "1e6")
    path, later = (tmp_path / f"{name}{EXPORTS[form]}" for name in "ab")
    export(model, facts(cfg), form, path, split=True)
    images, sizes = pictures(2, 128, 160)
    assert [len(one["scores"]) for one in load_exported(path)(images, sizes)] == [0, 0]
    export(small("faster_rcnn")[0], facts(cfg), form, later, split=True)
    for ending in [EXPORTS[form], *[".bin"] * (form == "openvino")]:
        second_path(later).with_suffix(ending).replace(second_path(path).with_suffix(ending))
    with pytest.raises(UserError, match=r"a\.roi_heads\.\w+ does not belong to a\.\w+: it is of another export"):
        load_exported(path)


@pytest.mark.slow
@pytest.mark.parametrize("form", EXPORTS)
def test_repeated_stages_keep_one_copy_of_their_weights(form, tmp_path):
    skip_without(form)
    sizes = []
    for backbone in ("resnet50", "sreresnet50"):
        model, cfg = small("fcos", backbone=backbone)
        path = tmp_path / f"{backbone}{EXPORTS[form]}"
        sizes.append(export(model, facts(cfg), form, path))
        assert sizes[-1] == sum(file.stat().st_size for file in tmp_path.glob(f"{backbone}.*"))
    assert sizes[0] > 90e6
    assert sizes[1] < 1.03 * sizes[0]


@pytest.mark.slow
@pytest.mark.parametrize("split", [False, True])
def test_torch_itself_runs_a_file(split, tmp_path):
    """As a process without this package would, by `torch.export.load` and torchvision."""
    model, cfg = small("refinedet")
    export(model, facts(cfg), "torch", tmp_path / "a.pt2", split=split)
    images, sizes = pictures(2, 320, 256)
    extra = {"detector": ""}
    program = torch.export.load(tmp_path / "a.pt2", extra_files=extra)
    assert read_facts(extra["detector"], "a.pt2").names == ["a", "b", "é"]
    with torch.no_grad():
        got = program.module()(images, torch.tensor(sizes))
        want = (Network if split else Whole)(model)(images, torch.tensor(sizes))
    assert all(torch.equal(one, other) for one, other in zip(got, want, strict=True))


def test_mistakes_are_named(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"a\.pt: a file of --format onnx is called NAME\.onnx"):
        check_form("onnx", tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"--format int8: write onnx, openvino, torch$"):
        check_form("int8", tmp_path / "a.onnx")
    with pytest.raises(MissingFileError, match=r"b\.onnx: there is no such file"):
        load_exported(tmp_path / "b.onnx")
    (tmp_path / "c.xml").write_text("<net/>")
    with pytest.raises(MissingFileError, match=r"its weights, c\.bin, are not beside it"):
        load_exported(tmp_path / "c.xml")
    with pytest.raises(UserError, match=r"exported detectors are called NAME\.onnx, NAME\.xml, NAME\.pt2"):
        load_exported(tmp_path / "d.pth")
    with pytest.raises(UserError, match=r"a\.onnx: a file of --format torch is called NAME\.pt2"):
        check_form("torch", tmp_path / "a.onnx")
    assert exported_form("A.ONNX") == "onnx"
    assert exported_form("a.pt2") == "torch"
    assert exported_form("a.pth") == ""


def test_sides_that_a_backbone_pads_by_itself_are_named(tmp_path):
    """A graph would have the padding of the example, whatever the size."""
    model, cfg = small("fcos", "DATALOADER.SIZE_DIVISIBILITY", "1", backbone="res2net_dla60")
    message = "SIZE_DIVISIBILITY 1: the backbone pads pictures to multiples of 32, .*; export with a multiple of that"
    with pytest.raises(UserError, match=message):
        export(model, facts(cfg), "torch", tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "package"), [("a.onnx", "onnxruntime"), ("a.xml", "openvino"), ("a.pt2", "torch")])
def test_a_damaged_file_is_named(name, package, tmp_path):
    pytest.importorskip(package)
    (tmp_path / name).write_bytes(b"no graph at all")
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(UserError, match=f"{name} cannot be read as a"):
        load_exported(tmp_path / name)


@pytest.mark.parametrize("text", [None, "", "{", "{}", '{"version": 1}', "[1]"])
def test_a_file_that_says_nothing_of_itself_is_named(text):
    with pytest.raises(UserError, match=r"^x\.onnx"):
        read_facts(text, "x.onnx")


def test_the_facts_are_those_of_the_config():
    _, cfg = small("refinedet", "INPUT.SQUARE_SIZE", "320", "MODEL.REFINEDET.SCORE_THRESH", "0.02")
    said = facts(cfg)
    assert (said.resize.square, said.resize.divisibility, said.scores) == (320, 64, 0.02)
    assert (said.names, said.category_ids, said.thresholds) == (["a", "b", "é"], [3, 7, 9], None)
    assert math.isclose(sum(said.std), sum(facts(small("fcos")[1]).std))
    assert isinstance(small("fcos")[0], Detector)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"category_ids": [3, 7]}, "it has 3 names and 2 category_ids"),
        ({"names": [], "category_ids": []}, "it has no classes"),
        ({"names": ["a", "b", "a"], "category_ids": [3, 7, 3]}, "two of its names are the same"),
        ({"thresholds": [0.5, 0.5]}, "it has 3 names and 2 thresholds"),
        ({"thresholds": [0.5, 0.5, 1.5]}, r"its thresholds are not in 0\.\.1"),
        ({"resize": Resizing(0, 64, 96, 0)}, "divisibility 0 is less than 1"),
        ({"resize": Resizing(0, 0, 96, 32)}, "its pictures have sides of 0 pixels"),
        ({"resize": Resizing(-5, 64, 96, 32)}, "its pictures have sides of -5 pixels"),
        ({"strides": [8]}, "its outputs are boxes, scores, labels, counts, and it has strides"),
        ({"outputs": ["logits"]}, "its outputs are logits, and it has no strides"),
        ({"outputs": ["logits"], "strides": [8, 0]}, "its strides are less than 1"),
        ({"selection": {"kind": "fcos"}}, "it has a selection, and outputs that need none"),
        ({"second": Second([], [], "")}, "it has a second file, and its selection needs none"),
        (
            {"outputs": ["logits"], "strides": [8], "selection": {"kind": "faster_rcnn"}},
            "it has no second file, and its selection needs one",
        ),
        ({"config": "MODEL: ["}, "not valid YAML"),
        ({"config": "5"}, "expected KEY: VALUE lines"),
    ],
)
def test_facts_that_cannot_be_are_named(changes, message):
    said = facts(small("fcos")[1])
    assert read_facts(facts_text(said), "x.onnx") == said
    with pytest.raises(UserError, match=rf"^x\.onnx.*{message}"):
        read_facts(facts_text(msgspec.structs.replace(said, **changes)), "x.onnx")


def test_outputs_without_a_class_and_ids_that_tell_names_apart_are_no_fault():
    said = facts(small("fcos")[1])
    for names, ids in ((["N/A", "N/A", "b"], [0, 0, 1]), (["a", "a", "b"], [3, 7, 9])):
        assert read_facts(facts_text(msgspec.structs.replace(said, names=names, category_ids=ids)), "x").names == names


def test_a_folder_is_no_exported_file(tmp_path):
    (tmp_path / "run.onnx").mkdir()
    assert exported_form(tmp_path / "run.onnx") == ""
    assert exported_form(tmp_path / "other.onnx") == "onnx"
