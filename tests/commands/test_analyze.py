"""The study of filters and feature maps: networks from arguments, tables, CSV files, pictures, errors."""

import csv
import math
import os
import sys

import cv2
import numpy as np
import pytest
import torch
from helpers.fresh import fresh

from detector.analysis.channels import network_input, resize_short
from detector.commands import analyze
from detector.commands.studies import networks
from detector.config import config_text, load_config
from detector.data.images import read_rgb
from detector.errors import UserError
from detector.models.backbones import BACKBONES, RGB_UNIT, build_backbone, build_classifier
from detector.models.build import build_detector


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def drawn():
    pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "image.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A detector with group norm, trained weights, and stages that run twice; the file and the model."""
    opts = ["MODEL.BACKBONE.NAME", "resnet18", "MODEL.BACKBONE.NORM", "gn", "MODEL.BACKBONE.PASSES", "2"]
    cfg = load_config(None, opts)
    model = build_detector(cfg)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    path = tmp_path_factory.mktemp("sre") / "model_final.pth"
    torch.save({"model": model.state_dict(), "config": config_text(cfg), "step": 3}, path)
    return path, model.eval()


def study(*args):
    analyze.begin(analyze.parse([*map(str, args)]))


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def mean_off_diagonal(weight):
    r = np.corrcoef(weight.detach().double().flatten(1).numpy())
    return np.abs(r[~np.eye(len(r), dtype=bool)]).mean()


# ---------------------------------------------------------------------------- networks


def test_random_weights_are_the_same_for_the_same_layers():
    first, second = (networks.open_network(text) for text in ("resnet18=random", "SRe net:resnet18=random"))
    assert (first.label, second.label) == ("resnet18 random", "SRe net")
    assert not first.backbone.training
    state = second.backbone.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in first.backbone.state_dict().items())


def test_a_classifier_gives_its_backbone(tmp_path):
    classifier = build_classifier("resnet10", num_classes=7)
    path = tmp_path / "run" / "model.pth"
    path.parent.mkdir()
    torch.save(classifier.state_dict(), path)
    network = networks.open_network(f"resnet10={path}")
    assert network.label == "resnet10 run/model.pth"
    assert network.pixels == RGB_UNIT
    state = classifier.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in network.backbone.state_dict().items())


def test_a_detector_gives_its_backbone_with_norm_and_passes(checkpoint):
    path, model = checkpoint
    network = networks.open_network(f"resnet18={path}")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        want, got = model.backbone(images), network.backbone(images)
    assert want.keys() == got.keys()
    for level in want:  # only the memory format differs
        torch.testing.assert_close(got[level], want[level].contiguous(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["gn", "frozen_bn"])
def test_a_file_of_the_pre_training_gives_norm_and_passes(tmp_path, norm):
    backbone = build_backbone("resnet18", norm, passes=2).eval()
    facts = {"backbone": "resnet18", "classes": ["a"], "norm": {"frozen_bn": "bn"}.get(norm, norm), "passes": 2}
    torch.save({"model": backbone.state_dict(), **facts, "crop": 224}, tmp_path / "model.pth")
    network = networks.open_network(f"resnet18={tmp_path / 'model.pth'}")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(backbone(images)["c5"], network.backbone(images)["c5"])


def test_published_weights_are_those_of_the_record(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path))
    (tmp_path / "resnet18-f37072fd.pth").write_bytes(b"not what was published")
    with pytest.raises(ValueError, match=r"resnet18-f37072fd\.pth has SHA-256"):
        networks.open_network("resnet18")


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("resnet5=random", KeyError, "unknown backbone 'resnet5'; close: resnet50"),
        ("resnet10", ValueError, "no weights are published for resnet10; write resnet10=FILE or resnet10=random"),
        ("resnet10=", ValueError, "there is no file ''"),
        ("resnet10=nowhere.pth", ValueError, "there is no file 'nowhere.pth'"),
    ],
)
def test_networks_that_cannot_be_opened(text, error, match):
    with pytest.raises(error, match=match):
        networks.open_network(text)


def test_weights_of_another_network_do_not_fit(checkpoint):
    with pytest.raises(ValueError, match="does not fit the model"):
        networks.open_network(f"resnet10={checkpoint[0]}")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("bomb_went_off",)


def test_code_in_a_file_never_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Bomb(), "config": "x"}, tmp_path / "bomb.pth")
    with pytest.raises(ValueError, match=r"bomb\.pth"):
        networks.open_network("resnet10=bomb.pth")
    assert not (tmp_path / "bomb_went_off").exists()


# ---------------------------------------------------------------------------- correlation


