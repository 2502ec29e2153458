import math

import pytest
import torch
from torch import nn

from detector.engine.ema import average_weights
from detector.engine.optim import make_optimizer
from detector.models.backbones import build_classifier
from detector.tasks.recipe import Recipe, build_mix, parameter_groups, rate_factor


def recipe(**more):
    return Recipe("resnet10", "data", "output", **more)


def test_home_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    found = Recipe("resnet10", "~/data", "~/out", teacher="b", teacher_weight="w", distill="kl", unlabelled=["~/more"])
    assert (found.data, found.output, found.unlabelled) == ("/home/me/data", "/home/me/out", ("/home/me/more",))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"epochs": 0}, "--epochs is 0; it must be 1 or more"),
        ({"batch_size": 0}, "--batch-size is 0; it must be 1 or more"),
        ({"lr": 0.0}, "--lr is 0.0; it must be above 0"),
        ({"lr": -1.0}, "--lr is -1.0"),
        ({"lr": math.nan}, "--lr is nan"),
        ({"lr": math.inf}, "--lr is inf"),
        ({"momentum": 1.0}, "--momentum is 1.0; it must be 0 or more and below 1"),
        ({"weight_decay": -0.1}, "--weight-decay is -0.1"),
        ({"warmup_epochs": -1.0}, "--warmup-epochs is -1.0"),
        ({"epochs": 5, "warmup_epochs": 5.0}, "--warmup-epochs is 5.0; it must be 0 or more, below --epochs 5"),
        ({"label_smoothing": 1.0}, "--label-smoothing is 1.0; it must be 0 or more and below 1"),
        ({"label_smoothing": -0.1}, "--label-smoothing is -0.1"),
        ({"ema": 1.0}, "--ema is 1.0"),
        ({"ema": math.nan}, "--ema is nan"),
        ({"patience": -1}, "--patience is -1; it must be 0 or more"),
        ({"mixup": -0.2}, "--mixup is -0.2; it must be 0 or more"),
        ({"cutmix": math.inf}, "--cutmix is inf"),
        ({"workers": -1}, "--workers is -1"),
        ({"seed": -1}, "--seed is -1"),
        ({"passes": -1}, "--passes is -1"),
        ({"checkpoint_steps": -1}, "--checkpoint-steps is -1"),
        ({"checkpoint_stages": (1, 5)}, "--checkpoint-stages is (1, 5); it must be numbers from 1 to 4"),
        ({"optimizer": "adam"}, "--optimizer is adam; it must be one of sgd, adamw"),
        ({"amp": "fp8"}, "--amp is fp8; it must be one of off, bf16, fp16"),
        ({"teacher_amp": "fp8"}, "--teacher-amp is fp8"),
        ({"stage_lr_factors": (0.1, 0.2)}, "--stage-lr-factors is (0.1, 0.2); it must be five numbers above 0"),
        ({"stage_lr_factors": (0.1, 0.2, 0.3, 0.4, 0.0)}, "--stage-lr-factors is (0.1, 0.2, 0.3, 0.4, 0.0)"),
        ({"temperature": 0.0}, "--temperature is 0.0; it must be above 0"),
        ({"labels": 1.0}, "--labels is 1.0; it must be 0 or more and below 1"),
        ({"teacher": "resnet18"}, "--teacher resnet18 needs its weights: write --teacher-weight FILE, or imagenet"),
        (
            {"teacher": "resnet18", "teacher_weight": "imagenet", "distill": "js"},
            "--distill is js; it must be one of kl, jeffreys, soft_ce",
        ),
        ({"teacher_weight": "imagenet"}, "--teacher-weight is for a student: write --teacher NAME, or leave it out"),
        ({"distill": "kl"}, "--distill is for a student"),
        ({"labels": 0.5}, "--labels is for a student"),
        ({"unlabelled": ("more",)}, "--unlabelled is for a student"),
        ({"temperature": 2.0}, "--temperature is for a student: write --teacher NAME, or leave it out"),
        ({"teacher_amp": "bf16"}, "--teacher-amp is for a student: write --teacher NAME, or leave it out"),
    ],
)
def test_nonsense_is_refused(settings, match):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text follows
        recipe(**settings)
    assert str(caught.value).startswith(match)


def test_a_teacher_teaches_by_kl_where_nothing_is_named():
    assert recipe().distill == ""
    assert recipe(teacher="resnet18", teacher_weight="imagenet").distill == "kl"
    assert recipe(teacher="resnet18", teacher_weight="imagenet", distill="soft_ce").distill == "soft_ce"


