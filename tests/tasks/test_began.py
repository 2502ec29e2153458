"""An error of data that are not there names the folder in which the run was trained."""

import json
import os

import pytest

from detector.engine.records import NAME
from detector.errors import MissingDataError, MissingFileError
from detector.tasks import detection
from detector.tasks.began import knowing_where


@pytest.fixture
def run(tmp_path):
    """run(place): the folder of a run that was trained there."""

    def write(place):
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        (folder / NAME).write_text(json.dumps({"step": 0, "event": "start", "directory": str(place)}) + "\n")
        return folder

    return write


def test_where_the_run_was_trained_is_told(run, tmp_path):
    there = tmp_path / "my work"
    there.mkdir()
    with pytest.raises(MissingDataError, match=rf"^lost; the run was trained in '{there}', .*: write `cd '{there}'` f"):
        with knowing_where(tmp_path / "none", run(there)):
            raise MissingDataError("lost")
    with pytest.raises(MissingDataError, match=r"^lost; the run was trained in /content/x, .*: which is not here$"):
        with knowing_where(run("/content/x")):
            raise MissingDataError("lost")


def test_nothing_is_added_to_other_errors_and_in_the_same_folder(run, tmp_path):
    for place, error in ((os.getcwd(), MissingDataError("lost")), (tmp_path, MissingFileError("lost"))):
        with pytest.raises(MissingFileError, match=r"^lost$"), knowing_where(run(place)):
            raise error


def test_a_test_from_another_folder_says_it(started, run, tmp_path):
    cfg, _ = started("DATASETS.TEST", "gone:gone.json")
    run("/content/x").joinpath(NAME).rename(tmp_path / NAME)
    with pytest.raises(MissingDataError, match=r"expected at .*; the run was trained in /content/x, where"):
        detection.test(cfg, weight=tmp_path / "start.pth")


@pytest.mark.slow
def test_a_test_and_a_resume_of_a_training_say_it(tiny, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    opts = ("DATASETS.TRAIN", "train:train.json", "DATASETS.TEST", "val:val.json", "SOLVER.MAX_ITER", 1)
    detection.train(tiny(*opts, "SOLVER.CHECKPOINT_PERIOD", 1))
    monkeypatch.chdir(tmp_path / "there")
    for again in (lambda: detection.test(tiny(*opts)), lambda: detection.train(tiny(*opts), resume=True)):
        with pytest.raises(MissingDataError, match=rf"expected at .*; the run was trained in {tmp_path}, where"):
            again()
