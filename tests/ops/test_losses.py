import pytest
import torch
from torchvision.ops import generalized_box_iou, generalized_box_iou_loss, sigmoid_focal_loss

from detector.ops.boxes import encode_deltas
from detector.ops.losses import centerness_targets, delta_loss_sum, distance_iou_loss, sigmoid_focal_sum


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
def test_focal_equals_torchvision_with_gradient(gamma):
    logits = (4 * torch.randn(50, 7, dtype=torch.float64)).requires_grad_()
    rows, columns = torch.tensor([0, 3, 3, 49]), torch.tensor([6, 0, 2, 2])
    target = torch.zeros(50, 7, dtype=torch.float64)
    target[rows, columns] = 1
    want = sigmoid_focal_loss(logits, target, alpha=0.25, gamma=gamma, reduction="sum")
    got = sigmoid_focal_sum(logits, rows, columns, 0.25, gamma)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(x, logits)[0] for x in (got, want)), rtol=1e-9, atol=1e-12)


def test_focal_is_finite_at_extreme_logits():
    logits = torch.tensor([[-1e4, 1e4, -torch.inf]], requires_grad=True)
    loss = sigmoid_focal_sum(logits, torch.tensor([0]), torch.tensor([0]), 0.25, 2.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_giou_equals_torchvision_on_large_boxes():
    # The ones in FCOS's IoU vanish beside areas of 1e10 square pixels.
    predicted, target = 1e5 * (torch.rand(2, 20, 4, dtype=torch.float64) + 0.1)
    corners = [torch.cat([-d[:, :2], d[:, 2:]], dim=1) for d in (predicted, target)]
    want = 1 - generalized_box_iou(*corners).diagonal()
    torch.testing.assert_close(distance_iou_loss(predicted, target, "giou"), want, rtol=1e-8, atol=1e-8)


def test_plain_giou_equals_torchvisions_on_small_boxes():
    predicted, target = torch.rand(2, 20, 4, dtype=torch.float64) + 0.1
    corners = [torch.cat([-d[:, :2], d[:, 2:]], dim=1) for d in (predicted, target)]
    want = 1 - generalized_box_iou(*corners).diagonal()
    torch.testing.assert_close(distance_iou_loss(predicted, target, "plain_giou"), want, rtol=1e-5, atol=1e-6)
    assert (distance_iou_loss(predicted, target, "giou") - want).abs().max() > 0.1


def test_plain_giou_and_its_gradient_are_torchvisions_also_where_a_box_has_no_area():
    raw = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    raw[:20, [0, 2]] = -raw[:20, [0, 2]].abs()  # no width
    target = 4 * torch.rand(200, 4) + 0.1
    grads, losses = [], []
    for loss in (
        lambda p: distance_iou_loss(p, target, "plain_giou"),
        lambda p: generalized_box_iou_loss(*(torch.cat([-d[:, :2], d[:, 2:]], dim=1) for d in (p, target))),
    ):
        x = raw.clone().requires_grad_()
        losses.append(loss(x.relu()))
        losses[-1].sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-6)


def test_iou_losses_by_hand():
    # 2x2 inside 4x4: intersection 4, union 16, IoU (4 + 1) / (16 + 1)
    small, large = torch.ones(1, 4), 2 * torch.ones(1, 4)
    iou = torch.tensor([5 / 17])
    torch.testing.assert_close(distance_iou_loss(small, large, "linear_iou"), 1 - iou)
    torch.testing.assert_close(distance_iou_loss(small, large, "iou"), -iou.log())
    torch.testing.assert_close(distance_iou_loss(large, large, "giou"), torch.zeros(1))
    with pytest.raises(ValueError, match="choose one of iou, linear_iou, giou, plain_giou"):
        distance_iou_loss(small, large, "diou")


def test_centerness_by_hand():
    distances = torch.tensor([[5.0, 5, 5, 5], [1, 2, 4, 8], [1e-6, 1, 1, 1]])
    torch.testing.assert_close(centerness_targets(distances), torch.tensor([1, 0.25, 1e-3]))


def test_delta_losses_by_hand():
    deltas, wanted = torch.tensor([[0.0, 0.5, 2, -3]]), torch.zeros(1, 4)
    reference, weights = torch.tensor([[0.0, 0, 10, 10]]), (1, 1, 1, 1)
    # below beta x^2 / (2 beta), above |x| - beta / 2
    want = {1.0: 0.125 + 1.5 + 2.5, 2.0: 0.0625 + 1 + 2, 0.0: 5.5}
    for beta, value in want.items():
        assert delta_loss_sum(deltas, wanted, reference, weights, "smooth_l1", beta).item() == pytest.approx(value)
    assert delta_loss_sum(deltas, wanted, reference, weights, "l1", 1.0).item() == pytest.approx(5.5)
    with pytest.raises(ValueError, match="choose one of smooth_l1, l1, giou"):
        delta_loss_sum(deltas, wanted, reference, weights, "l2", 1.0)


def test_giou_of_deltas_is_that_of_the_boxes():
    corners = 50 * torch.rand(3, 20, 2, dtype=torch.float64)
    references, predicted, true = torch.cat([corners, corners + 5 + 30 * torch.rand(3, 20, 2)], dim=2)
    weights = (10, 10, 5, 5)
    coded = [encode_deltas(references, boxes, weights) for boxes in (predicted, true)]
    want = (1 - generalized_box_iou(predicted, true).diagonal()).sum()
    torch.testing.assert_close(delta_loss_sum(*coded, references, weights, "giou", 0.0), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["smooth_l1", "l1", "giou"])
def test_delta_losses_of_nothing_are_zeros_with_a_gradient(kind):
    deltas = torch.zeros(0, 4, requires_grad=True)
    loss = delta_loss_sum(deltas, torch.zeros(0, 4), torch.zeros(0, 4), (1, 1, 1, 1), kind, 0.0)
    assert loss.item() == 0
    assert loss.requires_grad
