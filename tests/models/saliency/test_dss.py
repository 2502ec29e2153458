"""DSS: the form of the authors' network, its losses and its maps."""

import pytest
import torch
import torch.nn.functional as F

from detector.models.saliency.dss import DSS
from detector.structures import Level, MaskTarget

RESNET = {"c1": Level(64, 2), "c2": Level(256, 4), "c3": Level(512, 8), "c4": Level(1024, 16), "c5": Level(2048, 32)}
SMALL = {f"c{i}": Level(2 * i, 2**i) for i in range(1, 6)}


def features(levels, height=64, width=96, number=2):
    size = {name: (-(-height // level.stride), -(-width // level.stride)) for name, level in levels.items()}
    return {name: torch.randn(number, level.channels, *size[name]) for name, level in levels.items()}


def targets(*sizes):
    return [
        MaskTarget(mask=(torch.rand(size) > 0.6).byte(), image_id=i, original=size, draw=0)
        for i, size in enumerate(sizes)
    ]


def test_branches_and_short_connections_are_the_authors():
    """train_resnet.prototxt and, of six levels, train_val.prototxt: dsn6 is the deepest."""
    with torch.device("meta"):
        head = DSS(RESNET)
        vgg = DSS({f"l{i}": Level(8, 2**i) for i in range(6)})
    forms = {name: (b[0].out_channels, b[0].kernel_size[0], b[2].kernel_size[0]) for name, b in head.branches.items()}
    assert forms == {"c5": (512, 7, 7), "c4": (512, 5, 5), "c3": (256, 5, 5), "c2": (256, 5, 5), "c1": (128, 3, 3)}
    assert head.shorts == {"c5": [], "c4": [], "c3": ["c5", "c4"], "c2": ["c5", "c4"], "c1": ["c5", "c4", "c3", "c2"]}
    assert {name: mix.in_channels for name, mix in head.mixes.items()} == {"c3": 3, "c2": 3, "c1": 5}
    assert vgg.shorts["l0"] == vgg.shorts["l1"] == ["l5", "l4", "l3", "l2"]
    assert vgg.branches["l0"][0].out_channels == 128
    convs = sum(p.numel() for p in head.parameters())
    assert (
        convs
        == sum(
            (own * out + out * out) * side**2 + 2 * out + out + 1
            for own, out, side in ((2048, 512, 7), (1024, 512, 5), (512, 256, 5), (256, 256, 5), (64, 128, 3))
        )
        + (4 + 4 + 6)
        + 6
    )


def test_it_begins_as_the_authors_fillers_have_it():
    head = DSS(SMALL, 0.1)
    assert torch.equal(head.fusion.weight, torch.full((1, 5, 1, 1), 0.2))
    assert not any(p.any() for name, p in head.named_parameters() if name.endswith("bias"))
    assert head.branches["c5"][0].weight.std().item() == pytest.approx(0.01, rel=0.05)
    scores = ["branches.c5.4", "mixes.c1", "fusion"]
    assert {*scores} < {*head.rate_factors}
    assert {*head.rate_factors.values()} == {0.1}
    assert "branches.c5.2" not in head.rate_factors


def test_a_score_reaches_just_the_levels_of_its_short_connections():
    head, given = DSS(SMALL, 0.05).double(), {k: v.double() for k, v in features(SMALL).items()}
    for p in head.parameters():
        torch.nn.init.normal_(p, std=0.3)
    before = head(given)
    reach = {}
    for name in SMALL:
        changed = head({**given, name: given[name] + 1})
        reach[name] = {other for other in before if not torch.allclose(before[other], changed[other], atol=1e-12)}
    assert reach == {
        "c5": {"c5", "c3", "c2", "c1", "fused"},
        "c4": {"c4", "c3", "c2", "c1", "fused"},
        "c3": {"c3", "c1", "fused"},
        "c2": {"c2", "c1", "fused"},
        "c1": {"c1", "fused"},
    }


def test_the_loss_is_the_sum_of_plain_cross_entropies_and_padding_does_not_count():
    head, given = DSS(SMALL, 0.05), features(SMALL)
    sizes = [(64, 96), (50, 33)]
    wanted, logits = targets(*sizes), None
    losses = head.loss(given, wanted, sizes)
    assert [*losses] == ["loss_c1", "loss_c2", "loss_c3", "loss_c4", "loss_c5", "loss_fused"]
    logits = head(given)
    for name, loss in losses.items():
        own = [
            F.binary_cross_entropy_with_logits(one[0, :h, :w], target["mask"].float())
            for one, target, (h, w) in zip(logits[name.removeprefix("loss_")], wanted, sizes)
        ]
        assert loss.item() == pytest.approx(sum(own).item() / 2, rel=1e-6)


def test_micro_batches_add_up_to_the_step():
    head, given, sizes = DSS(SMALL, 0.05), features(SMALL, number=3), [(64, 96), (50, 33), (64, 64)]
    wanted = targets(*sizes)
    whole = sum(head.loss(given, wanted, sizes).values())
    number = head.normalisers(given, wanted, parts=2)
    assert number.tolist() == [1.5]
    parts = [
        sum(head.loss({k: v[own] for k, v in given.items()}, wanted[own], sizes[own], number).values())
        for own in (slice(0, None, 2), slice(1, None, 2))
    ]
    assert (sum(parts) / 2).item() == pytest.approx(whole.item(), rel=1e-6)


def test_maps_are_means_of_the_fusion_and_of_three_side_outputs():
    head, given = DSS(SMALL, 0.05), features(SMALL)
    for p in head.parameters():
        torch.nn.init.normal_(p, std=0.2)
    logits = head(given)
    maps = head.predict(given, [(64, 96), (31, 95)])
    assert [tuple(one.shape) for one in maps] == [(64, 96), (31, 95)]
    wanted = sum(logits[name][:, 0].sigmoid() for name in ("c2", "c3", "c4", "fused")) / 4
    assert torch.allclose(maps[1], wanted[1, :31, :95], atol=1e-6)
    assert maps[0].std() > 0.01


def test_four_levels_do_and_odd_sizes_are_cropped():
    levels = {name: level for name, level in SMALL.items() if name != "c1"}
    logits = DSS(levels, 0.05)(features(levels, 50, 37))
    assert [*logits] == ["c2", "c3", "c4", "c5", "fused"]
    assert {tuple(one.shape) for one in logits.values()} == {(2, 1, 52, 40)}
