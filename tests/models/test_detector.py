import pytest
import torch
from helpers import ROOT
from helpers.inputs import target

from detector.config import load_config
from detector.models.build import build_detector
from detector.models.norm import FrozenNorm

TINY = [
    *("MODEL.BACKBONE.NAME", "resnet18", "MODEL.NUM_CLASSES", "3", "MODEL.NECK.OUT_CHANNELS", "64"),
    *("MODEL.FCOS.NUM_CONVS", "1", "MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "0"),
]


def tiny(*opts):
    return build_detector(load_config(None, [*TINY, *opts]))


def test_pixels_are_normalised_and_padding_is_zero():
    images = torch.full((2, 3, 8, 8), 200, dtype=torch.uint8)
    images[:, 0] = 255
    x = tiny().normalize(images, [(8, 8), (4, 6)])
    assert x[0, 0, 0, 0].item() == pytest.approx((255 / 255 - 0.485) / 0.229, abs=1e-4)
    assert x[0, 2, 7, 7].item() == pytest.approx((200 / 255 - 0.406) / 0.225, abs=1e-4)
    assert (x[1, :, 4:] == 0).all()
    assert (x[1, :, :, 6:] == 0).all()
    assert (x[1, :, :4, :6] == x[0, :, :4, :6]).all()


def test_caffe_weights_see_bgr():
    model = build_detector(load_config(None, ["MODEL.BACKBONE.NAME", "resnet50_caffe"]))
    images = torch.arange(3, dtype=torch.uint8).view(1, 3, 1, 1)
    x = model.normalize(images, [(1, 1)]).flatten().tolist()
    assert x == pytest.approx([2 - 102.9801, 1 - 115.9465, 0 - 122.7717], abs=1e-4)


def test_a_config_may_have_its_own_pixel_statistics():
    model = tiny("INPUT.PIXEL_MEAN", "[1, 2, 3]", "INPUT.PIXEL_STD", "[2, 2, 4]")
    x = model.normalize(torch.full((1, 3, 1, 1), 11, dtype=torch.uint8), [(1, 1)])
    assert x.flatten().tolist() == [5, 4.5, 2]


def test_frozen_norms_take_their_eps_from_the_record_or_the_config():
    def eps(*opts):
        return {m.eps for m in tiny(*opts).modules() if isinstance(m, FrozenNorm)}

    assert eps() == {1e-5}
    assert eps("MODEL.BACKBONE.NORM_EPS", "0") == {0.0}
    assert eps("MODEL.BACKBONE.NAME", "resnet50_caffe") == {0.0}
    assert eps("MODEL.BACKBONE.NAME", "resnet50_caffe", "MODEL.BACKBONE.NORM_EPS", "0.001") == {0.001}
    with pytest.raises(
        ValueError, match=r"MODEL\.BACKBONE\.NORM_EPS 0\.001 is for NORM frozen_bn; with gn set it to -1"
    ):
        tiny("MODEL.BACKBONE.NORM", "gn", "MODEL.BACKBONE.NORM_EPS", "0.001")


FEW = ("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "64", "MODEL.RPN.POST_NMS_TOP_N_TEST", "100")
RESNEST_RECIPE = ("MODEL.BACKBONE.NORM", "sync_bn", "MODEL.NECK.NORM", "sync_bn", "MODEL.ROI_BOX_HEAD.NORM", "sync_bn")


@pytest.mark.parametrize(
    "opts",
    [
        ("MODEL.ROI_BOX_HEAD.NUM_CONV", "4", "MODEL.ROI_BOX_HEAD.NUM_FC", "1", *RESNEST_RECIPE),
        ("MODEL.ROI_HEADS.CASCADE_IOUS", "0.5,0.6,0.7", "MODEL.CLS_AGNOSTIC_BBOX_REG", "True"),
        ("MODEL.ROI_HEADS.NMS_METHOD", "soft_linear", "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "giou"),
    ],
)
def test_options_of_faster_rcnn_train_from_the_config(opts):
    cfg = load_config(
        ROOT / "configs/base/faster_rcnn.yaml", [*TINY[:6], "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", "32", *FEW, *opts]
    )
    model = build_detector(cfg)
    images = torch.randint(0, 255, (2, 3, 64, 96), dtype=torch.uint8)
    losses = model(images, [(64, 96)] * 2, [target([[8, 8, 40, 40]], [1]), target()])
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)
    assert len(model.eval()(images, [(64, 96)] * 2)) == 2


@pytest.mark.parametrize("training", [True, False])
def test_targets_decide_what_comes_out_not_the_mode(training):
    model = tiny().train(training)
    images = torch.randint(0, 255, (1, 3, 64, 96), dtype=torch.uint8)
    losses = model(images, [(64, 96)], [target([[8, 8, 40, 40]], [1])])
    assert set(losses) == {"loss_cls", "loss_reg", "loss_centerness"}
    (detection,) = model(images, [(64, 96)])
    assert set(detection) == {"boxes", "labels", "scores"}


def test_detections_lie_inside_the_image_and_descend():
    model = tiny("MODEL.FCOS.PRIOR_PROB", "0.3").eval()
    images = torch.randint(0, 255, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        detections = model(images, [(64, 96), (50, 70)])
    for detection, (height, width) in zip(detections, [(64, 96), (50, 70)]):
        boxes = detection["boxes"]
        assert 0 < len(boxes) <= 100
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= width).all()
        assert (boxes[:, 3] <= height).all()
        assert (detection["scores"].diff() <= 0).all()
        assert ((detection["scores"] > 0) & (detection["scores"] <= 1)).all()
        assert ((detection["labels"] >= 0) & (detection["labels"] < 3)).all()


def test_the_memory_format_does_not_change_the_numbers():
    images = torch.randint(0, 255, (1, 3, 64, 96), dtype=torch.uint8)
    plain = tiny("MODEL.CHANNELS_LAST", "False").double()
    last = tiny().double()
    last.load_state_dict(plain.state_dict())
    assert last.backbone.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    truth = [target([[8, 8, 40, 40]], [1])]
    for key, value in plain(images, [(64, 96)], truth).items():
        torch.testing.assert_close(last(images, [(64, 96)], truth)[key], value, rtol=1e-9, atol=1e-12)


def test_unknown_parts_suggest_near_names():
    with pytest.raises(KeyError, match=r"unknown backbone 'resnet51'; close: .*resnet50"):
        tiny("MODEL.BACKBONE.NAME", "resnet51")
    with pytest.raises(KeyError, match="unknown head 'fcoss'; close: fcos"):
        tiny("MODEL.HEAD.NAME", "fcoss")
    with pytest.raises(ValueError, match=r"MODEL\.NECK\.SOURCES \('c3', 'c7'\): resnet18 has .*c5"):
        tiny("MODEL.NECK.SOURCES", "('c3', 'c7')")


def test_passes_cost_no_parameter():
    once, twice = tiny(), tiny("MODEL.BACKBONE.PASSES", "2")
    assert {k: v.shape for k, v in once.state_dict().items()} == {k: v.shape for k, v in twice.state_dict().items()}
    twice.load_state_dict(once.state_dict())
    x = torch.randn(1, 3, 64, 64)
    assert not torch.allclose(once.backbone(x)["c5"], twice.backbone(x)["c5"])
