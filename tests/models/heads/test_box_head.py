"""The box head's forms against torchvision's."""

import pytest
import torch
from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead

from detector.models.heads.box_head import BoxHead


def test_four_convolutions_and_a_layer_equal_torchvisions():
    theirs = FastRCNNConvFCHead((16, 7, 7), [24] * 4, [32], norm_layer=nn.BatchNorm2d).double()
    ours = BoxHead(16, 7, 3, num_conv=4, conv_head_dim=24, num_fc=1, mlp_head_dim=32, norm="bn").double()
    source = list(theirs.state_dict().values())
    own = {k: v for k, v in ours.state_dict().items() if not k.startswith(("cls_logits", "deltas"))}
    assert [tuple(v.shape) for v in own.values()] == [tuple(v.shape) for v in source]
    ours.load_state_dict(dict(zip(own, source)), strict=False)
    x = torch.randn(5, 16, 7, 7).double()
    for mode in (True, False):
        theirs.train(mode), ours.train(mode)
        wide = theirs(x)
        logits, deltas = ours(x)
        torch.testing.assert_close(logits, ours.cls_logits(wide))
        torch.testing.assert_close(deltas.flatten(1), ours.deltas(wide))


@pytest.mark.parametrize("norm", ["none", "bn", "sync_bn", "gn"])
def test_norms_follow_their_convolutions(norm):
    head = BoxHead(8, 7, 3, num_conv=2, conv_head_dim=8, num_fc=0, norm=norm)
    assert [type(m).__name__ for m in head.convs][::-1][0] == "ReLU"
    assert len(head.convs) == (4 if norm == "none" else 6)
    assert all((m.bias is None) == (norm != "none") for m in head.convs if isinstance(m, nn.Conv2d))
    logits, deltas = head(torch.randn(4, 8, 7, 7))
    assert (logits.shape, deltas.shape) == ((4, 4), (4, 3, 4))


def test_an_unknown_norm_names_its_key():
    with pytest.raises(ValueError, match=r"MODEL\.ROI_BOX_HEAD\.NORM is 'ln'"):
        BoxHead(8, 7, 3, num_conv=1, norm="ln")
