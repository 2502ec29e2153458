"""By which measure the best checkpoint is chosen, and what becomes of it when that changes."""

import json

import pytest
from helpers.runs import move_run, read

from detector.config import load_config
from detector.errors import UserError
from detector.tasks import detection
from detector.tasks.best import best_by, score
from detector.tasks.detection import DetectionTask, train
from detector.tasks.trained import find_trained

QUICK = (
    *("SOLVER.TEST_PERIOD", 1, "SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.CHECKPOINT_KEEP", 0),
    *("MODEL.NECK.OUT_CHANNELS", 32, "INPUT.MIN_SIZE_TRAIN", 32),
)
FOUND = [
    {"AP": 0.3, "AP50": 0.5, "AP/dark": 0.1},
    {"AP": 0.2, "AP50": 0.7, "AP/dark": 0.2},
    {"AP": 0.1, "AP50": 0.6, "AP/dark": 0.15},
]


@pytest.fixture
def found(monkeypatch):
    """What the evaluations find after 1, 2, .. steps, whatever the test set; the steps of them are noted."""
    steps = []

    def measures(self, run):
        steps.append(run.step)
        return {name: FOUND[min(run.step, len(FOUND)) - 1] for name in self.tests}

    monkeypatch.setattr(DetectionTask, "measures", measures)
    return steps


def test_the_best_by_its_name():
    def named(*opts):
        return best_by(load_config(None, opts))

    assert named() == named("TEST.EVALUATOR", "coco") == named("TEST.EVALUATOR", "[voc, coco]") == "AP"
    assert named("TEST.EVALUATOR", "voc") == "VOC/AP50"
    assert named("TEST.EVALUATOR", "voc", "TEST.BEST_BY", "VOC/AP") == "VOC/AP"


def test_the_score_is_the_mean_over_the_sets_that_have_something_to_find(caplog):
    two = {"a": {"AP": 0.2, "APs": -1.0}, "b": {"AP": 0.6, "APs": 0.5}, "c": {"AP": -1.0, "APs": -1.0}}
    assert (score(two, "AP"), score(two, "APs")) == (pytest.approx(0.4), 0.5)
    assert not caplog.messages
    assert score({"a": two["a"]}, "APs") == -1
    assert caplog.messages == [
        "APs: no test set has anything of it to find, so no evaluation is better than another"
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "step"), [("", 1), ("AP", 1), ("AP50", 2), ("AP/dark", 2)])
def test_the_measure_decides_which_checkpoint_is_the_best(tiny, tmp_path, found, caplog, name, step):
    caplog.set_level("INFO", "detector")
    cfg = tiny(*QUICK, "SOLVER.MAX_ITER", 2, "TEST.BEST_BY", name)
    train(cfg)
    shown = name or "AP"
    assert f"a test every step, the best by {shown}" in caplog.text
    best = read(tmp_path / "out" / "model_best.pth")
    assert (best["step"], best["best_by"], best["tests"]) == (step, shown, ["val"])
    caplog.clear()
    assert find_trained(cfg, which="best").file.path.name == "model_best.pth"
    path, value = tmp_path / "out" / "model_best.pth", FOUND[step - 1][shown]
    assert caplog.messages == [f"{path} is the best, of step {step}, by {shown}: {value:.3f}"]


def test_a_best_checkpoint_of_before_is_found_without_a_measure(tiny, tmp_path, found, caplog):
    cfg = tiny(*QUICK, "SOLVER.MAX_ITER", 2)
    train(cfg)
    path = tmp_path / "out" / "model_best.pth"
    content = read(path)
    del content["best_by"], content["tests"]
    detection.torch.save(content, path)
    caplog.set_level("INFO", "detector")
    caplog.clear()
    assert find_trained(cfg, which="best").file.content["step"] == 1
    assert caplog.messages == [f"{path} is the best, of step 1"]


@pytest.mark.parametrize(
    ("opts", "name", "said"),
    [
        (
            ("TEST.EVALUATOR", "coco"),
            "AP5",
            r"val has no such measure; near: AP\w*.*; there are AP, AP50, AP75, .*ARl, and ",
        ),
        (("TEST.EVALUATOR", "coco"), "AP/drak", r"near: AP/dark.* and those of the classes, like AP/dark$"),
        (("TEST.EVALUATOR", "coco"), "VOC/AP50", "val has no such measure"),
        (("TEST.EVALUATOR", "voc"), "AP", r"there are VOC/AP, VOC/AP50, .*, like VOC/AP50/dark$"),
        ((), "ap50", "TEST.BEST_BY ap50: val has no such measure"),
    ],
)
def test_an_unknown_measure_stops_before_the_pictures_are_looked_at(tiny, tmp_path, monkeypatch, opts, name, said):
    monkeypatch.setattr(detection, "check_training", lambda *_: pytest.fail("pictures were read"))
    with pytest.raises(UserError, match=said):
        train(tiny(*QUICK, *opts, "TEST.BEST_BY", name))
    assert not (tmp_path / "out").exists()


