"""`detector compare` of trainings: its words and its plan."""

import threading

import pytest

from detector.__main__ import main
from detector.commands import compare_cells
from detector.commands.compare_cells import budget_of, in_turn, plan_text
from detector.tasks.cells import Arm, Cell
from detector.tasks.pace import Pace


def fails(*words):
    with pytest.raises(SystemExit) as stop:
        main(["compare", *map(str, words)])
    return stop.value.code


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "name what is compared: --config-file FILE to train"),
        (["--config-file", "quickstart", "--results", "a", "b"], "--config-file and --results: give only one of them"),
        (["--config-file", "quickstart", "--steps", "5", "--hours", "1"], "not allowed with argument"),
        (["--config-file", "quickstart", "--seeds", "0"], "'0' is no number above 0"),
        (["--config-file", "quickstart", "--hours", "nan"], "'nan' is no number of hours above 0"),
        (["--results", "a", "b"], "--results needs --truth"),
    ],
)
def test_words_that_do_not_fit(words, told, capsys, tmp_path):
    assert fails(*words, "--output", tmp_path / "out") == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--backbones", "resnet81"], "resnet18"),
        (["--backbones", "resnet10", "resnet10"], "two arms are called 'fcos resnet10'"),
        (["--heads", "yolo"], "MODEL.HEAD.NAME"),
        (["--steps", "2"], "take --steps 4 or more"),
        (["--backbones", "resnet10", "MODEL.DEVICE", "cpu"], "MODEL.DEVICE is a key"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(words, told, tmp_path):
    assert told in fails("--config-file", "quickstart", "--output", tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--backbones", "resnet18"], "nothing to compare: fcos resnet18 is the only model; name several --backbones"),
        (["--seeds", "1"], "name several --backbones or --heads. What follows is its training"),
        ([], "What follows are its 3 trainings, which tell how far seeds lie apart"),
        (["--backbones", "resnet10", "resnet18"], ""),
    ],
)
def test_a_single_model_is_said_to_be_no_comparison(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare_cells, "plan", lambda *what: None)
    main(["compare", "--config-file", "quickstart", "--output", str(tmp_path / "out"), "--plan", *words])
    said = capsys.readouterr().out
    assert told in said
    assert bool(told) == ("nothing to compare" in said)


def test_a_plan_that_fails_leaves_no_empty_folder(tmp_path):
    words = ["--config-file", "bccd/fcos_resnet18", "--output", tmp_path / "a" / "b", "DATASETS.ROOT", tmp_path / "c"]
    assert fails(*words) == "error: none can be trained, as was said"
    assert not [*tmp_path.iterdir()]


def test_the_plan_adds_up(tmp_path):
    arms = [Arm("fcos a", "a", "fcos", None), Arm("fcos b", "b", "fcos", None)]
    paces = [Pace(100, 0.5, 0.1, 4, 10, 2**30, 2**28), Pace(100, 1.0, 0.1, 4, 10, 2**31, 2**29)]
    left = [Cell("fcos a", 1, tmp_path, 100), Cell("fcos b", 0, tmp_path, 100), Cell("fcos b", 1, tmp_path, 100)]
    lines = plan_text([*zip(arms, paces)], 2, left, {"fcos c": "it diverges"}).splitlines()
    assert lines[0].split()[-2:] == ["memory", "disk"]
    assert "memory on cpu" in plan_text([*zip(arms, paces)], 2, left, {}, "cpu").splitlines()[0]
    assert lines[1].split() == ["fcos", "a", "100", "0.5", "0:54", "1.00", "GiB", "256", "MiB"]
    assert lines[2].split() == ["fcos", "b", "100", "1", "1:44", "2.00", "GiB", "0.50", "GiB"]
    assert lines[3].split() == ["fcos", "c", *"-----"]
    assert lines[-1] == (
        "2 arms with 2 seeds: 3 trainings (1 is done), 4:22 in one process, 1.25 GiB on the disk"
    )  # fmt: skip


def test_one_process_plans_at_a_time(tmp_path):
    order = []
    ready, go = threading.Event(), threading.Event()

    def first():
        with in_turn(tmp_path):
            ready.set()
            go.wait(10)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    assert ready.wait(10)
    threading.Timer(0.1, go.set).start()
    with in_turn(tmp_path):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_one_budget():
    class Args:
        steps, images, hours = None, 800, None

    assert budget_of(Args) == ("images", 800)
    Args.images = None
    assert budget_of(Args) == ("", 0)
