import pytest
import torch
from helpers import ROOT
from helpers.fresh import fresh

from detector.commands import convert as convert_command
from detector.config import load_config
from detector.conversion import convert
from detector.conversion.fcos import RULES
from detector.models.build import build_detector
from detector.tasks.trained import load_trained
from detector.weights.rename import renamed

BASE = str(ROOT / "configs/base/fcos.yaml")
OPTS = ["MODEL.BACKBONE.NAME", "resnet50_caffe", "MODEL.NUM_CLASSES", "80"]


def official(key):
    """Our key under the name that the official FCOS repository gives the same tensor."""
    part, _, rest = key.partition(".")
    if part == "head":
        return f"module.rpn.head.{rest}"
    if part == "neck":
        kind, _, leaf = rest.partition(".")
        if kind in ("p6", "p7"):
            return f"module.backbone.fpn.top_blocks.{rest}"
        level, _, leaf = leaf.partition(".")
        return f"module.backbone.fpn.fpn_{kind}{int(level[1:]) - 1}.{leaf}"
    stem = "stem." if rest.startswith(("conv1.", "bn1.")) else ""
    return f"module.backbone.body.{stem}{rest}"


@pytest.fixture
def published(tmp_path):
    """A file as the official repository writes it, and the tensors that it holds under our names."""
    model = build_detector(load_config(None, OPTS))
    state = {k: torch.rand_like(v) for k, v in model.state_dict().items()}
    path = tmp_path / "FCOS_R_50_FPN_1x.pth"
    torch.save({"model": {official(k): v for k, v in state.items()}, "iteration": 90000}, path)
    return path, state


def test_official_keys_become_ours(published, tmp_path):
    path, state = published
    assert {official(k) for k in state} >= {
        "module.backbone.body.stem.conv1.weight",
        "module.backbone.body.layer1.0.downsample.1.running_var",
        "module.backbone.fpn.fpn_inner2.weight",
        "module.backbone.fpn.fpn_layer4.bias",
        "module.backbone.fpn.top_blocks.p6.weight",
        "module.rpn.head.cls_tower.0.weight",
        "module.rpn.head.scales.4.scale",
    }
    output = tmp_path / "ours.pth"
    convert("fcos", path, output, BASE, OPTS)
    model, classes, category_ids = load_trained(load_config(output.with_suffix(".yaml")))
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert (len(classes), classes[0], classes[-1]) == (80, "person", "toothbrush")
    assert (category_ids[0], category_ids[-1]) == (1, 90)


def test_another_network_is_refused_with_the_keys(published, tmp_path):
    path, _ = published
    with pytest.raises(ValueError, match=r"FCOS_R_50_FPN_1x\.pth does not fit[\s\S]*layer3\.6\.conv1"):
        convert("fcos", path, tmp_path / "x.pth", BASE, ["MODEL.BACKBONE.NAME", "resnet101_caffe"])
    assert not list(tmp_path.glob("x.*"))
    with pytest.raises(ValueError, match="--from fcos needs --config-file"):
        convert("fcos", path, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"name the checkpoint, e\.g\. .*x\.pth"):
        convert("fcos", path, tmp_path / "x.yaml", BASE)


def test_the_head_forward_survives_the_conversion(golden_heads):
    """The golden forward of the official head has the keys that the rules expect, without the prefix."""
    import json

    facts = json.loads((golden_heads / "fcos_head_forward.json").read_text())
    names = [key for key, _ in facts["state_dict"]]
    state = {f"module.rpn.head.{key}": torch.zeros(shape) for key, shape in facts["state_dict"]}
    ours = renamed(state, RULES)
    head = build_detector(load_config(None, OPTS)).head
    assert [k.removeprefix("head.") for k in ours] == names
    assert set(names) == set(head.state_dict())
    assert all(v.shape == head.state_dict()[k.removeprefix("head.")].shape for k, v in ours.items())


def test_the_command_says_what_is_wrong(tmp_path):
    run = fresh(
        "-m", "detector", "convert", "--from", "fcos", "--input", tmp_path / "none.pth",
        "--output", tmp_path / "x.pth", "--config-file", "configs/fcos/resnet50_caffe_1080.yaml",
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.startswith("error: ")
    assert "none.pth" in run.stderr


# ---------------------------------------------------------------------------- what it never writes onto


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small file of torchvision's FCOS: as it is published but for its depth."""
    from torchvision.models.detection import FCOS
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    backbone = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256)
    )
    path = tmp_path_factory.mktemp("published") / "fcos.pth"
    torch.save(FCOS(backbone, num_classes=91).state_dict(), path)
    return path


@pytest.fixture
def published_small(small, tmp_path):
    (tmp_path / "in.pth").write_bytes(small.read_bytes())
    return tmp_path / "in.pth"


def refused(published, output, match):
    before = {path: path.read_bytes() for path in output.parent.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match=match):
        convert("torchvision", published, output)
    assert {path: path.read_bytes() for path in output.parent.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("name", ["in.pth", "link.pth", "hard.pth", "sub/../in.pth"])
def test_the_input_is_not_written_on(published_small, tmp_path, name):
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.pth").symlink_to(published_small)
    (tmp_path / "hard.pth").hardlink_to(published_small)
    refused(published_small, tmp_path / name, r"is the --input itself; write another --output")


@pytest.mark.parametrize("name", ["out.yaml", "out.pth"])
def test_what_no_conversion_wrote_is_not_written_on(published_small, tmp_path, name):
    (tmp_path / name).write_text("SEED: 3\n")
    refused(
        published_small, tmp_path / "out.pth", rf"{name} is there, and no conversion wrote it; write another --output"
    )


def test_what_a_conversion_wrote_gives_way_to_another(published_small, tmp_path):
    output = tmp_path / "out.pth"
    convert("torchvision", published_small, output)
    first = output.with_suffix(".yaml").read_bytes()
    output.write_bytes(b"half")
    convert("torchvision", published_small, output)
    assert output.with_suffix(".yaml").read_bytes() == first
    assert load_trained(load_config(output.with_suffix(".yaml")))[1][1] == "person"


def test_links_at_its_names_are_not_followed(published_small, tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "out.yaml").symlink_to(tmp_path / "precious")
    refused(published_small, tmp_path / "out.pth", r"out\.yaml is there, and no conversion wrote it")
    (tmp_path / "out.yaml").unlink()
    (tmp_path / "out.yaml").symlink_to(tmp_path / "nowhere")
    refused(published_small, tmp_path / "out.pth", r"out\.yaml is there, and no conversion wrote it")


def test_the_input_may_be_an_address_or_lie_in_the_home_folder(published_small, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for number, name in enumerate((published_small.as_uri(), "~/in.pth")):
        convert_command.main(["--from", "torchvision", "--input", name, "--output", f"~/{number}.pth"])
        assert load_trained(load_config(f"~/{number}.yaml"))[1][1] == "person"
    with pytest.raises(SystemExit) as caught:
        convert_command.main(["--from", "torchvision", "--input", "file:///no/where.pth", "--output", "~/x.pth"])
    assert str(caught.value).startswith("error: --input: there is no file /no/where.pth")
