"""Files with the key names of maskrcnn-benchmark and detectron2 become detectors of ours with their conventions."""

import pickle
import re

import numpy as np
import pytest
import torch
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from detector.config import load_config
from detector.conversion import SOURCES, convert
from detector.tasks.trained import load_trained
from detector.weights.record import BGR_255

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnext50_32x4d": (3, 4, 6, 3)}


def trunk(name, norms, d2):
    """(key, shape) of a ResNet as both projects name them; norms: suffixes of a norm's tensors."""
    group_width = {"resnet50": 1, "resnext50_32x4d": 32}[name]
    base = {"resnet50": 64, "resnext50_32x4d": 128}[name]

    def conv(key, norm, shape):
        yield f"{key}.weight", shape
        yield from ((f"{norm}.{suffix}", shape[:1]) for suffix in norms)

    stem = "backbone.bottom_up.stem.conv1" if d2 else "backbone.body.stem.conv1"
    yield from conv(stem, f"{stem}.norm" if d2 else "backbone.body.stem.bn1", (64, 3, 7, 7))
    channels = 64
    for stage, depth in enumerate(BLOCKS[name]):
        inner, out = base * 2**stage, 256 * 2**stage
        for j in range(depth):
            block = f"backbone.bottom_up.res{stage + 2}.{j}" if d2 else f"backbone.body.layer{stage + 1}.{j}"
            shapes = ((inner, channels, 1, 1), (inner, inner // group_width, 3, 3), (out, inner, 1, 1))
            for i, shape in enumerate(shapes, 1):
                yield from conv(f"{block}.conv{i}", f"{block}.conv{i}.norm" if d2 else f"{block}.bn{i}", shape)
            if j == 0:
                shortcut = f"{block}.shortcut" if d2 else f"{block}.downsample.0"
                norm = f"{block}.shortcut.norm" if d2 else f"{block}.downsample.1"
                yield from conv(shortcut, norm, (out, channels, 1, 1))
            channels = out


AFFINE, FROZEN = ("weight", "bias"), ("weight", "bias", "running_mean", "running_var")


def layer(key, *shape):
    yield f"{key}.weight", shape
    yield f"{key}.bias", shape[:1]


def detectron2_keys(name="resnet50", classes=80, stages=1):
    yield from trunk(name, FROZEN, d2=True)
    for i in range(2, 6):
        yield from layer(f"backbone.fpn_lateral{i}", 256, 128 * 2 ** (i - 1), 1, 1)
        yield from layer(f"backbone.fpn_output{i}", 256, 256, 3, 3)
    yield from layer("proposal_generator.rpn_head.conv", 256, 256, 3, 3)
    yield from layer("proposal_generator.rpn_head.objectness_logits", 3, 256, 1, 1)
    yield from layer("proposal_generator.rpn_head.anchor_deltas", 12, 256, 1, 1)
    for k in range(stages):
        place = f".{k}" if stages > 1 else ""
        yield from layer(f"roi_heads.box_head{place}.fc1", 1024, 256 * 49)
        yield from layer(f"roi_heads.box_head{place}.fc2", 1024, 1024)
        yield from layer(f"roi_heads.box_predictor{place}.cls_score", classes + 1, 1024)
        yield from layer(f"roi_heads.box_predictor{place}.bbox_pred", 4 if stages > 1 else 4 * classes, 1024)


def maskrcnn_benchmark_keys(name="resnet50", classes=80, boxes=None):
    yield from trunk(name, FROZEN, d2=False)
    for i in range(1, 5):
        yield from layer(f"backbone.fpn.fpn_inner{i}", 256, 128 * 2**i, 1, 1)
        yield from layer(f"backbone.fpn.fpn_layer{i}", 256, 256, 3, 3)
    yield from layer("rpn.head.conv", 256, 256, 3, 3)
    yield from layer("rpn.head.cls_logits", 3, 256, 1, 1)
    yield from layer("rpn.head.bbox_pred", 12, 256, 1, 1)
    yield from layer("roi_heads.box.feature_extractor.fc6", 1024, 256 * 49)
    yield from layer("roi_heads.box.feature_extractor.fc7", 1024, 1024)
    yield from layer("roi_heads.box.predictor.cls_score", classes + 1, 1024)
    yield from layer("roi_heads.box.predictor.bbox_pred", 4 * (boxes or classes + 1), 1024)


def filled(keys):
    return {key: torch.rand(shape) for key, shape in keys}


def loaded(path, *opts):
    return load_trained(load_config(path.with_suffix(".yaml"), opts))


def test_a_file_of_the_zoo_of_detectron2(tmp_path):
    state = filled(detectron2_keys())
    content = {k: v.numpy() for k, v in state.items()}
    content |= {f"proposal_generator.anchor_generator.cell_anchors.{i}": np.zeros((3, 4), np.float32) for i in range(5)}
    path = tmp_path / "model_final_280758.pkl"
    path.write_bytes(pickle.dumps({"model": content, "__author__": "Detectron2 Model Zoo"}))
    cfg = convert("detectron2", path, tmp_path / "ours.pth")
    model, classes, category_ids = loaded(tmp_path / "ours.pth")
    own = model.state_dict()
    pairs = {
        "backbone.bottom_up.stem.conv1.norm.running_var": "backbone.bn1.running_var",
        "backbone.bottom_up.res2.0.shortcut.weight": "backbone.layer1.0.downsample.0.weight",
        "backbone.bottom_up.res4.5.conv3.norm.bias": "backbone.layer3.5.bn3.bias",
        "backbone.fpn_lateral2.weight": "neck.inner.c2.weight",
        "backbone.fpn_output5.bias": "neck.layer.c5.bias",
        "proposal_generator.rpn_head.conv.weight": "head.rpn.convs.0.weight",
        "proposal_generator.rpn_head.anchor_deltas.bias": "head.rpn.deltas.bias",
        "roi_heads.box_head.fc1.weight": "head.box_heads.0.fcs.0.weight",
        "roi_heads.box_predictor.cls_score.weight": "head.box_heads.0.cls_logits.weight",
        "roi_heads.box_predictor.bbox_pred.bias": "head.box_heads.0.deltas.bias",
    }
    for theirs, ours in pairs.items():
        assert torch.equal(own[ours], state[theirs]), theirs
    assert sum(v.double().sum() for v in own.values()) == pytest.approx(sum(v.double().sum() for v in state.values()))
    assert model.bgr
    assert model.mean.flatten().tolist() == pytest.approx([103.53, 116.28, 123.675])
    assert model.std.flatten().tolist() == [1, 1, 1]
    assert (model.backbone.bn1.eps, model.backbone.layer2[0].conv1.stride) == (1e-5, (2, 2))
    assert (model.head.pooler.aligned, model.head.pooler.sampling_ratio, model.head.smooth_l1_beta) == (True, 0, 0.0)
    assert (model.head.rpn.smooth_l1_beta, model.head.rpn.post_nms_top_n["train"]) == (0.0, 1000)
    assert (len(classes), classes[0], category_ids[-1]) == (80, "person", 90)
    assert cfg.INPUT.MIN_SIZE_TRAIN == (640, 672, 704, 736, 768, 800)
    assert load_config(tmp_path / "ours.yaml", ["OUTPUT_DIR", cfg.OUTPUT_DIR]) == cfg
    assert "NAME: resnet50_caffe" in (tmp_path / "ours.yaml").read_text()


def test_a_file_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": {"x": np.zeros(1), "y": pickle.Pickler}}))
    with pytest.raises(ValueError, match="pickled code"):
        convert("detectron2", path, tmp_path / "ours.pth")


def test_a_network_of_groups_sees_its_channels_in_our_order(tmp_path):
    state = filled(detectron2_keys("resnext50_32x4d", classes=3))
    state |= {"roi_heads.mask_head.mask_fcn1.weight": torch.rand(256, 256, 3, 3)}
    torch.save({"model": state}, tmp_path / "x50.pth")
    convert("detectron2", tmp_path / "x50.pth", tmp_path / "ours.pth")
    model, classes, _ = loaded(tmp_path / "ours.pth")
    assert (model.bgr, classes) == (False, ["0", "1", "2"])
    assert model.mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert model.std.flatten().tolist() == pytest.approx([58.395, 57.12, 57.375])
    rgb = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    mean, std = torch.tensor([103.53, 116.28, 123.675]), torch.tensor([57.375, 57.12, 58.395])
    bgr = (rgb.flip(1) - mean[:, None, None]) / std[:, None, None]
    want = torch.nn.functional.conv2d(bgr, state["backbone.bottom_up.stem.conv1.weight"], stride=2, padding=3)
    got = model.backbone.conv1(model.normalize(rgb, [(32, 32)]))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_the_user_may_say_where_the_stride_is(tmp_path, caplog):
    state = filled(detectron2_keys(classes=2))
    torch.save({"model": state}, tmp_path / "r50.pth")
    opts = ["MODEL.BACKBONE.NAME", "resnet50", "SOLVER.OPTIMIZER", "adamw", "SOLVER.MOMENTUM", "0.5"]
    convert("detectron2", tmp_path / "r50.pth", tmp_path / "ours.pth", opts=opts)
    assert caplog.text.count("without effect in this config: SOLVER.MOMENTUM") == 1
    model = loaded(tmp_path / "ours.pth")[0]
    assert (model.bgr, model.backbone.layer2[0].conv2.stride) == (False, (2, 2))
    assert torch.equal(model.backbone.conv1.weight, state["backbone.bottom_up.stem.conv1.weight"].flip(1))
    assert model.mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert model.std.flatten().tolist() == [1, 1, 1]


def test_statistics_that_a_file_holds_decide(tmp_path):
    state = filled(detectron2_keys(classes=2))
    state |= {"pixel_mean": torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)}
    state |= {"pixel_std": torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)}
    torch.save(state, tmp_path / "rgb.pth")
    cfg = convert("detectron2", tmp_path / "rgb.pth", tmp_path / "ours.pth")
    assert (cfg.MODEL.BACKBONE.NAME, cfg.INPUT.PIXEL_MEAN) == ("resnet50", ())


