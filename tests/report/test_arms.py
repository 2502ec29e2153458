"""Which runs are one arm, and what arms are called."""

import logging

import pytest
from helpers.arms import write_run, write_truth

from detector.report.arms import Run, arm_names, find_runs, group, home_of, read_settings, settings_of
from detector.tasks.examined import read_metrics


@pytest.fixture
def make(tmp_path):
    entry = write_truth(tmp_path / "data")

    def run(name, *opts, **more):
        folder = write_run(tmp_path / name, entry, *opts, log=False, **more)
        measured = read_metrics(folder / "metrics.json")["measured"]
        return Run(folder, folder, *read_settings(folder, measured), measured, None)

    return run


HEAD = ("MODEL.HEAD.NAME", "faster_rcnn")
BODY = ("MODEL.BACKBONE.NAME", "resnet18")


def test_seed_folder_and_machine_make_no_arm(make):
    runs = [
        make("a", seed=1),
        make("b", *BODY),
        make("c", "DATALOADER.NUM_WORKERS", 3, "LOG.TENSORBOARD", True, "MODEL.RPN.NMS_THRESH", 0.5),
    ]
    first, second = group(runs)
    assert [run.folder.name for run in first] == ["c", "a"]  # by seed; FCOS has no RPN
    assert [run.folder.name for run in second] == ["b"]


def test_settings_of_the_test_count(make):
    plain, other = make("a"), make("b", tested=("TEST.DETECTIONS_PER_IMG", 7), seed=1)
    assert other.settings["TEST.DETECTIONS_PER_IMG"] == 7
    assert len(group([plain, other])) == 2
    assert settings_of({"a": plain, "b": other})["differ"] == {"TEST.DETECTIONS_PER_IMG": {"a": 100, "b": 7}}


def test_settings_that_have_an_effect_in_the_test_alone_count(make):
    once = ("TEST.BBOX_AUG.ENABLED", True, "TEST.BBOX_AUG.SCALES", "(64,)")
    runs = [make("a", tested=once), make("b", tested=(*once[:-1], "(96,)"), seed=1)]
    assert len(group(runs)) == 2
    assert settings_of(dict(zip("ab", runs, strict=True)))["differ"] == {"TEST.BBOX_AUG.SCALES": {"a": [64], "b": [96]}}
    assert runs[0].cfg.TEST.BBOX_AUG.SCALES == (64,)


def test_names(make):
    plain, body, head, both = make("a"), make("b", *BODY), make("c", *HEAD), make("d", *BODY, *HEAD)
    rate = make("e", "SOLVER.BASE_LR", 0.5)
    assert arm_names([[plain]]) == ["fcos resnet10"]
    assert arm_names([[plain], [body]]) == ["resnet10", "resnet18"]
    assert arm_names([[plain], [head]]) == ["fcos", "faster_rcnn"]
    assert arm_names([[head], [body], [plain]])[:2] == ["faster_rcnn resnet10", "fcos resnet18"]
    assert arm_names([[plain], [both]]) == ["fcos resnet10", "faster_rcnn resnet18"]
    assert arm_names([[plain], [rate]]) == ["SOLVER.BASE_LR 0.01", "SOLVER.BASE_LR 0.5"]
    assert arm_names([[plain], [body], [rate]]) == [
        "resnet10 SOLVER.BASE_LR 0.01", "resnet18", "resnet10 SOLVER.BASE_LR 0.5"
    ]  # fmt: skip


def test_long_names_are_those_of_folders(make):
    many = ("SOLVER.BASE_LR", 0.5, "SOLVER.WEIGHT_DECAY", 0.5, "SOLVER.WARMUP_ITERS", 7)
    plain, first, second = make("plain"), make("x/much_seed10", *many), make("x/much_seed11", *many, seed=1)
    assert arm_names([[plain], [first, second]]) == ["plain", "much"]
    assert arm_names([[plain], [first]]) == ["plain", "much_seed10"]
    inner = [make(f"taught/seed{seed}", *many, seed=seed) for seed in (0, 1)]
    assert arm_names([[plain], inner]) == ["plain", "taught"]
    twin = make("y/plain", *many)
    assert arm_names([[plain], [twin]]) == [str(plain.folder), str(twin.folder)]


