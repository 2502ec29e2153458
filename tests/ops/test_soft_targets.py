"""What a student is off its teacher: torch's own divergences put together as the papers write them."""

import math

import pytest
import torch
from torch.nn import functional as F

from detector.ops.soft_targets import DISTILL, label_loss, soft_target_loss


def logits():
    return (3 * torch.randn(6, 5, dtype=torch.float64)).requires_grad_(), 3 * torch.randn(6, 5, dtype=torch.float64)


def kl(p, q):
    """KL(p || q) of each row by torch: its first argument is log q, its second one p."""
    return F.kl_div(q.log(), p, reduction="none").sum(1)


@pytest.mark.parametrize("kind", DISTILL)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_losses_are_those_of_the_papers(kind, temperature):
    student, teacher = logits()
    s, t = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
    want = {
        "kl": lambda: kl(t, s),
        "soft_ce": lambda: F.cross_entropy(student / temperature, t, reduction="none"),
        "jeffreys": lambda: (kl(s, t) + kl(t, s)) / 2,
    }[kind]()
    got = soft_target_loss(student, teacher, kind, temperature)
    torch.testing.assert_close(got, want * temperature**2, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad(x.sum(), student)[0] for x in (got, want * temperature**2)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)
    if kind != "jeffreys":  # the one that Hinton et al. derive: T (s - t)
        torch.testing.assert_close(gradients[0], temperature * (s - t), rtol=1e-9, atol=1e-12)


def test_the_loss_of_ssld_is_half_of_jeffreys_divergence_by_hand():
    """s = (1/2, 1/2), t = (3/4, 1/4): (t - s) . log(t / s) = log(3 / 2) / 4 - log(1 / 2) / 4 = log(3) / 4."""
    student, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]])
    assert soft_target_loss(student, teacher, "jeffreys").item() == pytest.approx(math.log(3) / 8)
    assert soft_target_loss(teacher, student, "jeffreys").item() == pytest.approx(math.log(3) / 8)
    forward = math.log(3) * 3 / 4 - math.log(2)
    assert soft_target_loss(student, teacher, "kl").item() == pytest.approx(forward)


@pytest.mark.parametrize("kind", DISTILL)
def test_sure_networks_give_finite_losses(kind):
    student = torch.tensor([[-200.0, 200.0, 0.0]], requires_grad=True)
    loss = soft_target_loss(student, torch.tensor([[300.0, -100.0, 0.0]]), kind).sum()
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_labels_count_as_torchs_cross_entropy_and_what_has_none_does_not(smoothing):
    student, _ = logits()
    shares = F.one_hot(torch.tensor([0, 4, 2, 2, 1, 3]), 5).double()
    shares = 0.7 * shares + 0.3 * shares.roll(1, 0)
    want = F.cross_entropy(student, shares, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(label_loss(student, shares, smoothing), want, rtol=1e-10, atol=0)
    parts = torch.tensor([1, 0, 0.25, 1, 0, 0.5], dtype=torch.float64)
    got = label_loss(student, shares * parts[:, None], smoothing)
    torch.testing.assert_close(got, want * parts, rtol=1e-10, atol=0)