def test_a_cascade_of_detectron2(tmp_path):
    state = filled(detectron2_keys(stages=3))
    torch.save({"model": state}, tmp_path / "cascade.pth")
    convert("detectron2", tmp_path / "cascade.pth", tmp_path / "ours.pth")
    head = loaded(tmp_path / "ours.pth")[0].head
    assert [t[0] for t in head.thresholds] == [0.5, 0.6, 0.7]
    assert torch.equal(head.box_heads[2].deltas.weight, state["roi_heads.box_predictor.2.bbox_pred.weight"])


def test_convolutions_of_detectron2_own_their_norms(tmp_path):
    skip = "roi_heads.box_head.fc"
    state = {k: v for k, v in filled(detectron2_keys(classes=2)).items() if not k.startswith(skip)}
    state |= filled(layer("roi_heads.box_head.fc1", 1024, 256 * 49))
    for key in [*(f"backbone.fpn_{kind}{i}" for kind in ("lateral", "output") for i in range(2, 6))]:
        del state[f"{key}.bias"]
        state |= filled((f"{key}.norm.{suffix}", (256,)) for suffix in AFFINE)
    for i in range(1, 5):
        state |= filled([(f"roi_heads.box_head.conv{i}.weight", (256, 256, 3, 3))])
        state |= filled((f"roi_heads.box_head.conv{i}.norm.{suffix}", (256,)) for suffix in AFFINE)
    torch.save({"model": state}, tmp_path / "gn.pth")
    cfg = convert("detectron2", tmp_path / "gn.pth", tmp_path / "ours.pth")
    assert (cfg.MODEL.NECK.NORM, cfg.MODEL.ROI_BOX_HEAD.NORM, cfg.MODEL.ROI_BOX_HEAD.NUM_CONV) == ("gn", "gn", 4)
    own = loaded(tmp_path / "ours.pth")[0].state_dict()
    assert torch.equal(own["neck.layer.c3.1.weight"], state["backbone.fpn_output3.norm.weight"])
    last = state["roi_heads.box_head.conv4.norm.bias"]
    assert torch.equal(own["head.box_heads.0.convs.10.bias"], last)


