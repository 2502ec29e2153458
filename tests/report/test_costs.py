"""What a card says of a model's costs."""

import json

import pytest

from detector.report.costs import cost_rows

SAID = {"weight": "elsewhere/model_final.pth", "data": {"images": 40}, "config": {}}
TIMED = {**SAID, "seconds": 8.0, "device": "cpu (A\x1b)", "threads": 2, "processes": 1}
SHORT = "multiply-adds of an image of the largest test size"


def rows(home, said=SAID, device=None, **facts):
    return dict(cost_rows(home, said, {"device": device}, {"facts": facts}, 4))


def test_what_nobody_recorded_is_left_out(tmp_path):
    assert rows(tmp_path) == {}
    assert rows(tmp_path, {**TIMED, "data": {}}) == {}
    assert rows(tmp_path, {**TIMED, "seconds": 0}) == {}


def test_parameters_and_memory(tmp_path):
    told = rows(tmp_path, device="cpu (mine)", params=5431234, macs=2.5e8, memory_mb=300.0)
    assert told == {
        "parameters": "5,431,234",
        SHORT: "0.25 billion",
        "memory of the training": "300 MiB at most, of the whole process; 4 images a step on cpu (mine)",
    }
    told = rows(tmp_path, device="cuda (H100)", memory_mb=3000.0)
    assert told == {"memory of the training": "2.93 GiB at most, of the tensors; 4 images a step on cuda (H100)"}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "200 ms on cpu (A\\x1b), 2 threads"),
        ({"threads": 1, "processes": 2}, "200 ms on cpu (A\\x1b), 1 thread, 2 processes"),
        ({"device": "cuda (H)", "config": {"TEST.AMP": "bf16"}}, "200 ms on cuda (H), bf16"),
        ({"device": None}, "200 ms on a device that is not recorded"),
    ],
)
def test_the_time_of_an_image_is_that_of_the_test(tmp_path, more, told):
    assert rows(tmp_path, {**TIMED, **more}) == {"time of an image": f"{told}: the whole test, with reading pictures"}


def test_a_time_that_was_measured_in_turns_counts_before_it(tmp_path):
    home = tmp_path / "net_seed0"
    home.mkdir()
    arm = {"version": 1, "arms": {"net": {"keys": {}, "steps": 60}}}
    (tmp_path / "comparison.json").write_text(json.dumps(arm))
    (tmp_path / "speed.json").write_text(json.dumps({"arms": {"net": {"image_s": 0.0125}}, "device": "cpu (mine)"}))
    told = rows(home, TIMED, image_s=0.0125)
    assert told == {"time of an image": "12.5 ms on cpu (mine), without reading the picture"}


def test_the_file_is_that_of_the_run_with_its_share_of_weights(tmp_path):
    assert rows(tmp_path, params=250_000) == {"parameters": "250,000"}
    (tmp_path / "model_final.pth").write_bytes(bytes(1_150_000))
    assert rows(tmp_path, params=250_000)["file `model_final.pth`"] == "1.1 MB"
    (tmp_path / "model_final.pth").write_bytes(bytes(3_000_000))
    told = rows(tmp_path, params=250_000)["file `model_final.pth`"]
    assert told == "3.0 MB, of which 1.0 MB are weights, the rest a training's state"
    assert rows(tmp_path)["file `model_final.pth`"] == "3.0 MB"
    named = {**SAID, "weight": str(tmp_path / "model_final.pth")}
    assert rows(tmp_path / "other", named)["file `model_final.pth`"] == "3.0 MB"
