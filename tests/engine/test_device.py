import subprocess
import sys

import pytest
import torch
from helpers import environment

from detector.engine import device as module
from detector.engine.device import (
    autocast,
    check_kernels,
    chosen_precision,
    gains_bf16,
    peak_memory_mb,
    pick_device,
    say_slow_precisions,
    slow_on_card,
    slow_on_cpu,
    slow_precision,
)


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
        ((9, 4), ["gfx90a:sramecc+:xnack-", "gfx1100"], True),  # AMD's, whose names say nothing of capabilities
    ],
)
def test_a_card_without_kernels_gets_the_install_line(capability, built_for, runs):
    if runs:
        assert check_kernels("card", capability, built_for) is None
    else:
        with pytest.raises(ValueError, match=r"no kernels for card .*pip install .*cu126.*MODEL\.DEVICE cpu"):
            check_kernels("card", capability, built_for)


def test_peak_memory_is_not_that_of_the_program_that_started_this_one():
    """As getrusage would have it on Linux, where a child begins with the peak of its parent."""
    large = bytearray(400 << 20)
    large[:: 1 << 12] = b"x" * len(large[:: 1 << 12])
    code = "import torch; from detector.engine.device import peak_memory_mb as p; print(p(torch.device('cpu')))"
    said = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert float(said.stdout) < peak_memory_mb(torch.device("cpu")) - 200
    assert large


def test_peak_memory_of_this_process_is_plausible():
    assert 50 < peak_memory_mb(torch.device("cpu")) < 64_000


@pytest.mark.parametrize(
    ("capability", "fp16", "bf16"),
    [
        ((5, 0), "slowly", "emulated"),
        ((5, 2), "slowly", "emulated"),
        ((5, 3), "", "emulated"),  # a Jetson
        ((6, 0), "", "emulated"),  # the P100
        ((6, 1), "slowly", "emulated"),  # a GTX 1080
        ((6, 2), "", "emulated"),
        ((7, 0), "", "emulated"),
        ((7, 5), "", "emulated"),
        ((8, 0), "", ""),
        ((8, 9), "", ""),
        ((12, 0), "", ""),
    ],
)
def test_cards_are_told_what_a_precision_does_not_gain(capability, fp16, bf16):
    number = ".".join(map(str, capability))
    for precision, word in (("fp16", fp16), ("bf16", bf16)):
        text = slow_on_card("GTX", capability, precision)
        assert (word in text and text.startswith(f"GTX (compute capability {number}) ")) if word else not text
        assert ("spares memory" in text) == bool(word)
    assert slow_on_card("GTX", capability, "off") == ""


@pytest.mark.parametrize(
    ("capabilities", "slow"),
    [
        ({"architecture": "x86_64", "avx512_bf16": True}, {"fp16"}),
        ({"architecture": "x86_64", "amx_bf16": True, "avx512_fp16": True}, set()),
        ({"architecture": "x86_64", "amx_fp16": True}, {"bf16"}),
        ({"architecture": "x86_64", "avx512_bf16": False, "avx512_f": True}, {"bf16", "fp16"}),
        ({"architecture": "aarch64"}, set()),  # of which nothing is known here
        ({}, set()),
    ],
)
def test_processors_are_told_what_a_precision_does_not_gain(capabilities, slow):
    assert {p for p in ("off", "bf16", "fp16") if slow_on_cpu(capabilities, p)} == slow
    assert all(slow_on_cpu(capabilities, p).startswith(f"this processor has no instructions for {p}:") for p in slow)


def test_the_device_at_hand_is_asked(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device.index}")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1) if device.index else (9, 0))
    assert slow_precision(torch.device("cuda", 1), "fp16").startswith("card 1 (compute capability 6.1) computes fp16")
    assert slow_precision(torch.device("cuda", 0), "fp16") == slow_precision(torch.device("mps"), "fp16") == ""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64"}, raising=False)
    assert "no instructions for bf16" in slow_precision(torch.device("cpu"), "bf16")
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # of an older torch
    assert slow_precision(torch.device("cpu"), "bf16") == ""


def test_bf16_is_taken_only_where_it_is_known_to_gain(monkeypatch):
    cpu, has = torch.device("cpu"), {"architecture": "x86_64", "amx_bf16": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert gains_bf16(cpu)
    has |= {"amx_bf16": False}
    assert not gains_bf16(cpu)
    has |= {"avx512_bf16": True}
    assert gains_bf16(cpu)
    has |= {"architecture": "aarch64"}
    assert not gains_bf16(cpu)
    assert not gains_bf16(torch.device("mps"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6) if device.index else (7, 5))
    assert [gains_bf16(torch.device("cuda", i)) for i in (0, 1)] == [False, True]
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # of an older torch
    assert not gains_bf16(cpu)


def test_slow_precisions_are_said_once_with_the_keys_that_ask_for_them(monkeypatch, caplog):
    monkeypatch.setattr(module, "slow_precision", lambda device, p: "" if p == "off" else f"{p} is slow")
    cpu = torch.device("cpu")
    say_slow_precisions(cpu, {"SOLVER.AMP": "fp16", "TEST.AMP": "fp16"})
    say_slow_precisions(cpu, {"SOLVER.AMP": "off", "TEST.AMP": "bf16"})
    say_slow_precisions(cpu, {"--amp": "off"})
    assert caplog.messages == ["SOLVER.AMP fp16, TEST.AMP fp16: fp16 is slow", "TEST.AMP bf16: bf16 is slow"]


@pytest.mark.parametrize(("has", "precision"), [(True, "bf16"), (False, "off")])
def test_auto_is_what_the_device_gains_by(has, precision, monkeypatch, caplog):
    caplog.set_level("INFO", "detector")
    told = {"architecture": "x86_64", "avx512_bf16": has}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    cpu = torch.device("cpu")
    assert [chosen_precision(cpu, one) for one in ("auto", "off", "fp16")] == [precision, "off", "fp16"]
    with autocast(cpu, "auto"):
        made = torch.ones(2, 2) @ torch.ones(2, 2)
    assert made.dtype == (torch.bfloat16 if has else torch.float32)
    say_slow_precisions(cpu, {"TEST.AMP": "auto"})
    (text,) = caplog.messages
    assert text.startswith(f"TEST.AMP auto: {precision}")