@pytest.mark.usefixtures("drawn")
def test_correlation_of_every_layer(tmp_path, capsys):
    study("correlation", "resnet10=random", "two:resnet18=random", "--layer", "layer2.0.conv1", "--output", tmp_path)
    rows = rows_of(tmp_path / "correlation.csv")
    for label, name, count in (("resnet10 random", "resnet10", 12), ("two", "resnet18", 20)):
        torch.manual_seed(0)
        backbone = build_backbone(name)
        mine = [row for row in rows if row["network"] == label]
        assert [int(row["index"]) for row in mine] == [*range(1, count + 1)]
        for row in mine:
            weight = backbone.get_submodule(row["layer"]).weight
            assert float(row["correlation"]) == pytest.approx(mean_off_diagonal(weight), abs=1e-12)
            assert (row["filters"], row["groups"], row["constant"]) == (str(len(weight)), "1", "0")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    layers = {line[0]: line[1:] for line in lines if len(line) == 3}
    values = {(row["network"], row["layer"]): f"{float(row['correlation']):.3f}" for row in rows}
    assert layers["layer1.0.conv1"] == [values["resnet10 random", "layer1.0.conv1"], values["two", "layer1.0.conv1"]]
    assert layers["layer1.1.conv1"] == ["-", values["two", "layer1.1.conv1"]]
    means = [
        np.mean([float(row["correlation"]) for row in rows if row["network"] == n]) for n in ("resnet10 random", "two")
    ]
    assert ["mean", "over", "layers", *(f"{mean:.3f}" for mean in means)] in lines
    for name in ("correlation.png", "correlation_layer2.0.conv1.png"):
        assert cv2.imread(str(tmp_path / name)).size


@pytest.mark.usefixtures("drawn")
def test_layers_without_a_pair_have_no_value_and_do_not_count(tmp_path, capsys, monkeypatch):
    torch.manual_seed(0)
    backbone = build_backbone("resnet10")
    backbone.conv1 = torch.nn.Conv2d(3, 1, 7, 2, 3, bias=False)  # one filter: no pair
    monkeypatch.setattr(backbone, "forward", lambda images: {})
    with torch.no_grad():
        backbone.layer1[0].conv1.weight[:2] = 0.5
    network = networks.Network("mine", backbone, RGB_UNIT)
    networks.correlation([network], analyze.parse(["correlation", "x", "--output", str(tmp_path)]))
    rows = {row["layer"]: row for row in rows_of(tmp_path / "correlation.csv")}
    assert rows["conv1"]["correlation"] == ""
    assert rows["layer1.0.conv1"]["constant"] == "2"
    others = [float(row["correlation"]) for row in rows.values() if row["correlation"]]
    assert len(others) == 11
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["conv1", "-"] in lines
    assert ["mean", "over", "layers", f"{np.mean(others):.3f}"] in lines
    assert ["constant", "filters", "2"] in lines


@pytest.fixture
def _no_matplotlib(monkeypatch):
    for module in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.usefixtures("_no_matplotlib")
def test_without_matplotlib_table_and_numbers_are_there(tmp_path, caplog, capsys, image):
    study("correlation", "resnet10=random", "--output", tmp_path)
    assert "mean over layers" in capsys.readouterr().out
    assert len(rows_of(tmp_path / "correlation.csv")) == 12
    study("channels", "resnet10=random", "--image", image, "--stage", "1", "--size", "32", "--output", tmp_path)
    assert "mean over channels" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["channels_stage1.csv", "correlation.csv"]
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 2
    for line in told:
        assert line.startswith("there is no picture: ")
        assert line.endswith('pip install "residet[plots]"')


@pytest.mark.usefixtures("_no_matplotlib")
def test_a_matrix_that_is_asked_for_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "open_network", lambda *_: pytest.fail("it should not begin"))
    with pytest.raises(UserError, match=r'^--layer: .* pip install "residet\[plots\]"$'):
        study("correlation", "resnet10=random", "--layer", "conv1", "--output", tmp_path)


def test_names_must_differ_and_layers_exist(tmp_path):
    with pytest.raises(ValueError, match="two networks are called 'resnet10 random'; put LABEL:"):
        study("correlation", "resnet10=random", "resnet10=random", "--output", tmp_path)
    with pytest.raises(ValueError, match=r"resnet10 random has no convolution 'layer1\.1\.conv1'; close: layer1\.0"):
        study("correlation", "resnet10=random", "--layer", "layer1.1.conv1", "--output", tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "inner"):
        with pytest.raises(OSError, match=f"--output {output}: no folder can be made there"):
            study("correlation", "resnet10=random", "--output", output)


# ---------------------------------------------------------------------------- channels


