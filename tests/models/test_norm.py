"""Norm layers by name."""

import pytest
import torch
from torch import distributed, nn

from detector.models.norm import (
    ConvNorm,
    FrozenNorm,
    check_batch,
    conv_norm,
    fold_norms,
    group_norm,
    norm_factory,
    pooled_norm,
)


def filled(name: str, channels: int = 6, **kwargs) -> nn.Module:
    norm = norm_factory(name, **kwargs)(channels).double()
    for tensor in norm.state_dict().values():
        if tensor.dtype == torch.float64:
            tensor.uniform_(0.5, 1.5)
    return norm


@pytest.mark.parametrize("eps", [0.0, 1e-5, 1e-3])
def test_frozen_is_the_affine_of_its_buffers(eps):
    norm, x = filled("frozen_bn", frozen_eps=eps), torch.randn(2, 6, 3, 5, dtype=torch.float64, requires_grad=True)
    weight, bias, mean, var = (norm.state_dict()[key].view(1, -1, 1, 1) for key in norm.state_dict())
    y = norm.train()(x)
    torch.testing.assert_close(y, (x - mean) / (var + eps).sqrt() * weight + bias, rtol=1e-12, atol=1e-12)
    assert not list(norm.parameters())
    y.sum().backward()
    torch.testing.assert_close(x.grad, (weight / (var + eps).sqrt()).expand_as(x))


def test_frozen_equals_trained_batch_norm():
    trained, frozen = filled("bn").eval(), filled("frozen_bn")
    frozen.load_state_dict(trained.state_dict())  # drops num_batches_tracked
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(frozen(x), trained(x), rtol=0, atol=1e-14)


def test_frozen_eps_is_for_frozen_alone():
    assert norm_factory("frozen_bn", 0.0)(8).eps == 0.0
    assert {norm_factory(name, 0.0)(8).eps for name in ("bn", "sync_bn", "gn")} == {1e-5}


@pytest.mark.parametrize("group", [False, True], ids=["no process group", "group of one"])
def test_sync_in_one_process_is_batch_norm(group, tmp_path):
    sync, plain = filled("sync_bn"), filled("bn")
    plain.load_state_dict(sync.state_dict())
    x = torch.randn(3, 6, 4, 4, dtype=torch.float64)
    if group:
        distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        torch.testing.assert_close(sync.train()(x), plain.train()(x), rtol=0, atol=0)
    finally:
        if group:
            distributed.destroy_process_group()
    torch.testing.assert_close(sync.state_dict(), plain.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(("channels", "groups"), [(256, 32), (104, 26), (48, 24), (8, 8), (37, 1)])
def test_groups_divide_the_channels(channels, groups):
    assert norm_factory("gn")(channels).num_groups == groups


def test_unknown_name_says_key_and_choices():
    with pytest.raises(ValueError, match=r"MODEL\.BACKBONE\.NORM.*'batch'.*frozen_bn, bn, sync_bn, gn"):
        norm_factory("batch")


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", ["frozen_bn", "bn", "sync_bn"])
def test_norms_that_measure_nothing_fold_into_their_convolutions(stride, name):
    """Below and above the size from which folding pays: the same numbers and gradients as one after the other."""
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 12, 3, stride, 1, groups=2, bias=False).double()
    norm = norm_factory(name, 1e-3)(12).double().eval().requires_grad_(False)
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        tensor.uniform_(0.5, 1.5)
    for side in (4, 32):
        x = torch.randn(2, 8, side, side, dtype=torch.float64, requires_grad=True)
        got, want = conv_norm(conv, norm, x), norm(conv(x))
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
        assert torch.equal(got, want) == (side == 4)
        probe = torch.randn_like(got)
        for g, w in zip(*(torch.autograd.grad(y, [x, conv.weight], probe) for y in (got, want))):
            torch.testing.assert_close(g, w, rtol=1e-11, atol=1e-11)


