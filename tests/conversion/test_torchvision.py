"""torchvision's detectors, from a file of theirs to the numbers of ours: tool, checkpoint, config, model."""

import sys

import pytest
import torch
from helpers import ROOT
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList

from detector.commands import convert
from detector.config import load_config
from detector.models.heads.faster_rcnn import map_levels
from detector.tasks.trained import load_trained

sys.path.insert(0, str(ROOT / "tools/benchmark"))
peers = pytest.importorskip("peers")

FCOS, V1, V2 = "fcos_resnet50_fpn", "fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2"
RUNS = {
    # height and width of the batch, sizes of its images
    "160x224": ((160, 224), [(160, 224), (150, 197)]),
    "multiple of 128": ((384, 512), [(384, 512), (300, 401)]),
    "480x640": ((480, 640), [(480, 640), (427, 640)]),
    "800x1344": ((800, 1344), [(800, 1333)]),
}
FEWER = {
    # torchvision's argument, our key, number; a box head of four convolutions takes minutes for 1000 regions
    "rpn_post_nms_top_n_train": ("MODEL.RPN.POST_NMS_TOP_N_TRAIN", 100),
    "rpn_post_nms_top_n_test": ("MODEL.RPN.POST_NMS_TOP_N_TEST", 80),
    "box_batch_size_per_image": ("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 64),
}


class SamePixels(nn.Module):
    """In place of torchvision's own resizing and normalisation: the batch as it is."""

    def __init__(self, pixels, sizes):
        super().__init__()
        self.images = ImageList(pixels, sizes)

    def forward(self, images, targets=None):
        return self.images, targets

    def postprocess(self, result, sizes, originals):
        return result


def prepared(theirs):
    """torchvision's model with weights that find something, for pixels as they are."""
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            module.momentum = 1.0  # so that the statistics become those of the next batch
    pixels = torch.randn(1, 3, 128, 192, dtype=torch.float64)
    theirs.transform = SamePixels(pixels, [(128, 192)])
    peers.damp(theirs)
    # In training the norms of the _v2 take the batch's statistics; with quite others its logits would be large.
    with torch.no_grad():
        theirs.train().backbone(pixels)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    return peers.lively(theirs, lambda: theirs([torch.empty(3, 128, 192)]))


@pytest.fixture(scope="module", params=[FCOS, V1, pytest.param(V2, marks=pytest.mark.slow)])
def pair(request, tmp_path_factory):
    """torchvision's model and ours, made of its file by the tool; float64."""
    torch.manual_seed(0)
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    arguments = {} if name == FCOS else {key: number for key, (_, number) in FEWER.items()}
    theirs = getattr(detection, name)(weights=None, weights_backbone=None, **arguments).double()
    theirs = prepared(theirs).float().double()  # what the file can hold
    torch.save({k: v.float() for k, v in theirs.state_dict().items()}, folder / "theirs.pth")
    paths = ["--input", str(folder / "theirs.pth"), "--output", str(folder / "ours.pth")]
    convert.main(["--from", "torchvision", *paths])
    opts = [] if name == FCOS else [str(x) for pair in FEWER.values() for x in pair]
    opts += ["MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "0"] if name == V2 else []  # whose norms learn, also the first ones
    model, classes, category_ids = load_trained(load_config(folder / "ours.yaml", opts))
    return name, theirs, model.double(), classes, category_ids


def sides(boxes):
    return (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()


def batch(case, dtype=torch.float64):
    (height, width), sizes = RUNS[case]
    torch.manual_seed(3)
    images = torch.randint(0, 256, (len(sizes), 3, height, width), dtype=torch.uint8)
    targets = []
    for i, (h, w) in enumerate(sizes):
        corner = torch.rand(12, 2, dtype=dtype) * torch.tensor([w, h]) * 0.6
        side = 6 + torch.rand(12, 2, dtype=dtype) ** 2 * torch.tensor([w, h]) * 0.35
        boxes, labels = torch.cat([corner, corner + side], dim=1), torch.randint(1, 90, (12,))
        ignore = boxes.new_zeros(0, 4)
        targets.append({"boxes": boxes, "labels": labels, "ignore": ignore, "image_id": i, "original": (h, w)})
    return images, sizes, targets


SLOW = [pytest.param(case, marks=pytest.mark.slow) for case in RUNS if case != "160x224"]


@pytest.mark.parametrize("case", ["160x224", *SLOW])
def test_detections_equal_torchvisions(pair, case):
    name, theirs, model, *_ = pair
    images, sizes, _ = batch(case)
    pixels = model.normalize(images, sizes)
    theirs.eval().transform = SamePixels(pixels, sizes)
    found = []
    hook = None if name == FCOS else theirs.rpn.register_forward_hook(lambda m, i, output: found.extend(output[0]))
    with torch.no_grad():
        want = theirs(list(pixels))
        features = model.eval().neck(model.backbone(pixels))
        got = model.head.predict(features, sizes)
        if hook:
            hook.remove()
            for ours, other in zip(model.head.rpn.predict(features, sizes).boxes, found):
                torch.testing.assert_close(ours, other, rtol=0, atol=1e-4)
    first = 0 if name == FCOS else 1  # of torchvision's labels, that of our class 0
    for ours, other in zip(got, want):
        assert len(ours["boxes"]) >= 50
        if name == FCOS:  # whose boxes grow by 2 from level to level
            small, large = sides(ours["boxes"]).quantile(torch.tensor([0.05, 0.95]).double())
            assert large > 3 * small
        else:
            assert map_levels(ours["boxes"], 2, 5).unique().numel() >= 2
        assert ours["labels"].unique().numel() >= 5
        torch.testing.assert_close(ours["boxes"], other["boxes"], rtol=0, atol=1e-4)
        torch.testing.assert_close(ours["scores"], other["scores"], rtol=0, atol=1e-6)
        assert torch.equal(ours["labels"] + first, other["labels"])


@pytest.mark.parametrize("case", ["160x224", *SLOW])
def test_losses_equal_torchvisions(pair, case):
    name, theirs, model, *_ = pair
    images, sizes, targets = batch(case)
    pixels = model.normalize(images, sizes)
    theirs.train().transform = SamePixels(pixels, sizes)
    model.train()
    if name != V2:  # published with frozen norms, whatever a model without weights is built with
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    first = 0 if name == FCOS else 1
    with torch.no_grad():
        torch.manual_seed(5)
        want = theirs(list(pixels), [{"boxes": t["boxes"], "labels": t["labels"] + first} for t in targets])
        torch.manual_seed(5)  # both draw samples by torch.randperm, in the same order
        got = model.head.loss(model.neck(model.backbone(pixels)), targets, sizes)
    names = {"loss_cls": "classification", "loss_reg": "bbox_regression", "loss_centerness": "bbox_ctrness"}
    assert {names.get(key, key) for key in got} == want.keys()
    for key, value in got.items():
        assert value.item() == pytest.approx(want[names.get(key, key)].item(), rel=1e-6, abs=1e-9), key
        assert value.item() > 0


def test_pixels_and_classes_are_torchvisions(pair):
    name, _, model, classes, category_ids = pair
    images, sizes, _ = batch("160x224")
    transform = getattr(detection, name)(weights=None, weights_backbone=None, min_size=1).transform
    for image, (h, w), own in zip(images, sizes, model.normalize(images, sizes)):
        want = transform.normalize(image[:, :h, :w] / 255)
        torch.testing.assert_close(own[:, :h, :w].float(), want, rtol=0, atol=1e-5)
    assert category_ids == list(range(0 if name == FCOS else 1, 91))
    assert (classes[category_ids.index(1)], classes[category_ids.index(90)]) == ("person", "toothbrush")
    assert classes.count("N/A") == 10
