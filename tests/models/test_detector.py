import pytest
import torch

from detector.config import load_config
from detector.models.build import build_detector

TINY = [
    *("MODEL.BACKBONE.NAME", "resnet18", "MODEL.NUM_CLASSES", "3", "MODEL.NECK.OUT_CHANNELS", "64"),
    *("MODEL.FCOS.NUM_CONVS", "1", "MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "0"),
]


def tiny(*opts):
    return build_detector(load_config(None, [*TINY, *opts]))


def target(boxes=(), labels=()):
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "ignore": torch.zeros(0, 4),
        "image_id": 1,
        "original": (64, 96),
    }


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