def test_rate_and_decay_follow_optimiser_and_batch():
    assert (recipe(batch_size=64).lr, recipe(batch_size=512).lr) == (0.025, 0.2)
    assert [recipe(optimizer="adamw", batch_size=size).lr for size in (256, 64, 1024)] == [0.001, 0.0005, 0.002]
    assert (recipe().weight_decay, recipe(optimizer="adamw").weight_decay) == (1e-4, 0.05)
    assert [recipe(epochs=epochs).warmup_epochs for epochs in (90, 10, 1)] == [5.0, 1.0, 0.1]
    assert (recipe(lr=0.3).lr, recipe(weight_decay=0.0).weight_decay) == (0.3, 0.0)


def test_the_rate_rises_linearly_and_falls_as_half_a_cosine():
    factors = [rate_factor(step, 14, 4) for step in range(14)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[9] == pytest.approx(0.5)  # half way
    assert factors[13] == pytest.approx(0.5 * (1 + math.cos(0.9 * math.pi)))
    assert sorted(factors[4:], reverse=True) == factors[4:]
    assert rate_factor(14, 14, 4) == 0
    assert rate_factor(0, 10, 0) == 1


@pytest.mark.parametrize("norm", ["bn", "gn"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_only_convolutions_and_linear_weights_decay(norm, optimizer):
    settings = recipe(optimizer=optimizer, lr=0.1, weight_decay=0.5)
    model = build_classifier("resnet10", 3, norm)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    make_optimizer(optimizer, parameter_groups(model, settings), 0.9).step()
    decayed = {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    assert len(decayed) == 13
    for name, value in model.named_parameters():
        want = before[name] * (1 - 0.1 * 0.5) if name in decayed else before[name]
        torch.testing.assert_close(value.detach(), want, msg=name)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(1, 1, bias=False)
        self.bn = nn.BatchNorm1d(1)


def test_the_average_follows_the_recursion_in_weights_and_statistics():
    model = Net()
    average = average_weights(model, 0.75)
    weights, means = [4.0, 8.0, -2.0], [0.0, 1.0, 3.0]
    for step, (weight, mean) in enumerate(zip(weights, means)):
        nn.init.constant_(model.fc.weight, weight)
        model.bn.running_mean.fill_(mean)
        model.bn.num_batches_tracked.fill_(step + 1)
        average.update_parameters(model)
    # 4; 0.75 * 4 + 0.25 * 8 = 5; 0.75 * 5 + 0.25 * -2 = 3.25, and 0; 0.25; 0.75 * 0.25 + 0.25 * 3 = 0.9375
    assert average.module.fc.weight.item() == 3.25
    assert average.module.bn.running_mean.item() == 0.9375
    assert average.module.bn.num_batches_tracked.item() == 3
    assert average.module.bn.num_batches_tracked.dtype == torch.int64
    assert model.fc.weight.item() == -2


@pytest.mark.parametrize("settings", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixed_pictures_and_labels_tell_the_same_share(settings):
    mix = build_mix(recipe(**settings), 5)
    labels = torch.tensor([0, 3, 1, 4])
    values = torch.tensor([10.0, 20.0, 30.0, 40.0, 50.0])
    pictures = values[labels].view(-1, 1, 1, 1).expand(-1, 3, 16, 16).contiguous()
    kinds = set()
    for _ in range(40):
        mixed, shares = mix(pictures.clone(), labels)
        assert shares.shape == (4, 5)
        torch.testing.assert_close(shares.sum(1), torch.ones(4))
        # Every picture has one value, that of its class: the mean tells how much of which class is in it.
        torch.testing.assert_close(mixed.mean((1, 2, 3)), shares @ values)
        if ((shares > 0.01).sum(1) == 2).all():  # CutMix keeps the values, mixup makes new ones
            kinds.add("cutmix" if torch.isin(mixed, values).all() else "mixup")
    assert kinds == set(settings)


def test_without_mixing_batches_stay_as_they_are():
    images, labels = torch.rand(2, 3, 4, 4), torch.tensor([0, 1])
    got = build_mix(recipe(), 2)(images, labels)
    assert got[0] is images
    assert got[1] is labels


@pytest.mark.parametrize("factors", [(0.1, 0.1, 0.2, 0.2, 0.3), (0.1, 0.1, 0.2, 0.2, 0.3, 2.0)])
def test_stages_of_a_classifier_have_their_own_rates(factors):
    model = build_classifier("resnet10", 3)
    groups = parameter_groups(model, recipe(lr=0.5, stage_lr_factors=factors))
    names = ("conv1 bn1", "layer1", "layer2", "layer3", "layer4", "fc")
    want = {name: factor for some, factor in zip(names, (*factors, 1.0)) for name in some.split()}
    rates = {id(p): (group["lr"], group["base_lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    for name, p in model.named_parameters():
        rate = 0.5 * want[name.split(".")[0]]
        assert rates[id(p)] == pytest.approx((rate, rate, 1e-4 if p.ndim > 1 else 0)), name
    assert len(rates) == len(list(model.parameters()))
    assert groups[0]["lr"] == 0.5 * want["fc"]
