"""`train`, `test` and `predict`: which words name a run, a source, weights and overrides, and what is no form."""

import sys
from types import SimpleNamespace

import pytest

from detector.commands import predict, test, train
from detector.config import load_config


@pytest.fixture
def called(monkeypatch):
    """What the commands ask of the tasks, in order: (name, arguments)."""
    calls = []

    def run_config(path, opts):
        calls.append(("run_config", path, opts))
        return "config of the run"

    monkeypatch.setitem(sys.modules, "detector.tasks.trained", SimpleNamespace(run_config=run_config))
    monkeypatch.setitem(
        sys.modules, "detector.tasks.detection",
        SimpleNamespace(test=lambda cfg, weight=None, which="": calls.append(("test", cfg, weight, which))),
    )  # fmt: skip
    monkeypatch.setattr(predict, "predict", lambda *args: calls.append(("predict", *args)))
    return calls


@pytest.fixture
def run(tmp_path):
    """A run's folder with a checkpoint; the commands only see whether they exist."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model_best.pth").write_bytes(b"")
    return tmp_path / "run"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("MODEL: {WEIGHT: started_from.pth}\n")
    return str(path)


def call(command, *words):
    command.main([*map(str, words)])


def refused(command, *words):
    """Status and last words of a command that ends with an error."""
    with pytest.raises(SystemExit) as stop:
        call(command, *words)
    return stop.value.code


# ---------------------------------------------------------------------------- test


def test_a_run_and_its_overrides(called, run):
    call(test, run, "TEST.AMP", "bf16", "--which", "best", "OUTPUT_DIR", "elsewhere")
    assert called == [
        ("run_config", run, ["TEST.AMP", "bf16", "OUTPUT_DIR", "elsewhere"]),
        ("test", "config of the run", run, "best"),
    ]


def test_the_newest_is_taken_unless_told(called, run):
    call(test, run)
    assert called == [("run_config", run, []), ("test", "config of the run", run, "newest")]


def test_a_checkpoint_is_itself_the_weights(called, run):
    call(test, run / "model_best.pth", "MODEL.DEVICE", "cpu")
    assert called == [
        ("run_config", run / "model_best.pth", ["MODEL.DEVICE", "cpu"]),
        ("test", "config of the run", run / "model_best.pth", "newest"),
    ]


def test_home_is_expanded_in_the_name_of_a_run(called, run, monkeypatch):
    monkeypatch.setenv("HOME", str(run.parent))
    call(test, "~/run")
    call(predict, "~/run/model_best.pth", "photos")
    assert [words[1:2] for words in called] == [
        (run,),
        ("config of the run",),
        (run / "model_best.pth",),
        ("config of the run",),
    ]


@pytest.mark.parametrize("weight", ["other.pth", "imagenet", ""])
def test_weights_of_the_command_line_are_an_argument_of_their_own(called, run, file, weight):
    call(test, run, "TEST.AMP", "bf16", "MODEL.WEIGHT", "first.pth", "MODEL.WEIGHT", weight, "SEED", "3")
    call(test, "--config-file", file, "MODEL.WEIGHT", weight, "SEED", "3")
    assert called == [
        ("run_config", run, ["TEST.AMP", "bf16", "SEED", "3"]),
        ("test", "config of the run", weight or run, "newest"),
        ("test", load_config(file, ["SEED", "3"]), weight, "newest"),
    ]
    assert called[-1][1].MODEL.WEIGHT == "started_from.pth"


def test_the_old_form_stays(called, file):
    call(test, "SEED", "3", "--config-file", file)
    assert called == [("test", load_config(file, ["SEED", "3"]), None, "newest")]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "RUN is missing"),
        (["RUN", "SEED"], "'SEED' has no value: write SEED VALUE"),
        (["SEED", "3"], "'3' has no value: write KEY VALUE"),
        (["--config-file", "FILE", "SEED"], "'SEED' has no value: write SEED VALUE"),
        (["--config-file", "FILE", "RUN", "SEED", "3"], "'3' has no value: write KEY VALUE"),
        (["RUN", "--which", "last"], "--which"),
    ],
)
def test_an_odd_rest_is_answered_with_the_form(called, run, file, capsys, words, reason):
    words = [{"RUN": str(run), "FILE": file}.get(word, word) for word in words]
    assert refused(test, *words) == 2
    usage, form, last = capsys.readouterr().err.splitlines()
    assert usage == "usage: detector test RUN [FLAG ...] [KEY VALUE ...]"
    assert form.strip() == "detector test --config-file FILE [FLAG ...] [KEY VALUE ...]"
    assert last.startswith("detector test: error: ")
    assert last.endswith(reason) or reason == "--which"
    assert not called


def test_two_wishes_for_one_thing_are_refused(called, run):
    checkpoint = run / "model_best.pth"
    assert refused(test, checkpoint, "MODEL.WEIGHT", "other.pth") == (
        f"error: {checkpoint} is a checkpoint, so leave out MODEL.WEIGHT other.pth, or name the run's folder"
    )
    assert refused(test, checkpoint, "--which", "best") == (
        f"error: {checkpoint} is a checkpoint, so leave out --which best, or name the run's folder"
    )
    assert refused(test, run, "MODEL.WEIGHT", "other.pth", "--which", "best") == (
        "error: MODEL.WEIGHT other.pth and --which best are two wishes: leave one of them out"
    )
    assert not called


def test_what_is_not_there_is_named(called, tmp_path):
    assert refused(test, tmp_path / "no") == (
        f"error: RUN {tmp_path / 'no'}: there is no such folder or checkpoint; write output/NAME or FILE.pth"
    )
    assert refused(test, "--config-file", tmp_path / "no.yaml").startswith(f"error: {tmp_path / 'no.yaml'}: no such")
    assert not called


# ---------------------------------------------------------------------------- predict


def test_a_run_and_a_source(called, run, tmp_path):
    call(predict, run, "photos", "TEST.AMP", "bf16", "--output", tmp_path, "--threshold", "0.3", "--which", "best")
    assert called == [
        ("run_config", run, ["TEST.AMP", "bf16"]),
        ("predict", "config of the run", "photos", tmp_path, 0.3, run, "best", []),
    ]


def test_the_source_may_be_a_flag(called, run):
    call(predict, run, "--input", "photos/*.jpg", "MODEL.WEIGHT", "other.pth")
    assert [(name, *rest[1:2]) for name, *rest in called] == [("run_config", []), ("predict", "photos/*.jpg")]
    assert called[1][4:] == (0.5, "other.pth", "newest", [])


def test_a_checkpoint_and_a_source(called, run):
    call(predict, run / "model_best.pth", "a.jpg")
    assert called[1][2] == "a.jpg"
    assert called[1][5:] == (run / "model_best.pth", "newest", [])


def test_the_old_form_of_predict_stays(called, file, tmp_path):
    call(predict, "--config-file", file, "--input", "photos", "--output", tmp_path, "MODEL.WEIGHT", "other.pth")
    call(predict, "--config-file", file, "photos", "SEED", "3")
    assert called[0] == ("predict", load_config(file), "photos", tmp_path, 0.5, "other.pth", "newest", [])
    assert called[1][1:3] == (load_config(file, ["SEED", "3"]), "photos")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "RUN is missing"),
        (["RUN"], "SOURCE is missing"),
        (["RUN", "photos", "SEED"], "'SEED' has no value: write SEED VALUE"),
        (["--input", "photos"], "RUN is missing"),
        (["--config-file", "FILE"], "SOURCE is missing"),
        (["--config-file", "FILE", "--input", "photos", "SEED"], "'SEED' has no value: write SEED VALUE"),
    ],
)
def test_what_is_missing_is_answered_with_the_form(called, run, file, capsys, words, reason):
    words = [{"RUN": str(run), "FILE": file}.get(word, word) for word in words]
    assert refused(predict, *words) == 2
    err = capsys.readouterr().err
    assert err.startswith("usage: detector predict RUN SOURCE [FLAG ...] [KEY VALUE ...]\n")
    assert err.endswith(f"detector predict: error: {reason}\n")
    assert not called


@pytest.mark.parametrize("others", [["b.png"], ["b.png", "c.png"], ["b.png", "SEED", "3"]])
@pytest.mark.parametrize("form", [["RUN", "a.png"], ["--config-file", "FILE", "a.png"], ["RUN", "--input", "a.png"]])
def test_a_pattern_that_the_shell_spelled_out_is_said_to_be_one(
    called, run, file, capsys, tmp_path, monkeypatch, others, form
):
    for name in "abc":
        (tmp_path / f"{name}.png").touch()
    monkeypatch.chdir(tmp_path)
    words = [{"RUN": str(run), "FILE": str(file)}.get(word, word) for word in form]
    assert refused(predict, *words, *others) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("b.png is no KEY: there is one SOURCE: a folder, or a pattern in quotes")
    assert not called


# ---------------------------------------------------------------------------- train


@pytest.fixture
def trainings(monkeypatch, called):
    """What `train` asks of the tasks; every checkpoint's config is that of its run."""
    monkeypatch.setitem(
        sys.modules, "detector.tasks.detection",
        SimpleNamespace(train=lambda cfg, resume, auto_batch: called.append(("train", cfg, resume))),
    )  # fmt: skip
    return called


