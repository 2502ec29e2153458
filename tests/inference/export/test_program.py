"""Files of torch.export are read without torch.export, and nothing in them runs."""

import json
import pickle
import zipfile
from contextlib import suppress

import pytest
import torch
from helpers import ROOT
from helpers.exporting import pictures
from torch import nn

from detector.errors import UserError
from detector.inference.export.program import Tuple, program_bytes, read_program
from detector.inference.export.write import graph_of, quiet
from detector.ops.flat import Flat, padded, suppress_flat


class Small(nn.Module):
    """A convolution twice, and a selection of what it gives."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 100.0), persistent=False)

    def forward(self, images, sizes):
        x = self.conv(self.conv((images - self.mean) / 60).relu_())
        scores = x[..., :8, :8].flatten(1).sigmoid()
        image, slot = (scores > 0.5).nonzero(as_tuple=True)
        label, place = slot // 64, slot % 64
        corner = torch.stack([place % 8, place // 8], dim=-1).float()
        found = Flat(torch.cat([corner, corner + 3], dim=1), scores[image, slot], label, image)
        return padded(suppress_flat(found, sizes.shape[0], 3, 0.5, 10), sizes.shape[0], 10)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small graph and its file."""
    torch.manual_seed(0)
    small = Small()
    path = tmp_path_factory.mktemp("program") / "a.pt2"
    with quiet():
        path.write_bytes(program_bytes(graph_of(Tuple(small), 32), {"detector": "é"}))
    return small, path


@pytest.fixture
def changed(made, tmp_path):
    """changed(NAME, edit): the file with another content of one of its files; edit: bytes -> bytes."""

    def change(name, edit, compress=zipfile.ZIP_STORED):
        path = tmp_path / "b.pt2"
        with zipfile.ZipFile(made[1]) as old, zipfile.ZipFile(path, "w") as new:
            for entry in old.namelist():
                mine = entry.partition("/")[2] == name
                content = old.read(entry)
                new.writestr(entry, edit(content) if mine else content, compress if mine else zipfile.ZIP_STORED)
        return path

    return change


@pytest.mark.parametrize(("number", "height", "width"), [(1, 64, 96), (3, 70, 65), (2, 20, 130)])
def test_it_computes_the_same(number, height, width, made):
    small, path = made
    program, notes = read_program(path)
    assert notes == {"detector": "é"}
    images, sizes = pictures(number, height, width)
    with torch.no_grad():
        wanted = small(images, torch.tensor(sizes))
    assert wanted.counts.min() > 1
    got = program(images, torch.tensor(sizes))
    for _ in range(2):
        assert all(torch.equal(one, want) for one, want in zip(got, wanted, strict=True))
        got = program(images, torch.tensor(sizes))
    assert not got[0].requires_grad


def test_torch_itself_reads_it(made):
    small, path = made
    images, sizes = pictures(2, 70, 130)
    with torch.no_grad():
        got = torch.export.load(path).module()(images, torch.tensor(sizes))
        assert all(torch.equal(one, want) for one, want in zip(got, small(images, torch.tensor(sizes)), strict=True))


def test_it_says_nothing_of_this_machine(made):
    assert str(ROOT).encode() not in made[1].read_bytes()


class Trap:
    """What makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_in_a_file_runs(changed, tmp_path):
    mark = tmp_path / "mark"
    bomb = pickle.dumps(Trap(mark), 2)
    read_program(changed("data/sample_inputs/model.pt", lambda _: bomb))
    assert not mark.exists()
    with suppress(Exception):
        torch.export.load(tmp_path / "b.pt2")
    assert mark.exists()  # so the trap is one
    mark.unlink()

    def evaluated(content):
        program = json.loads(content)
        values = program["graph_module"]["graph"]["sym_int_values"]
        assert values
        for value in values.values():
            value["as_expr"]["expr_str"] = f"__import__('pathlib').Path({str(mark)!r}).touch()"
        program["guards_code"] = [f"open({str(mark)!r}, 'w')"]
        return json.dumps(program).encode()

    read_program(changed("models/model.json", evaluated))
    assert not mark.exists()
    with suppress(Exception):
        torch.export.load(tmp_path / "b.pt2")
    assert mark.exists()


def graph(edit):
    """An edit of the graph's nodes."""

    def change(content):
        program = json.loads(content)
        edit(program)
        return json.dumps(program).encode()

    return change


def call(target, *args, outputs=({"as_tensor": {"name": "new"}},)):
    """A further call at the end of the graph."""
    inputs = [{"name": f"a{i}", "arg": arg, "kind": 1} for i, arg in enumerate(args)]
    node = {"target": target, "inputs": inputs, "outputs": list(outputs), "metadata": {}}
    return graph(lambda program: program["graph_module"]["graph"]["nodes"].append(node))