@pytest.mark.usefixtures("drawn")
def test_channels_of_a_recursive_stage(tmp_path, capsys, checkpoint, image):
    path, model = checkpoint
    plain, recursive = "plain:resnet18=random", f"recursive:resnet18={path}"
    common = ["--image", image, "--size", "96", "--stage", "2", "--output", tmp_path]
    study("channels", plain, recursive, "--channels", "5", "100", *common)
    x = network_input(resize_short(read_rgb(image), 96), RGB_UNIT)
    torch.manual_seed(0)
    rows = rows_of(tmp_path / "channels_stage2.csv")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    values = {}
    for label, backbone in (("plain", build_backbone("resnet18").eval()), ("recursive", model.backbone)):
        with torch.no_grad():
            first = backbone.layer2[0](backbone.layer1(backbone.maxpool(backbone.bn1(backbone.conv1(x)).relu())))
            first, last = first[0].double().numpy().copy(), backbone(x)["c3"][0].double().numpy()
        values[label] = [float(row["correlation"] or "nan") for row in rows if row["network"] == label]
        want = [
            np.corrcoef(a.ravel(), b.ravel())[0, 1] if a.std() and b.std() else math.nan for a, b in zip(first, last)
        ]
        np.testing.assert_allclose(values[label], want, atol=1e-5)
    for channel in (5, 100):
        assert [str(channel), *(networks.number(values[label][channel]) for label in values)] in lines
    assert ["mean", "over", "channels", *(f"{np.nanmean(v):.3f}" for v in values.values())] in lines
    dead = [word for v in values.values() for word in (str(np.isnan(v).sum()), "of", "128")]
    assert ["constant,", "left", "out", *dead] in lines
    assert cv2.imread(str(tmp_path / "channels_stage2.png")).size


@pytest.mark.usefixtures("drawn")
def test_the_most_active_channels_that_all_networks_have(tmp_path, capsys, image):
    names = ["resnet50=random", "resnet18=random"]
    study("channels", *names, "--num-channels", "12", "--image", image, "--size", "64", "--output", tmp_path)
    x = network_input(resize_short(read_rgb(image), 64), RGB_UNIT)
    backbone, total = networks.open_network(names[0]).backbone, 0
    with torch.no_grad():
        y = backbone.layer2(backbone.layer1(backbone.maxpool(backbone.bn1(backbone.conv1(x)).relu())))
        for block in backbone.layer3:
            y = block(y.clone())
            total = total + y[0, :256].abs().mean((1, 2))  # ResNet-18 has no more than 256
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines[2:14]] == [str(c) for c in total.argsort(descending=True)[:12].tolist()]


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["--stage", "5"], "--stage 5: there are the stages 1 to 4"),
        (["--stage", "0"], "--stage 0"),
        (["--channels", "0", "256"], "--channels 256: all networks have the channels 0 to 255"),
        (["--channels", "-1"], "--channels -1"),
        (["--num-channels", "257"], r"--num-channels 257: it must be within 1\.\.256"),
        (["--size", "31"], "--size 31"),
    ],
)
def test_what_is_out_of_range_is_named(tmp_path, image, args, match):
    with pytest.raises(ValueError, match=match):
        study("channels", "resnet10=random", "--image", image, "--size", "64", *args, "--output", tmp_path)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------- as a user calls it


def test_an_error_is_one_line(tmp_path):
    words = ["analyze", "channels", "resnet10=random", "--output", tmp_path, "--image", tmp_path / "none.jpg"]
    run = fresh("-m", "detector", *words)
    assert run.returncode == 1
    assert run.stderr.splitlines() == [
        f"error: {tmp_path / 'none.jpg'}: there is no such picture; check the file name and the folder"
    ]


@pytest.mark.usefixtures("drawn")
def test_a_plugin_without_stages_has_correlations_only(tmp_path, image, monkeypatch):
    (tmp_path / "plain_plugin.py").write_text(
        "from torch import nn\n"
        "from detector.models.backbones import Backbone, Weights, register_backbone\n"
        "class Plain(Backbone):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a = nn.Conv2d(3, 8, 3)\n"
        "    def forward(self, images):\n"
        "        return {'c2': self.a(images)}\n"
        "register_backbone('plain_plugin', Weights())(lambda norm: Plain())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    common = ["plain_plugin=random", "--import", "plain_plugin", "--output", tmp_path / "out"]
    try:
        study("correlation", *common)
        with pytest.raises(ValueError, match="Plain has no stages to look into"):
            study("channels", "--image", image, *common)
    finally:
        BACKBONES.pop("plain_plugin", None)
        sys.modules.pop("plain_plugin", None)
    assert [row["layer"] for row in rows_of(tmp_path / "out" / "correlation.csv")] == ["a"]


def test_a_study_that_fails_leaves_no_empty_folder(tmp_path, capsys):
    with pytest.raises(SystemExit, match="unknown backbone 'resnt18'"):
        analyze.main(["correlation", "resnt18", "--output", str(tmp_path / "a" / "b")])
    assert not [*tmp_path.iterdir()]
