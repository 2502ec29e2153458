"""How far a feature map is from that of a teacher: losses of distillation."""

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.distributed import sum_over, sum_with_gradient

EPS = 1e-6
"""Added to the deviation of a channel."""


def pearson_loss(student: Tensor, teacher: Tensor, images: Tensor | float | None = None) -> Tensor:
    """PKD: half the mean squared difference of maps whose channels are standardised. Cao et al. 2022.

    That is 1 - r, the mean of the correlations of the channels, but for (n - 1) / n. student and teacher [N, K, H, W],
    whose scales and offsets do not matter; of other sizes, the student's is resized. Mean and deviation of a channel
    are those of the images of all processes. images: how many the loss is a mean over in each of them; None: N.
    Raises ValueError for other shapes.
    """
    student, teacher = _alike(student, teacher)
    squares = (_standardised(student) - _standardised(teacher)).square().sum()
    return squares / (2 * teacher[0].numel() * (len(teacher) if images is None else images))


def channel_divergence(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, images: Tensor | float | None = None
) -> Tensor:
    """CWD: the divergence of channels as distributions over their cells. Shu et al. 2021.

    KL(teacher || student) of the softmax over H x W at a temperature, times its square, as a mean over channels and
    images. Arguments as in `pearson_loss`, but for scales, which matter.
    """
    student, teacher = _alike(student, teacher)
    ours, wanted = (F.log_softmax(x.flatten(2) / temperature, dim=2) for x in (student, teacher))
    total = F.kl_div(ours, wanted, reduction="sum", log_target=True)
    return total * temperature**2 / (student.shape[1] * (len(teacher) if images is None else images))


def _standardised(x: Tensor) -> Tensor:
    """Channels of mean 0 and deviation 1 over the images and cells of all processes; constant ones are 0."""
    count = sum_over(x.new_full((), x[:, 0].numel()))
    centred = x - (sum_with_gradient(x.sum((0, 2, 3))) / count)[:, None, None]
    variance = sum_with_gradient(centred.square().sum((0, 2, 3))) / (count - 1).clamp(min=1)
    # The root of 0 has no gradient.
    return centred / (variance.clamp(min=EPS**4).sqrt() + EPS)[:, None, None]


def _alike(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float32 at least, and of the teacher's size."""
    if student.ndim != 4 or student.shape[:2] != teacher.shape[:2]:
        raise ValueError(f"a student's map is {tuple(student.shape)} and its teacher's {tuple(teacher.shape)}")
    student, teacher = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (student, teacher))
    if student.shape[2:] != teacher.shape[2:]:
        student = F.interpolate(student, size=teacher.shape[2:], mode="bilinear", align_corners=False)
    return student, teacher
