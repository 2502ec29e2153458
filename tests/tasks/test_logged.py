"""What runs leave in their logs, from their start to a resume."""

import hashlib
import sys

import pytest
import torch
from helpers.runs import read, records, same_bits
from torch import nn

from detector.engine.log import TrainLog
from detector.errors import MissingPackageError, NonFiniteError
from detector.tasks.detection import train


class KilledError(BaseException):
    pass


@pytest.fixture
def killed(monkeypatch):
    """killed(cfg, step): a training that ends without a word after this step was logged."""

    def run(cfg, last):
        step = TrainLog.step

        def stop(self, number, *rest):
            step(self, number, *rest)
            if number == last:
                raise KilledError

        with monkeypatch.context() as patch:
            patch.setattr(TrainLog, "step", stop)
            patch.setattr("detector.engine.log.PERIOD", 1)
            with pytest.raises(KilledError):
                train(cfg)

    return run


def test_a_resumed_run_s_log_has_each_step_once(tiny, tmp_path, killed, monkeypatch, caplog):
    cfg = tiny("SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.TEST_PERIOD", 4)
    killed(cfg, 5)
    with open(tmp_path / "out" / "log.jsonl", "a") as file:
        file.write('{"step": 6, "loss"')
    monkeypatch.setattr("detector.engine.log.PERIOD", 1)
    caplog.set_level("INFO", "detector")
    train(cfg, resume=True)
    assert "1 line of steps after 4 goes" in caplog.text
    story = [(record["step"], record.get("event", "")) for record in records(tmp_path / "out")]
    assert story == [
        *((0, "start"), (1, ""), (2, ""), (3, ""), (4, ""), (4, "evaluation")),
        *((4, "resume"), (5, ""), (6, ""), (6, "evaluation")),
    ]


def test_the_first_line_says_what_ran(tiny, tmp_path):
    train(tiny("SOLVER.MAX_ITER", 1))
    start = records(tmp_path / "out")[0]
    text = read(tmp_path / "out" / "model_final.pth")["config"]
    assert start["config_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert hashlib.sha256((tmp_path / "out" / "config.yaml").read_bytes()).hexdigest() == start["config_sha256"]
    assert start["device"].startswith("cpu")
    assert start["versions"]["torch"] == torch.__version__


def test_a_divergence_has_a_line(tiny, tmp_path):
    with pytest.raises(NonFiniteError) as caught:
        train(tiny("SOLVER.BASE_LR", 1e12, "SOLVER.WARMUP_ITERS", 0, "SOLVER.MAX_ITER", 40))
    last = records(tmp_path / "out")[-1]
    assert (last["event"], last["message"]) == ("nonfinite", str(caught.value))
    assert f"at step {last['step']}," in last["message"]


def test_the_table_says_of_which_step_and_set_it_is(tiny, caplog):
    caplog.set_level("INFO", "detector")
    metrics = train(tiny("SOLVER.MAX_ITER", 2, "SOLVER.TEST_PERIOD", 1))
    tables = [r.getMessage().splitlines()[0] for r in caplog.records if "Average Precision" in r.getMessage()]
    assert [line.split(" | ")[:2] for line in tables] == [["step 1", "val"], ["step 2", "val"]]
    assert tables[1].split(" | ")[2] == f"AP {metrics['val']['AP']:.3f}"


def test_tensorboard_sees_the_run_and_changes_nothing(tiny, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    opts = ("SOLVER.TEST_PERIOD", 1, "SOLVER.MAX_ITER", 2)
    train(tiny(*opts))
    metrics = train(tiny(*opts, "OUTPUT_DIR", tmp_path / "seen", "LOG.TENSORBOARD", True, "LOG.PICTURES", 2))
    assert not (tmp_path / "out" / "tensorboard").exists()
    plain, seen = (read(tmp_path / name / "model_final.pth") for name in ("out", "seen"))
    assert same_bits(seen["model"], plain["model"])
    events = accumulator.EventAccumulator(str(tmp_path / "seen" / "tensorboard")).Reload()
    assert events.Tags()["images"] == ["val/1", "val/2"]
    assert [e.step for e in events.Images("val/2")] == [1, 2]
    (text,) = events.Tensors("config/text_summary")
    assert seen["config"].splitlines()[0] in text.tensor_proto.string_val[0].decode()
    measured = [(e.step, e.value) for e in events.Scalars("test/val/AP")]
    assert measured[-1] == (2, pytest.approx(metrics["val"]["AP"]))
    assert [e.step for e in events.Scalars("train/loss_cls")] == [2]


def test_a_missing_package_stops_before_anything_else(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingPackageError, match=r"pip install \"residet\[log\]\""):
        train(tiny("LOG.TENSORBOARD", True, "DATASETS.TRAIN", "nowhere:nothing.json"))
    assert not (tmp_path / "out").exists()


def test_without_a_limit_the_norm_is_the_same_and_nothing_is_scaled(tiny, tmp_path, monkeypatch):
    """The other run has a limit that no gradient reaches, by which all are multiplied by one."""
    train(tiny("SOLVER.MAX_ITER", 2, "SOLVER.CLIP_GRAD_NORM", 1e9, "OUTPUT_DIR", tmp_path / "limit"))
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", None)
    train(tiny("SOLVER.MAX_ITER", 2, "SOLVER.CLIP_GRAD_NORM", 0))
    one, other = (records(tmp_path / name)[1]["grad_norm"] for name in ("out", "limit"))
    assert one == other > 0
    assert same_bits(*(read(tmp_path / name / "model_final.pth")["model"] for name in ("out", "limit")))
