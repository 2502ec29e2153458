"""log.jsonl: strict, and each step once."""

import hashlib
import json
import logging
import os

import pytest
import torch

from detector.engine.records import NAME, Records, directory_of, header


@pytest.fixture
def lines(tmp_path):
    """What stands in the file, line by line; a constant that JSON does not know is an error."""

    def read():
        text = (tmp_path / NAME).read_text(encoding="utf-8")
        assert text.endswith("\n") or not text
        return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]

    return read


def write(folder, *records, step=0, evaluated=0):
    file = Records(folder, step, evaluated)
    for record in records:
        file.write(record)
    file.close()


def test_numbers_that_json_has_not_are_null(tmp_path, lines):
    inner = {"val": {"AP": float("nan"), "AP50": 0.123456789}}
    write(tmp_path, {"step": 1, "loss": 1.23456789, "grad_norm": float("inf"), "lr": float("-inf"), "metrics": inner})
    inner["val"]["AP"] = None
    assert lines() == [{"step": 1, "loss": 1.23457, "grad_norm": None, "lr": None, "metrics": inner}]


def test_a_name_that_is_no_text_loses_no_record(tmp_path, lines):
    write(tmp_path, {"step": 1, "message": "images caf\udce9.jpg, größe", "loss": float("nan")})
    assert lines() == [{"step": 1, "message": "images caf\\xe9.jpg, größe", "loss": None}]


def test_a_line_is_on_the_disk_at_once(tmp_path, lines):
    file = Records(tmp_path, 0, 0)
    file.write({"step": 20})
    assert lines() == [{"step": 20}]
    file.close()


STORY = (
    {"step": 0, "event": "start"},
    {"step": 20, "loss": 1.0},
    {"step": 40, "loss": 0.5},
    {"step": 40, "event": "evaluation", "metrics": {}},
    {"step": 45, "event": "resume"},
    {"step": 60, "loss": 0.25},
    {"step": 63, "event": "nonfinite"},
)


@pytest.mark.parametrize(
    ("step", "evaluated", "kept"),
    [(63, 40, 7), (60, 40, 6), (59, 40, 5), (40, 40, 4), (40, 0, 3), (39, 0, 2), (0, 0, 1)],
)
def test_a_resumed_run_has_no_step_twice(tmp_path, lines, caplog, step, evaluated, kept):
    write(tmp_path, *STORY)
    before = (tmp_path / NAME).read_bytes()
    caplog.set_level(logging.INFO, "detector")
    write(tmp_path, {"step": step, "event": "resume"}, step=step, evaluated=evaluated)
    assert lines() == [*STORY[:kept], {"step": step, "event": "resume"}]
    gone = len(STORY) - kept
    said = f"1 line of steps after {step} goes" if gone == 1 else f"{gone} lines of steps after {step} go"
    assert (said in caplog.text) == (gone > 0)
    if not gone:
        assert (tmp_path / NAME).read_bytes().startswith(before)
        assert not caplog.records
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize(
    "half", [b'{"step": 60, "lo', b"\xff\xfe\x00", b"[60]\n", b'{"loss": 2}\n', b'{"step": "6"}\n']
)
def test_half_a_last_line_goes(tmp_path, lines, caplog, half):
    write(tmp_path, *STORY[:3])
    with open(tmp_path / NAME, "ab") as file:
        file.write(half)
    caplog.set_level(logging.INFO, "detector")
    write(tmp_path, {"step": 50}, step=50)
    assert lines() == [*STORY[:3], {"step": 50}]
    assert "1 line that was not written to its end goes" in caplog.text


def test_a_whole_last_line_without_its_end_is_ended(tmp_path, lines):
    (tmp_path / NAME).write_bytes(b'{"step": 20}\n{"step": 40}')
    write(tmp_path, {"step": 60}, step=40)
    assert lines() == [{"step": 20}, {"step": 40}, {"step": 60}]


def test_an_older_log_becomes_strict(tmp_path, lines):
    (tmp_path / NAME).write_text('{"step": 20, "grad_norm": Infinity, "loss": NaN}\n')
    write(tmp_path, {"step": 40}, step=20)
    assert lines() == [{"step": 20, "grad_norm": None, "loss": None}, {"step": 40}]


def test_the_directory_is_that_of_the_last_start(tmp_path):
    assert directory_of(tmp_path) == ""
    lines = [{"step": 0, "directory": "/a"}, {"step": 5, "directory": "/b"}, {"step": 6, "loss": 1.0}]
    (tmp_path / NAME).write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"directory"')
    assert directory_of(tmp_path) == "/b"
    (tmp_path / NAME).write_text('{"step": 1, "directory": 5}\n')
    assert directory_of(tmp_path) == ""


def test_the_header_says_what_ran_where(monkeypatch):
    said = header("SEED: 0\n", torch.device("cpu"))
    assert said["config_sha256"] == hashlib.sha256(b"SEED: 0\n").hexdigest()
    assert said["device"].startswith("cpu")
    assert said["directory"] == os.getcwd()
    assert said["threads"] == torch.get_num_threads()
    assert said["versions"].keys() == {"detector", "torch", "torchvision", "python"}
    assert said["versions"]["torch"] == torch.__version__
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device.index}")
    assert header("", torch.device("cuda", 1))["device"] == "cuda:1 (card 1)"
