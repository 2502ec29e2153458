"""Norm layers by name."""

import pytest
import torch
from torch import distributed, nn

from detector.models.norm import norm_factory


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
    assert isinstance(sync, nn.SyncBatchNorm)


@pytest.mark.parametrize(("channels", "groups"), [(256, 32), (104, 26), (48, 24), (8, 8), (37, 1)])
def test_groups_divide_the_channels(channels, groups):
    assert norm_factory("gn")(channels).num_groups == groups


def test_unknown_name_says_key_and_choices():
    with pytest.raises(ValueError, match=r"MODEL\.BACKBONE\.NORM.*'batch'.*frozen_bn, bn, sync_bn, gn"):
        norm_factory("batch")
