import pytest
import torch

from detector.engine.device import check_kernels, peak_memory_mb, pick_device


@pytest.mark.parametrize(
    ("cuda", "mps", "picked"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_fastest_device_there_is(monkeypatch, cuda, mps, picked):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80"])
    assert pick_device("auto") == torch.device(picked)


@pytest.mark.parametrize(("name", "words"), [("gpu", "no device"), ("xpu", "supported"), ("cuda:99", "CUDA device")])
def test_wrong_devices_name_the_key(name, words):
    with pytest.raises(ValueError, match=rf"MODEL\.DEVICE.*{words}"):
        pick_device(name)


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((6, 1), ["sm_75", "sm_80", "sm_90"], False),
        ((6, 1), ["sm_50", "sm_60", "sm_90"], True),
        ((6, 1), ["sm_70", "compute_50"], True),
        ((8, 6), ["sm_80"], True),
        ((8, 0), ["sm_86"], False),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((10, 0), ["sm_90a", "sm_100a"], True),
    ],
)
def test_a_card_without_kernels_gets_the_install_line(capability, built_for, runs):
    if runs:
        assert check_kernels("card", capability, built_for) is None
    else:
        with pytest.raises(ValueError, match=r"no kernels for card .*pip install .*cu126.*MODEL\.DEVICE cpu"):
            check_kernels("card", capability, built_for)


def test_peak_memory_of_this_process_is_plausible():
    assert 50 < peak_memory_mb(torch.device("cpu")) < 64_000