@pytest.mark.parametrize("words", [["RUN", "--resume", "SEED", "3"], ["--resume", "RUN", "SEED", "3"]])
def test_a_run_goes_on_with_its_own_config(trainings, run, words):
    (run / "model_final.pth").write_bytes(b"")
    call(train, *(run if word == "RUN" else word for word in words))
    assert trainings == [("run_config", run, ["SEED", "3"]), ("train", "config of the run", True)]


def test_a_run_that_ended_before_its_first_checkpoint_has_its_config_beside_it(trainings, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("OUTPUT_DIR: elsewhere\nSEED: 5\n")
    call(train, tmp_path / "run", "--resume", "SOLVER.MAX_ITER", "9")
    ((_, cfg, resume),) = trainings
    assert (cfg.OUTPUT_DIR, cfg.SEED, cfg.SOLVER.MAX_ITER, resume) == (str(tmp_path / "run"), 5, 9, True)


def test_the_old_form_of_train_stays(trainings, file):
    call(train, "--config-file", file, "SEED", "3")
    call(train, "--resume", "--config-file", file)
    assert trainings == [("train", load_config(file, ["SEED", "3"]), False), ("train", load_config(file), True)]


def test_what_is_no_run_to_continue_is_named(trainings, run, tmp_path, capsys):
    assert refused(train, run) == (
        f"error: RUN {run}: write {run} --resume to continue it, or --config-file FILE to start anew"
    )
    checkpoint = run / "model_best.pth"
    config = run.parent / "photos.yaml"
    config.write_text("SEED: 3\n")
    assert refused(train, config) == f"error: RUN {config} is a config: write --config-file {config} to start a run"
    assert refused(train, checkpoint, "--resume").startswith(f"error: RUN {checkpoint} is a file: write the run's fold")
    assert refused(train, tmp_path / "no", "--resume").startswith(f"error: RUN {tmp_path / 'no'}: there is no such fol")
    assert refused(train, run, "--resume", "OUTPUT_DIR", "other").startswith(
        f"error: RUN {run} goes on in its own folder"
    )
    assert refused(train, "--resume") == 2
    assert "--config-file FILE, or RUN --resume is missing" in capsys.readouterr().err
    assert not trainings