def saved_bytes(function):
    """What autograd keeps for the backward pass, each storage once."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage().nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function()
    return sum(size for size, _ in kept.values())


@torch.no_grad()
def test_a_channel_of_zeros_without_eps_is_its_bias_whether_folded_or_not():
    conv, norm = nn.Conv2d(3, 4, 3, bias=False), norm_factory("frozen_bn", 0.0)(4)
    conv.weight[0], norm.running_mean[0], norm.running_var[0], norm.bias[0] = 0, 0, 0, 2.5
    for side in (4, 64):  # the larger map is folded
        y = conv_norm(conv, norm, torch.randn(1, 3, side, side))
        assert y[:, 0].unique().tolist() == [2.5]


def test_folding_keeps_less_for_the_backward_pass():
    conv = nn.Conv2d(8, 8, 1, bias=False)
    norm = norm_factory("frozen_bn")(8)
    x = torch.randn(1, 8, 64, 64, requires_grad=True)
    folded, apart = saved_bytes(lambda: conv_norm(conv, norm, x).relu_()), saved_bytes(lambda: norm(conv(x)).relu_())
    maps = x.nbytes
    assert 2 * maps <= folded < 2.1 * maps
    assert 3 * maps <= apart < 3.1 * maps


@pytest.mark.parametrize("name", ["bn", "sync_bn", "gn"])
def test_norms_that_measure_stay_behind_their_convolutions(name):
    conv, norm = nn.Conv2d(8, 32, 1, bias=False), norm_factory(name)(32)
    x = torch.randn(2, 8, 16, 16)
    torch.testing.assert_close(conv_norm(conv, norm, x), norm(conv(x)), rtol=0, atol=0)


def test_norms_of_pooled_maps():
    kinds = {name: type(pooled_norm(norm_factory(name), 8)).__name__ for name in ("frozen_bn", "bn", "sync_bn", "gn")}
    assert kinds == {"frozen_bn": "FrozenNorm", "bn": "BatchNorm2d", "sync_bn": "SyncNorm", "gn": "BatchNorm2d"}


def test_training_on_few_images_is_warned_of():
    def build(norm):
        return nn.ModuleList([norm_factory(norm)(8), pooled_norm(norm_factory(norm), 8)])

    assert check_batch(build("bn"), 2) == (
        "2 batch norms measure their statistics on 2 images at a time, 1 of them (attention) on 2 values a channel: "
        "take a larger SOLVER.IMS_PER_BATCH, or MODEL.BACKBONE.NORM frozen_bn if training is unsteady"
    )
    assert check_batch(build("gn"), 2).startswith("1 batch norms")
    assert check_batch(build("bn"), 8) == check_batch(build("frozen_bn"), 1) == check_batch(build("bn").eval(), 1) == ""
    assert check_batch(norm_factory("bn")(8), 1).endswith("unsteady")
    with pytest.raises(ValueError, match=r"normalises over the batch, which has a single image: take a larger SOLVER"):
        check_batch(build("gn"), 1)


def test_a_training_from_scratch_is_warned_later_and_of_what_helps_there():
    norm = norm_factory("bn")(8)
    assert check_batch(norm, 4, from_scratch=True) == ""
    assert "on 4 images" in check_batch(norm, 4)
    text = check_batch(norm, 3, from_scratch=True)
    assert text.endswith("take a larger SOLVER.IMS_PER_BATCH, or MODEL.BACKBONE.NORM gn if training is unsteady")


def test_hooks_biases_and_other_paddings_are_respected():
    norm, x = filled("frozen_bn", 8).float(), torch.randn(2, 8, 32, 32)
    for args in ({"bias": True}, {"bias": False, "padding_mode": "reflect"}):
        conv = nn.Conv2d(8, 8, 3, padding=1, **args)
        torch.testing.assert_close(conv_norm(conv, norm, x), norm(conv(x)))
    conv, seen = nn.Conv2d(8, 8, 3, padding=1, bias=False), []
    handle = conv.register_forward_hook(lambda *_: seen.append("conv"))
    norm.register_forward_pre_hook(lambda *_: seen.append("norm"))
    conv_norm(conv, norm, x)
    handle.remove()
    conv_norm(conv, norm, x)
    assert seen == ["conv", "norm", "norm"]


def test_what_is_used_twice_or_watched_is_not_merged():
    conv, other = nn.Conv2d(4, 4, 1, bias=False), nn.Conv2d(4, 4, 1, bias=False)
    norms = [FrozenNorm(4) for _ in range(3)]
    watched = norms[2].register_forward_hook(lambda *_: None)
    model = nn.Sequential(ConvNorm(conv, norms[0]), ConvNorm(conv, norms[1]), ConvNorm(other, norms[2]))
    x = torch.randn(1, 4, 5, 5)
    assert fold_norms(model, lambda: model(x)) == 0
    watched.remove()
    want = model(x)
    assert fold_norms(model, lambda: model(x)) == 1
    assert isinstance(model[2][1], nn.Identity)
    torch.testing.assert_close(model(x), want)


def test_a_norm_that_measures_is_not_merged():
    model = ConvNorm(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))
    assert fold_norms(model, lambda: model(torch.randn(2, 4, 5, 5))) == 0
    model.eval()
    assert fold_norms(model, lambda: model(torch.randn(2, 4, 5, 5))) == 1


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_group_norm_of_half_precision_has_the_gradients_of_float32(dtype, layout):
    torch.manual_seed(0)
    norm = group_norm(64)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    x = (3 * torch.randn(2, 64, 9, 7) + 1).to(dtype).contiguous(memory_format=layout).requires_grad_()
    slope = torch.randn(2, 64, 9, 7).to(dtype)  # whatever layout the next layer gives it
    wide = x.detach().float().requires_grad_()
    got, want = norm(x), torch.nn.functional.group_norm(wide, 32, norm.weight, norm.bias, norm.eps)
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), want, rtol=1e-2, atol=2e-2)
    inputs = norm.weight, norm.bias
    found = torch.autograd.grad(got, (x, *inputs), slope)
    exact = torch.autograd.grad(want, (wide, *inputs), slope.float())
    assert found[0].dtype == dtype
    for a, b in zip(found, exact, strict=True):
        assert (a.float() - b).norm() / b.norm() < (3e-3 if dtype == torch.bfloat16 else 5e-4)
    norm.requires_grad_(False)
    assert torch.equal(torch.autograd.grad(norm(x), x, slope)[0], found[0])


def test_group_norm_of_full_precision_is_torchs():
    norm, x = group_norm(64), torch.randn(2, 64, 5, 5, requires_grad=True)
    plain = nn.GroupNorm(32, 64)
    assert torch.equal(norm(x), plain(x))
    assert type(norm(x).grad_fn) is type(plain(x).grad_fn)
    assert type(norm(x.bfloat16()).grad_fn) is not type(plain(x.bfloat16()).grad_fn)


def test_other_ways_to_measure_more_images_are_named():
    model = nn.Sequential(norm_factory("bn")(4))
    found = check_batch(model, 1, ways=["a smaller SOLVER.ACCUM_ITERS", "MODEL.BACKBONE.NORM sync_bn"])
    assert "on 1 image at a time: take a larger SOLVER.IMS_PER_BATCH, a smaller SOLVER.ACCUM_ITERS, " in found
    attention = nn.Sequential(pooled_norm(group_norm, 4))
    assert "NORM" not in check_batch(attention, 2, from_scratch=True)  # group norm is what it has