@pytest.mark.parametrize("boxes", [None, 2])
def test_a_file_of_maskrcnn_benchmark(tmp_path, boxes):
    state = filled(maskrcnn_benchmark_keys(boxes=boxes))
    content = {f"module.{k}": v for k, v in state.items()}
    content |= {f"module.rpn.anchor_generator.cell_anchors.{i}": torch.zeros(3, 4) for i in range(5)}
    torch.save({"model": content, "iteration": 90000}, tmp_path / "e2e_faster_rcnn_R_50_FPN_1x.pth")
    cfg = convert("maskrcnn-benchmark", tmp_path / "e2e_faster_rcnn_R_50_FPN_1x.pth", tmp_path / "ours.pth")
    model, classes, category_ids = loaded(tmp_path / "ours.pth")
    own, box = model.state_dict(), "head.box_heads.0."
    assert torch.equal(own["backbone.bn1.running_mean"], state["backbone.body.stem.bn1.running_mean"])
    assert torch.equal(own["neck.inner.c2.weight"], state["backbone.fpn.fpn_inner1.weight"])
    assert torch.equal(own["head.rpn.objectness.weight"], state["rpn.head.cls_logits.weight"])
    assert torch.equal(own[box + "fcs.0.weight"], state["roi_heads.box.feature_extractor.fc6.weight"])
    scores, deltas = (state[f"roi_heads.box.predictor.{k}.weight"] for k in ("cls_score", "bbox_pred"))
    assert torch.equal(own[box + "cls_logits.weight"][-1], scores[0])  # the background
    assert torch.equal(own[box + "cls_logits.weight"][:-1], scores[1:])
    assert torch.equal(own[box + "deltas.weight"], deltas[4:])
    assert cfg.MODEL.CLS_AGNOSTIC_BBOX_REG is (boxes == 2)
    assert (model.bgr, model.mean.flatten().tolist()) == (True, pytest.approx(BGR_255.mean))
    assert (model.backbone.bn1.eps, model.backbone.layer2[0].conv1.stride) == (0, (2, 2))
    assert (model.head.pooler.aligned, model.head.smooth_l1_beta) == (False, 1.0)
    # the published anchors of 32 pixels, up to their last pixel: [-22, -10, 25, 13], [-14, -14, 17, 17], ..
    assert model.head.rpn.cells[0].tolist() == [[-22, -10, 26, 14], [-14, -14, 18, 18], [-10, -22, 14, 26]]
    assert (len(classes), classes[-1], category_ids[-1]) == (80, "toothbrush", 90)