def test_settings_without_effect_are_not_compared(make):
    fcos, two = make("a", "MODEL.FCOS.NUM_CONVS", 2), make("b", *HEAD, "MODEL.FCOS.NUM_CONVS", 3)
    found = settings_of({"one": fcos, "two": two})
    assert found["differ"] == {
        "MODEL.HEAD.NAME": {"one": "fcos", "two": "faster_rcnn"}, "MODEL.FCOS.NUM_CONVS": {"one": 2}
    }  # fmt: skip


def test_a_run_that_is_named_twice_is_said_to_count_once(make, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("detector"), "propagate", True)
    make("a"), make("b")
    folder = tmp_path / "a"
    assert find_runs([folder, tmp_path / "b"])[0] == [folder, tmp_path / "b"]
    assert not caplog.messages
    around = tmp_path / ".." / tmp_path.name
    assert find_runs([folder, folder, around])[0] == [folder, around / "b"]
    assert caplog.messages == [
        f"--runs: {folder} stands there twice; it is one run, and counts once",
        f"--runs: {around / 'a'} stands there twice (as {folder}); it is one run, and counts once",
    ]


def test_folders_of_runs(make, tmp_path):
    make("all/a"), make("all/b")
    (tmp_path / "all" / "b" / "metrics.json").unlink()
    (tmp_path / "all" / "pictures").mkdir()
    around = tmp_path / "all" / ".." / "all"
    found, untested = find_runs([around, tmp_path / "all" / "a"])
    assert found == [around / "a"]
    assert [*untested] == ["b"]
    with pytest.raises(ValueError, match="there is none in it"):
        find_runs([tmp_path / "all" / "pictures"])
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_runs([tmp_path / "gone"])


def test_runs_that_were_tested_on_several_sets(make, tmp_path):
    """One word names the set for all of them."""
    for name in ("b", "a"):
        for file in ("metrics.json", "results.json"):
            for inner in ("val", "val_2"):
                target = tmp_path / "all" / name / inner / file
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text("[]")
        (tmp_path / "all" / name / "log.jsonl").write_text("")
    folder = tmp_path / "all"
    with pytest.raises(ValueError, match=rf"a was tested on val, val_2; write one of them, {folder}/val or .*/val_2"):
        find_runs([folder])
    assert find_runs([folder / "val_2"]) == ([folder / "a" / "val_2", folder / "b" / "val_2"], {})
    (folder / "val").mkdir()  # of the report
    (folder / "b" / "val" / "results.json").unlink()
    found, untested = find_runs([folder / "val"])
    assert found == [folder / "a" / "val"]
    assert untested == {"b": f"it has no results on val; `detector test {folder / 'b'}` makes them"}
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_runs([folder / "test"])


def test_one_of_several_test_sets_has_its_home_above(make, tmp_path):
    run = make("a")
    inner = run.folder / "val"
    inner.mkdir()
    (run.folder / "metrics.json").rename(inner / "metrics.json")
    assert home_of(inner).samefile(run.folder)
    assert home_of(run.folder) == run.folder
    nested = make("a/b")
    assert home_of(nested.folder) == nested.folder  # a run of its own
    assert find_runs([tmp_path / "a"])[0] == [run.folder]
    assert find_runs([inner])[0] == [inner]


def test_without_a_config_the_test_says_what_it_was(make):
    run = make("a", *BODY, "SOLVER.STEPS", "(7, 9)", "SOLVER.MAX_ITER", 30)
    (run.folder / "config.yaml").unlink()
    cfg, settings = read_settings(run.folder, run.measured)
    assert cfg.MODEL.BACKBONE.NAME == "resnet18"
    assert settings == run.settings
