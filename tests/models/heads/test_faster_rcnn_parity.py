"""Faster R-CNN with torchvision's weights gives torchvision's numbers."""

import pytest
import torch
from helpers.inputs import features_for, target
from helpers.two_stage import CHANNELS, LEVELS, faster_rcnn, torchvision_state
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RPNHead

from detector.models.heads.faster_rcnn import map_levels

TORCHVISION = {"pooler_aligned": False, "smooth_l1_beta": 1 / 9}


@pytest.fixture(scope="module")
def pair():
    """torchvision's model with small parts after the pyramid, and our head with its weights; float64."""
    torch.manual_seed(0)
    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91).double()
    theirs.rpn.head = RPNHead(CHANNELS, 3).double()
    theirs.roi_heads.box_head = TwoMLPHead(CHANNELS * 49, 32).double()
    theirs.roi_heads.box_predictor = FastRCNNPredictor(32, 91).double()
    head = faster_rcnn(90, rpn_options={"anchors_rounded": True, "padded_strides": True}, **TORCHVISION).double()
    for part, std in ((theirs.rpn.head.cls_logits, 0.1), (theirs.rpn.head.bbox_pred, 0.05)):
        torch.nn.init.normal_(part.weight, std=std)
    torch.nn.init.normal_(theirs.rpn.head.conv[0][0].weight, std=0.1)
    weight = torch.nn.init.normal_(theirs.roi_heads.box_predictor.cls_score.weight, std=1.5)
    with torch.no_grad():  # what all regions have in common, being rectified, would decide for one class
        weight -= weight.mean(1, keepdim=True)
    torch.nn.init.normal_(theirs.roi_heads.box_predictor.bbox_pred.weight, std=0.5)
    head.load_state_dict(torchvision_state(theirs.state_dict()))
    return theirs, head


def varied_features(height, width):
    """Features that are stronger on coarse levels, whose few cells would else never reach the highest scores."""
    features = features_for(LEVELS, height, width)
    return {name: 1.7**i * x.double() for i, (name, x) in enumerate(features.items())}


CASES = {
    "800x1344": ((800, 1344), [(800, 1333), (750, 1300)]),
    "480x640": ((480, 640), [(480, 640), (427, 640)]),
    "multiple of 128": ((384, 512), [(384, 512), (300, 401)]),
}


@pytest.mark.parametrize("case", CASES)
def test_proposals_and_detections_equal_torchvisions(pair, case):
    theirs, head = pair
    (height, width), sizes = CASES[case]
    features = varied_features(height, width)
    images = ImageList(torch.empty(2, 3, height, width), sizes)
    theirs.eval()
    with torch.no_grad():
        named = dict(zip(["0", "1", "2", "3", "pool"], features.values()))
        want_proposals, _ = theirs.rpn(images, named)
        want, _ = theirs.roi_heads(named, want_proposals, sizes)
        proposals = head.rpn.predict(features, sizes).boxes
        got = head.predict(features, sizes)
    for i in range(2):
        torch.testing.assert_close(proposals[i], want_proposals[i], rtol=0, atol=1e-4)
        torch.testing.assert_close(got[i]["boxes"], want[i]["boxes"], rtol=0, atol=1e-4)
        torch.testing.assert_close(got[i]["scores"], want[i]["scores"], rtol=0, atol=1e-6)
        assert torch.equal(got[i]["labels"] + 1, want[i]["labels"])
        assert len(got[i]["boxes"]) >= 50
        assert len(map_levels(proposals[i], 2, 5).unique()) >= 3
        assert got[i]["labels"].unique().numel() >= 5
        assert len(map_levels(got[i]["boxes"], 2, 5).unique()) >= 2


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_equal_torchvisions(pair, case):
    theirs, head = pair
    (height, width), sizes = CASES[case]
    features = varied_features(height, width)
    targets = []
    for h, w in sizes:
        corner = torch.rand(12, 2) * torch.tensor([w, h]) * 0.7
        side = 8 + torch.rand(12, 2) * torch.tensor([w, h]) * 0.25
        boxes = torch.cat([corner, corner + side], dim=1)
        targets.append(target(boxes, torch.randint(90, (12,))))
    named = dict(zip(["0", "1", "2", "3", "pool"], features.values()))
    shifted = [{"boxes": t["boxes"].double(), "labels": t["labels"] + 1} for t in targets]
    theirs.train()
    torch.manual_seed(5)
    proposals, want = theirs.rpn(ImageList(torch.empty(2, 3, height, width), sizes), named, shifted)
    want |= theirs.roi_heads(named, proposals, sizes, shifted)[1]
    torch.manual_seed(5)  # both draw samples by torch.randperm, in the same order
    got = head.loss(features, targets, sizes)
    assert got.keys() == want.keys()
    for name, value in got.items():
        assert value.item() == pytest.approx(want[name].item(), rel=1e-6, abs=1e-9), name
        assert value.item() > 0
    for model, losses in ((theirs, want), (head, got)):
        model.zero_grad()
        sum(losses.values()).backward()
    grads = torchvision_state({k: p.grad for k, p in theirs.named_parameters()})
    for name, parameter in head.named_parameters():
        torch.testing.assert_close(parameter.grad, grads[name], rtol=1e-6, atol=1e-9)