IMAGES = {"as_tensor": {"name": "images"}}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (call("torch.ops.aten.from_file.default", {"as_string": "none"}), "it calls torch.ops.aten.from_file.default"),
        (call("torch.ops.aten.relu.default", {"as_string": "/etc/passwd"}), "it tells an operator '/etc/passwd'"),
        (call("torch.os.system", {"as_string": "none"}), "it calls torch.os.system"),
        (call("torch.hub.load", {"as_string": "none"}), "it calls torch.hub.load"),
        (call("_operator.attrgetter", {"as_string": "none"}), "it calls _operator.attrgetter"),
        (call("builtins.exec", {"as_string": "none"}), "it calls builtins.exec"),
        (call("torch.ops.load_library", {"as_string": "none"}), "it calls torch.ops.load_library"),
        (call("torch.ops.aten.__class__.mro", IMAGES), "it calls torch.ops.aten.__class__.mro"),
        (call("torch.ops.aten.relu.nothing", IMAGES), "it calls torch.ops.aten.relu.nothing"),
        (call("torch.ops.aten.relu._op", IMAGES), "it calls torch.ops.aten.relu._op"),
        (call("torch.ops.torchvision.ps_roi_align.default", IMAGES), "it calls torch.ops.torchvision.ps_roi_align"),
        (call("torch.ops.aten.relu.default", {"as_graph": {"name": "g"}}), "as_graph"),
        (call("torch.ops.aten.relu.default", {"as_none": True, **IMAGES}), "as_none and as_tensor at once"),
        (call("torch.ops.aten.relu.default", {}), "an argument is none at once"),
        (call("torch.ops.aten.relu.default", {"as_tensor": {"name": "later"}}), "later is used before it is made"),
        (call("torch.ops.aten.relu.default", IMAGES, outputs=[IMAGES]), "images is made twice"),
        (call("torch.ops.aten.relu.default", {"as_device": {"type": "cuda"}}), "it is for the device cuda"),
        (call("torch.ops.aten.relu.default", {"as_scalar_type": 99}), "an unknown scalar_type"),
        (graph(lambda program: program["schema_version"].update(major=9)), "whose files are others; export it anew"),
        (graph(lambda program: program["graph_module"]["graph"]["nodes"].clear()), "its output .* is never made"),
        (graph(lambda program: program.pop("graph_module")), "missing required field `graph_module`"),
        (lambda content: content[:1000], "cannot be read as a file of torch.export"),
        (lambda content: b"", "cannot be read as a file of torch.export"),
    ],
)  # fmt: skip
def test_a_graph_of_other_things_is_refused(edit, message, changed):
    with pytest.raises(UserError, match=rf"b\.pt2 .*{message}"):
        read_program(changed("models/model.json", edit))


def weight(**facts):
    """An edit of a weight's entry."""

    def change(content):
        entries = json.loads(content)
        entry = entries["config"]["network.conv.weight"]
        entry.update({key: value for key, value in facts.items() if key == "use_pickle"})
        entry["tensor_meta"].update({key: value for key, value in facts.items() if key != "use_pickle"})
        return json.dumps(entries).encode()

    return change


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (weight(use_pickle=True), "network.conv.weight is pickled, and so could run anything"),
        (weight(storage_offset={"as_int": 1}), "network.conv.weight lies outside its file"),
        (weight(storage_offset={"as_int": -1}), "network.conv.weight lies outside its file"),
        (weight(sizes=[{"as_int": 3}, {"as_int": 3}]), "network.conv.weight lies outside its file"),
        (weight(sizes=[{"as_int": 10**18}] * 4), "network.conv.weight lies outside its file"),
        (weight(dtype=13), ""),
        (weight(dtype=9), "network.conv.weight has an unknown type"),
        (weight(sizes=[{"as_expr": {"expr_str": "s0"}}]), "a tensor has no fixed size"),
        (
            lambda content: content.replace(b"network.conv.bias", b"network.conv.other"),
            "it has no tensor network.conv.bias",
        ),
    ],
)
def test_a_weight_that_is_none_is_refused(edit, message, changed):
    path = changed("data/weights/model_weights_config.json", edit)
    if message:
        with pytest.raises(UserError, match=rf"b\.pt2 .*{message}"):
            read_program(path)
    else:
        read_program(path)  # half as wide, and so within


def test_what_is_compressed_or_missing_is_refused(made, changed, tmp_path):
    with pytest.raises(UserError, match=r"models/model\.json is compressed"):
        read_program(changed("models/model.json", bytes, zipfile.ZIP_DEFLATED))
    (tmp_path / "c.pt2").write_bytes(made[1].read_bytes()[:-100])
    with pytest.raises(UserError, match=r"c\.pt2 cannot be read as a file of torch\.export: "):
        read_program(tmp_path / "c.pt2")
    with zipfile.ZipFile(tmp_path / "d.pt2", "w"):
        pass
    with pytest.raises(UserError, match=r"it has no models/model\.json"):
        read_program(tmp_path / "d.pt2")
