"""Any backbone goes with any head: built on no memory at all, and trained one step in earnest."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from helpers import ROOT

from detector.config import load_config, shipped_configs
from detector.models.backbones import list_backbones
from detector.models.build import build_detector, resolve_parts
from detector.models.heads import HEADS
from detector.models.saliency import build_saliency

NETWORKS = json.loads(Path(__file__).with_name("networks.json").read_text())
FAMILIES = [
    *("resnet10", "resnext50_32x4d", "resnet50_caffe", "sreresnet50", "sreresnet50_caffe"),
    *("iresnet18", "iresgroup50", "iresgroupfix50", "resgroup50", "resgroupfix50", "resstage50"),
    *("res2net50_14w_8s", "res2net50_v1b_26w_4s", "res2next50", "se_res2net50_26w_4s", "res2net_dla60"),
    *("res2next_dla60", "resnest50", "resnest50_fast_1s1x64d", "seresnet50", "seresnext50_32x4d", "skresnet50"),
    *("blresnet50", "vgg16_bn"),
]  # fmt: skip
WITH_STAGES = [name for name in FAMILIES if not name.endswith("dla60") and not name.startswith(("vgg", "bl"))]


def two_images():
    boxes = torch.tensor([[4.0, 4, 40, 50], [30, 20, 90, 60], [10, 30, 26, 46]])
    first = {"boxes": boxes, "labels": torch.tensor([0, 2, 1]), "ignore": torch.tensor([[60.0, 0, 90, 20]])}
    second = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "ignore": torch.zeros(0, 4)}
    targets = [{**t, "image_id": i, "original": (64, 96)} for i, t in enumerate((first, second))]
    return torch.randint(0, 255, (2, 3, 64, 96), dtype=torch.uint8), [(64, 96), (60, 80)], targets


def check_trains_and_predicts(head, backbone, *opts):
    cfg = load_config(
        ROOT / f"configs/base/{head}.yaml",
        ["MODEL.BACKBONE.NAME", backbone, "MODEL.NUM_CLASSES", "3", "MODEL.NECK.OUT_CHANNELS", "64",
         "MODEL.REFINEDET.TCB_CHANNELS", "64", *opts],
    )  # fmt: skip
    model = build_detector(cfg)
    images, sizes, targets = two_images()
    losses = model(images, sizes, targets)
    sum(losses.values()).backward()
    assert all(torch.isfinite(v) for v in losses.values())
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    with torch.no_grad():
        features = model.neck(model.backbone(model.normalize(images, sizes)))
        assert [len(boxes) > 0 for boxes in model.head.answered(features, targets)] == [True, False]
        assert len(model.eval()(images, sizes)) == 2


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("backbone", [*FAMILIES, "vgg16"])
def test_a_pair_trains_and_predicts(head, backbone):
    """Each family meets each head, and in their turns each norm; all pairs in the default one are a slow test."""
    norm = "frozen_bn" if backbone == "vgg16" else {"fcos": "bn", "faster_rcnn": "gn"}.get(head, "frozen_bn")
    check_trains_and_predicts(head, backbone, "MODEL.BACKBONE.NORM", norm, "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", "64")


@pytest.mark.parametrize("backbone", ["resnet10", "res2net_dla60", "vgg16_bn"])
def test_a_cascade_trains_and_predicts(backbone):
    opts = ("MODEL.ROI_HEADS.CASCADE_IOUS", "0.5,0.6,0.7", "MODEL.CLS_AGNOSTIC_BBOX_REG", "True")
    check_trains_and_predicts("faster_rcnn", backbone, *opts, "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", "32")


@pytest.mark.parametrize("backbone", WITH_STAGES)
def test_two_passes_train_and_predict(backbone):
    check_trains_and_predicts("fcos", backbone, "MODEL.BACKBONE.PASSES", "2")


DEFORMABLE = [name for name in WITH_STAGES if name != "skresnet50"]


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("backbone", DEFORMABLE)
def test_deformable_stages_train_and_predict(head, backbone):
    opts = ("MODEL.BACKBONE.DEFORM_STAGES", "(False, True, True, True)", "MODEL.BACKBONE.DEFORM_GROUPS", "2")
    check_trains_and_predicts(head, backbone, *opts, "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", "64")


@pytest.mark.parametrize("norm", ["bn", "sync_bn", "gn"])
def test_norms_train_with_two_passes(norm):
    check_trains_and_predicts("fcos", "resnet18", "MODEL.BACKBONE.NORM", norm, "MODEL.BACKBONE.PASSES", "2")


@pytest.mark.parametrize("backbone", ["resnet10", "vgg16"])
def test_refinedet_goes_on_a_pyramid(backbone):
    pyramid = ("MODEL.NECK.NAME", "fpn", "MODEL.NECK.SOURCES", "[c3, c4, c5]", "MODEL.NECK.EXTRA_LEVELS", "p6p7_p5")
    check_trains_and_predicts("refinedet", backbone, *pyramid)


@pytest.mark.parametrize("norm", ["bn", "sync_bn", "gn"])
def test_a_backbone_without_norms_says_so_once(norm, caplog):
    with torch.device("meta"):
        model = build_detector(load_config(None, ["MODEL.BACKBONE.NAME", "vgg16", "MODEL.BACKBONE.NORM", norm]))
        same = build_detector(load_config(None, ["MODEL.BACKBONE.NAME", "vgg16"]))
    assert shapes(model) == shapes(same)
    assert [record.getMessage() for record in caplog.records] == [
        f"vgg16 has no norms: MODEL.BACKBONE.NORM {norm} changes nothing in it"
    ]


def test_passes_of_a_backbone_with_nothing_to_repeat_are_said(caplog):
    for name, number in (("resnet10", 1), ("resnet18", 0)):
        caplog.clear()
        with torch.device("meta"):
            build_detector(load_config(None, ["MODEL.BACKBONE.NAME", name, "MODEL.BACKBONE.PASSES", "2"]))
        assert sum("MODEL.BACKBONE.PASSES 2 changes nothing" in text for text in caplog.messages) == number


def test_two_passes_need_stages():
    with pytest.raises(ValueError, match=r"DLA60 has no stages to repeat 2 times; set MODEL\.BACKBONE\.PASSES to 0"):
        build_detector(load_config(None, ["MODEL.BACKBONE.NAME", "res2net_dla60", "MODEL.BACKBONE.PASSES", "2"]))


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("backbone", list_backbones())
def test_every_pair_trains_and_predicts(head, backbone):
    check_trains_and_predicts(head, backbone)


@pytest.mark.parametrize("name", list_backbones())
def test_every_pair_is_built_with_the_strides_it_declares(name, monkeypatch):
    def build(head):
        return build_detector(load_config(ROOT / f"configs/base/{head}.yaml", ["MODEL.BACKBONE.NAME", name]))

    for initialise in ("kaiming_normal_", "kaiming_uniform_", "normal_"):  # of no values
        monkeypatch.setattr(torch.nn.init, initialise, lambda tensor, *given, **named: tensor)
    with torch.device("meta"):
        backbone = build("fcos").backbone
        features = backbone(torch.empty(1, 3, 256, 320))
        monkeypatch.setattr("detector.models.build.build_backbone", lambda *given, **named: backbone)  # seconds each
        necks = [build(head).neck for head in HEADS]
        parts = [(backbone.levels, features), *((neck.levels, neck(features)) for neck in necks)]
    assert len(parts) == 1 + len(HEADS)
    for levels, maps in parts:
        assert list(levels) == list(maps)
        for name, level in levels.items():
            assert maps[name].shape == (1, level.channels, -(-256 // level.stride), -(-320 // level.stride))


def built(name, *opts):
    """The network of a shipped config on no memory; three classes where the data decide."""
    cfg = load_config(name, opts)
    with torch.device("meta"):
        if cfg.MODEL.TASK == "saliency":
            return build_saliency(cfg)
        return build_detector(cfg if cfg.MODEL.NUM_CLASSES else load_config(name, [*opts, "MODEL.NUM_CLASSES", "3"]))


def shapes(model):
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def digest(lines):
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", shipped_configs())
def test_every_config_builds_its_network(name):
    """Names and shapes of all tensors, and which are trained, are those of the published networks for good."""
    model = built(name)
    found = [
        digest(f"{key} {shape}" for key, shape in shapes(model).items()),
        digest(key for key, parameter in model.named_parameters() if parameter.requires_grad),
        len(shapes(model)),
    ]
    assert NETWORKS.get(name, found) == found


def test_the_networks_on_record_are_those_of_files():
    assert set(NETWORKS) <= set(shipped_configs())
    assert len(NETWORKS) > 100


OF_HEAD = {
    "fcos": ("fcos/resnet50_1x", "base/fcos"),
    "faster_rcnn": ("faster_rcnn/resnet50_1x", "base/faster_rcnn"),
    "refinedet": ("refinedet/resnest50_coco320", "base/refinedet"),
}


@pytest.mark.parametrize("wanted", OF_HEAD)
@pytest.mark.parametrize("start", [name for names in OF_HEAD.values() for name in names])
def test_the_name_of_a_head_alone_gives_its_published_network(start, wanted, caplog):
    backbone = ["MODEL.BACKBONE.NAME", load_config(start).MODEL.BACKBONE.NAME]
    for own in OF_HEAD[wanted]:
        assert shapes(built(start, "MODEL.HEAD.NAME", wanted)) == shapes(built(own, *backbone))
    cfg = load_config(start, ["MODEL.HEAD.NAME", wanted])
    assert resolve_parts(cfg).DATALOADER.SIZE_DIVISIBILITY == (64 if wanted == "refinedet" else 32)
    assert not [record for record in caplog.records if "NECK" in record.getMessage()]
