"""Bytes of tensors by part, with hand-worked numbers."""

import torch
from torchvision.ops import deform_conv2d

from detector.analysis.memory import Ledger


def test_live_and_peak_follow_the_storages():
    with Ledger() as ledger:
        ledger.part = "a"
        x = torch.zeros(1000)
        ledger.part = "b"
        y = x + 1
        view = y[10:20]
        assert (ledger.total, ledger.peak) == (8000, 8000)
        del y
        assert ledger.total == 8000  # the view holds it
        del view
        assert (ledger.total, ledger.peak) == (4000, 8000)
        assert ledger.at_peak == {"a": 4000, "b": 4000}
        ledger.restart()
        assert (ledger.peak, +ledger.at_peak) == (4000, {"a": 4000})
        x += 1
        assert ledger.peak == 4000  # in place
    assert x.sum() == 1000


def test_a_tensor_that_was_there_is_counted_when_it_is_noted_and_moves():
    x = torch.zeros(250)
    with Ledger() as ledger:
        ledger.note(x, "weights")
        ledger.note(x.view(10, 25), "other")
        assert ledger.live == {"weights": 1000}
        ledger.move(x, "gradients")
        assert +ledger.live == {"gradients": 1000}
        ledger.move(torch.Tensor(), "nobody")
        assert ledger.total == 1000
    del x
    assert ledger.total == 0
    assert not any(ledger.live.values())


def test_what_autograd_keeps_is_counted_until_it_goes():
    x = torch.randn(1000, requires_grad=True)
    with Ledger() as ledger:
        y = x.exp()  # keeps its output
        total = y.sum()
        del y
        assert ledger.total == 4004
        total.backward()
        assert ledger.peak >= 8004
        del total
        assert ledger.total == 4000
        assert x.grad is not None


def test_the_columns_of_a_deformable_convolution_count():
    x, offsets = torch.zeros(34, 4, 5, 6), torch.zeros(34, 18, 3, 2)
    with Ledger() as ledger:
        deform_conv2d(x, offsets, torch.zeros(7, 4, 3, 3), stride=(2, 3), padding=(1, 1))
    # 17 images at a time, as 34 are more than 32; beside them the output, the filters, a mask and a bias of nothing
    assert ledger.peak == 4 * (17 * 4 * 9 * 3 * 2 + 34 * 7 * 3 * 2 + 34 + 7 + 7 * 4 * 9)
