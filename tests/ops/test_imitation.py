"""The losses of distillation, against their formulas written out in numpy."""

import numpy as np
import pytest
import torch

from detector.ops.imitation import channel_divergence, pearson_loss


def maps(*shape, seed=0, scale=1.0, offset=0.0):
    return torch.from_numpy(np.random.default_rng(seed).normal(offset, scale, shape)).float()


def pkd(student, teacher):
    """Channel by channel over images and cells: mean 0, deviation 1, then half the mean of the squared differences."""
    squares = []
    for k in range(student.shape[1]):
        pair = [x[:, k].ravel().astype(np.float64) for x in (student, teacher)]
        ours, theirs = ((x - x.mean()) / (x.std(ddof=1) + 1e-6) for x in pair)
        squares.extend((ours - theirs) ** 2)
    return np.mean(squares) / 2


def cwd(student, teacher, t):
    """Image by image, channel by channel: KL(teacher || student) over the cells, times t squared."""
    total = 0.0
    for n in range(student.shape[0]):
        for k in range(student.shape[1]):
            ours, theirs = (np.exp(x[n, k].ravel().astype(np.float64) / t) for x in (student, teacher))
            p, q = theirs / theirs.sum(), ours / ours.sum()
            total += (p * np.log(p / q)).sum()
    return total * t**2 / (student.shape[0] * student.shape[1])


def bilinear(x, height, width):
    """Resized so that the corners of the whole maps lie on each other, borders continued."""
    out = np.zeros((*x.shape[:2], height, width))
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * x.shape[2] / height - 0.5, 0), x.shape[2] - 1)
            z = min(max((j + 0.5) * x.shape[3] / width - 0.5, 0), x.shape[3] - 1)
            a, b = int(y), int(z)
            c, d = min(a + 1, x.shape[2] - 1), min(b + 1, x.shape[3] - 1)
            top = x[..., a, b] * (1 - (z - b)) + x[..., a, d] * (z - b)
            low = x[..., c, b] * (1 - (z - b)) + x[..., c, d] * (z - b)
            out[..., i, j] = top * (1 - (y - a)) + low * (y - a)
    return out


PAIR = maps(3, 4, 5, 6), maps(3, 4, 5, 6, seed=1, scale=3, offset=2)


def test_pkd_is_its_formula():
    student, teacher = PAIR
    assert pearson_loss(student, teacher).item() == pytest.approx(pkd(student.numpy(), teacher.numpy()), rel=1e-6)


def test_pkd_is_one_minus_the_correlation():
    student, teacher = PAIR
    rows = [(a.ravel(), b.ravel()) for a, b in zip(student.numpy().swapaxes(0, 1), teacher.numpy().swapaxes(0, 1))]
    correlation = np.mean([np.corrcoef(a, b)[0, 1] for a, b in rows])
    assert pearson_loss(student, teacher).item() == pytest.approx((1 - correlation) * 89 / 90, rel=1e-5)


def test_pkd_sees_neither_scales_nor_offsets():
    student, teacher = PAIR
    other = (
        student * torch.tensor([0.01, 5.0, 100.0, 1.0])[:, None, None] + torch.tensor([3.0, -9.0, 0, 1])[:, None, None]
    )
    want = pearson_loss(student, teacher).item()
    assert pearson_loss(other, teacher).item() == pytest.approx(want, rel=1e-3)
    assert pearson_loss(student, 7 * teacher - 4).item() == pytest.approx(want, rel=1e-5)
    assert pearson_loss(-student, teacher).item() != pytest.approx(want, rel=1e-2)


@pytest.mark.parametrize("t", [1.0, 0.5, 4.0])
def test_cwd_is_its_formula(t):
    student, teacher = PAIR
    want = cwd(student.numpy(), teacher.numpy(), t)
    assert channel_divergence(student, teacher, t).item() == pytest.approx(want, rel=1e-5)


def test_cwd_sees_scales_and_no_offsets():
    student, teacher = PAIR
    want = channel_divergence(student, teacher).item()
    assert channel_divergence(student + 5, teacher - 3).item() == pytest.approx(want, rel=1e-4)
    assert channel_divergence(student * 2, teacher).item() != pytest.approx(want, rel=1e-2)
    assert channel_divergence(teacher, student).item() != pytest.approx(want, rel=1e-2)  # it has a direction


@pytest.mark.parametrize("loss", [pearson_loss, channel_divergence])
def test_equal_maps_are_at_distance_0(loss):
    student = PAIR[0].clone().requires_grad_()
    found = loss(student, student.detach().clone())
    found.backward()
    assert abs(found.item()) < 1e-9
    assert student.grad.abs().max() < 1e-8


@pytest.mark.parametrize(("loss", "formula"), [(pearson_loss, pkd), (channel_divergence, lambda a, b: cwd(a, b, 1))])
def test_a_student_of_another_size_is_resized(loss, formula):
    student, teacher = maps(2, 3, 4, 5), maps(2, 3, 7, 10, seed=1)
    want = formula(bilinear(student.numpy(), 7, 10), teacher.numpy())
    assert loss(student, teacher).item() == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("loss", [pearson_loss, channel_divergence])
def test_gradients_are_those_of_the_values(loss):
    student, teacher = maps(2, 2, 3, 2).double().requires_grad_(), maps(2, 2, 4, 4, seed=1).double()
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher), (student,))


@pytest.mark.parametrize("side", [1, 3])
def test_constant_channels_teach_nothing_and_break_nothing(side):
    student = torch.full((1, 2, side, side), 3.0, requires_grad=True)
    teacher = maps(1, 2, side, side)
    for loss in (pearson_loss(student, teacher), pearson_loss(student, torch.zeros_like(teacher))):
        assert torch.isfinite(loss)
        (gradient,) = torch.autograd.grad(loss, student)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("loss", [pearson_loss, channel_divergence])
def test_half_precision_is_widened(loss):
    student, teacher = (100 * x for x in PAIR)
    found = loss(student.bfloat16(), teacher.half())
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(loss(student.bfloat16().float(), teacher.half().float()).item())
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(student, teacher).item()
    assert inside == pytest.approx(loss(student, teacher).item(), rel=1e-6)


@pytest.mark.parametrize("loss", [pearson_loss, channel_divergence])
def test_it_is_a_mean_over_the_images_that_are_named(loss):
    student, teacher = PAIR
    assert loss(student, teacher, images=torch.tensor(6.0)).item() == pytest.approx(loss(student, teacher).item() / 2)


@pytest.mark.parametrize("loss", [pearson_loss, channel_divergence])
@pytest.mark.parametrize("shape", [(3, 5, 5, 6), (2, 4, 5, 6), (3, 4, 30)])
def test_other_images_or_channels_are_refused(loss, shape):
    with pytest.raises(ValueError, match=r"a student's map is .* and its teacher's \(3, 4, 5, 6\)"):
        loss(maps(*shape), PAIR[1])
