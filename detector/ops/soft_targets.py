"""Losses against probabilities of classes, one number a picture; all expect float32 (or float64)."""

from torch import Tensor

DISTILL = ("kl", "jeffreys", "soft_ce")
"""How far a student is from its teacher; see `soft_target_loss`."""


def soft_target_loss(student: Tensor, teacher: Tensor, kind: str, temperature: float = 1.0) -> Tensor:
    """How far the classes of a student are from those of its teacher, whose logits are divided by the temperature T.

    student, teacher: logits [N, C]; with s and t the probabilities of both at T, kind is "kl": KL(t || s) (Hinton et
    al. 2015); "soft_ce": the cross entropy of s against t, which is KL(t || s) and the entropy of t, so that its
    gradient is that of "kl"; "jeffreys": (KL(t || s) + KL(s || t)) / 2, half of Jeffreys' divergence and the loss of
    SSLD (Cui et al. 2021). Each is multiplied by T ** 2, by which the gradients else shrink (Hinton et al., sec. 2).
    Returns [N] in nats.
    """
    log_s, log_t = ((logits / temperature).log_softmax(1) for logits in (student, teacher))
    if kind == "soft_ce":
        terms = -log_t.exp() * log_s
    elif kind == "kl":
        terms = log_t.exp() * (log_t - log_s)
    else:
        terms = 0.5 * (log_t.exp() - log_s.exp()) * (log_t - log_s)
    return terms.sum(1) * temperature**2


def label_loss(logits: Tensor, shares: Tensor, smoothing: float = 0.0) -> Tensor:
    """The cross entropy of logits [N, C] against shares [N, C] of true labels.

    A row of shares adds up to what of a picture has a label: 1, or 0 for one without, whose loss is 0. smoothing: of
    each label, what is spread over all classes (Szegedy et al. 2016, sec. 7). Returns [N] in nats.
    """
    spread = shares * (1 - smoothing) + shares.sum(1, keepdim=True) * smoothing / shares.shape[1]
    return -(spread * logits.log_softmax(1)).sum(1)