@pytest.mark.parametrize("source", ["detectron2", "maskrcnn-benchmark", "torchvision"])
def test_another_model_is_named(source, tmp_path):
    torch.save({"model": {"backbone.conv.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth is no (Faster R-CNN with an FPN|detector of torchvision)"):
        convert(source, tmp_path / "other.pth", tmp_path / "ours.pth")
    assert not list(tmp_path.glob("ours*"))


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("backbone.body.0.0.weight", "a detector with a MobileNet, which has no counterpart"),
        ("backbone.features.0.weight", "an SSD, which has no counterpart"),
        ("head.regression_head.bbox_reg.weight", "a RetinaNet, which has no counterpart"),
    ],
)
def test_other_models_of_torchvision_are_named(key, what, tmp_path):
    torch.save({key: torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=what):
        convert("torchvision", tmp_path / "other.pth", tmp_path / "ours.pth")


def test_a_backbone_without_counterpart_is_named(tmp_path):
    state = filled(detectron2_keys(classes=2))
    narrow = {k: v for k, v in state.items() if not k.startswith("backbone.bottom_up.res5.2.")}
    torch.save(narrow, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match=r"cut\.pth: a ResNet of \(3, 4, 6, 2\) blocks"):
        convert("detectron2", tmp_path / "cut.pth", tmp_path / "ours.pth")


def test_torchvisions_published_file_has_norms_without_eps(tmp_path, monkeypatch):
    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    old = {re.sub(r"(blocks\.\d|rpn\.head\.conv)(\.0)+\.", r"\1.", k): v for k, v in theirs.state_dict().items()}
    torch.save(old, tmp_path / "coco.pth")  # with the keys of files from before torchvision 0.13
    assert convert("torchvision", tmp_path / "coco.pth", tmp_path / "ours.pth").MODEL.BACKBONE.NORM_EPS == 1e-5
    monkeypatch.setattr("detector.conversion.torchvision.digest", lambda path: "258fb6c6" + 56 * "0")
    assert convert("torchvision", tmp_path / "coco.pth", tmp_path / "ours.pth").MODEL.BACKBONE.NORM_EPS == 0
    assert loaded(tmp_path / "ours.pth")[0].backbone.bn1.eps == 0


def test_every_source_has_a_name():
    assert set(SOURCES) >= {"fcos", "torchvision", "maskrcnn-benchmark", "detectron2"}