def test_every_measure_that_is_computed_may_be_the_best(tiny, tmp_path):
    metrics = train(tiny("SOLVER.MAX_ITER", 1, "TEST.EVALUATOR", "[coco, voc]"))["val"]
    for name in metrics:
        cfg = tiny("TEST.EVALUATOR", "[coco, voc]", "TEST.BEST_BY", name)
        assert DetectionTask.score(DetectionTask(cfg, None, None, {}), {"val": {name: 0.25}}) == 0.25
    task = DetectionTask.from_config(tiny("TEST.EVALUATOR", "[coco, voc]", "TEST.BEST_BY", [*metrics][-1]))
    assert task.score({"val": metrics}) == metrics[[*metrics][-1]]


# ---------------------------------------------------------------------------- a resume with another measure


def test_another_measure_takes_the_best_as_it_is_by_that(tiny, tmp_path, found, caplog):
    """The best by AP is that of step 1; by AP50, of which it has 0.5, step 2 is better, and is measured again."""
    train(tiny(*QUICK, "SOLVER.MAX_ITER", 2))
    best = tmp_path / "out" / "model_best.pth"
    assert read(best)["step"] == 1
    train(tiny(*QUICK, "SOLVER.MAX_ITER", 3, "TEST.BEST_BY", "AP50"), resume=True)
    said = "the best was chosen by AP on val, and is by AP50 on val from here on: model_best.pth, of step 1, has 0.500"
    assert f"{said} of it" in caplog.messages
    assert "TEST.BEST_BY '' -> AP50" in caplog.text
    assert found == [1, 2, 2, 3]
    assert (read(best)["step"], read(best)["best_by"]) == (2, "AP50")
    final = read(tmp_path / "out" / "model_final.pth")
    assert [final[key] for key in ("best", "best_step", "stale")] == [0.7, 2, 1]
    caplog.clear()
    train(tiny(*QUICK, "SOLVER.MAX_ITER", 4, "TEST.BEST_BY", "AP50"), resume=True)
    assert "was chosen by" not in caplog.text


def test_a_best_that_is_better_by_the_new_measure_too_stays(tiny, tmp_path, found):
    train(tiny(*QUICK, "SOLVER.MAX_ITER", 2, "TEST.BEST_BY", "AP50"))
    best = tmp_path / "out" / "model_best.pth"
    before = best.read_bytes()
    train(tiny(*QUICK, "SOLVER.MAX_ITER", 4, "TEST.BEST_BY", "AP/dark", "SOLVER.TEST_PERIOD", 3), resume=True)
    assert found == [1, 2, 3, 4]
    assert best.read_bytes() == before


@pytest.mark.parametrize("named", [True, False])
def test_scores_on_other_sets_do_not_compare(tiny, tmp_path, data, write_images, found, caplog, named):
    train(tiny(*QUICK, "SOLVER.MAX_ITER", 2))
    second = write_images(tmp_path / "second", (1, 1), seed=5)
    opts = (*QUICK, "SOLVER.MAX_ITER", 3, "DATASETS.TEST", second, "OUTPUT_DIR", tmp_path / "more")
    content = read(tmp_path / "out" / "model_final.pth")
    move_run(tmp_path / "out" / "model_final.pth", tmp_path / "more")
    move_run(tmp_path / "out" / "model_best.pth", tmp_path / "best")
    (tmp_path / "best" / "model_best.pth").rename(tmp_path / "more" / "model_best.pth")
    if not named:  # as checkpoints of before are
        del content["best_by"], content["tests"]
        detection.torch.save(content, tmp_path / "more" / "model_final.pth")
    train(tiny(*opts), resume=True)
    said = "the best was chosen by AP on val, and is by AP on second from here on: its score does not compare, so the"
    assert f"{said} next evaluation is the best and takes the place of model_best.pth" in caplog.messages
    assert found == [1, 2, 2, 3]
    best = read(tmp_path / "more" / "model_best.pth")
    assert (best["step"], best["metrics"]) == (2, {"second": FOUND[1]})
    assert read(tmp_path / "more" / "model_final.pth")["best"] == 0.2


def test_without_tests_for_a_while_the_best_stays(tiny, tmp_path, found, caplog):
    train(tiny(*QUICK, "SOLVER.MAX_ITER", 2))
    assert train(tiny(*QUICK, "SOLVER.MAX_ITER", 3, "DATASETS.TEST", "()"), resume=True) == {}
    train(tiny(*QUICK, "SOLVER.MAX_ITER", 4), resume=True)
    assert "was chosen by" not in caplog.text
    final = read(tmp_path / "out" / "model_final.pth")
    assert [final[key] for key in ("best", "best_step")] == [0.3, 1]


def test_a_damaged_best_checkpoint_is_named_and_replaced(tiny, tmp_path, found, caplog):
    train(tiny(*QUICK, "SOLVER.MAX_ITER", 2))
    best = tmp_path / "out" / "model_best.pth"
    best.write_bytes(best.read_bytes()[:1000])
    train(tiny(*QUICK, "SOLVER.MAX_ITER", 3, "TEST.BEST_BY", "AP50"), resume=True)
    assert f"{best} is truncated" in caplog.text
    assert "its score does not compare, so the next evaluation is the best\n" in caplog.text
    assert read(best)["step"] == 2


def test_a_test_does_not_ask_for_the_measure_of_the_best(tiny, tmp_path):
    train(tiny("SOLVER.MAX_ITER", 1))
    detection.test(tiny("TEST.BEST_BY", "nothing"))
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["measured"]["step"] == 1
