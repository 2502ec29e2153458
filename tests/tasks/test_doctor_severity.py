"""What is an error of `detector check`: what stops a training; and what is not counted."""

import sys
from types import ModuleType

import cv2
import pytest
from helpers.planted import texture

from detector.data.catalog import load_dataset
from detector.data.problems import KINDS, Finding, Kind
from detector.tasks.doctor import Diagnosis, document, examine, not_mended, verdict
from detector.tasks.doctor_text import text


@pytest.fixture(autouse=True)
def all_in_reach(monkeypatch):
    one, other = ModuleType("detector.analysis.reach"), ModuleType("detector.analysis.reach_findings")
    one.reach = lambda cfg, index, *, difficult: index
    other.reach_findings = lambda index: []
    monkeypatch.setitem(sys.modules, "detector.analysis.reach", one)
    monkeypatch.setitem(sys.modules, "detector.analysis.reach_findings", other)


def test_what_a_training_leaves_out_is_no_error(sets, caplog):
    """The reader that a training uses takes the data set, and says what it leaves out."""
    sets.box("train", [60, 70, 0, 5])
    sets.box("train", [130, 10, 20, 20])
    diagnosis = examine(sets.write(), sets.folder)
    assert diagnosis.counts == {"flat-box": 1, "box-outside": 1}
    assert verdict(diagnosis) == "warning"
    assert int(load_dataset(sets.entries[0], ".").index.usable.sum()) == 30
    assert ["left out of training" in line for line in caplog.messages] == [True, True]


def test_pictures_that_a_config_skips_are_no_error(sets, tiny):
    sets.picture("train").unlink()
    sets.picture("train", 1).write_bytes(b"no picture")
    entries = sets.write()
    words = ("DATASETS.TRAIN", entries[0], "DATASETS.TEST", entries[1], "DATALOADER.BROKEN")
    for broken, severity in (("stop", "error"), ("skip", "warning")):
        diagnosis = examine([], "", cfg=tiny(*words, broken))
        assert verdict(diagnosis) == severity
        kinds = document(diagnosis)["kinds"]
        assert [one["severity"] for one in kinds if one["id"].startswith("picture-")] == [severity] * 2
        assert text(diagnosis).startswith(f"{severity} picture-")
    path, data = sets.picture("train", 2), bytearray(cv2.imencode(".png", texture(1))[1].tobytes())
    kept = path.read_bytes()
    data[60:-60] = bytes(len(data) - 120)  # a header and an end, which is all that is looked at before a training
    path.write_bytes(data)
    found = examine([], "", cfg=tiny(*words, "skip"))
    assert (found.kind("picture-unreadable").severity, found.kind("picture-missing").severity) == ("error", "warning")
    path.write_bytes(kept)
    for place in range(6):
        sets.picture("val", place).unlink()
    assert verdict(examine([], "", cfg=tiny(*words, "skip"))) == "error"  # a test without any picture stops


def test_a_figure_of_a_data_set_is_not_counted(sets):
    finding = Finding("reach-recall", "train.json: after a perfect training fcos would find 99.00 %")
    declare = KINDS.get("reach-recall") or Kind("note", "", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, "reach-recall", declare)
        alone = Diagnosis([], [finding])
        assert text(alone).splitlines()[0] == f"note reach-recall: {finding.text}"
        assert text(alone).endswith("Nothing is wrong: no findings.")
        assert "ot mended" not in text(alone, [])
        assert not_mended(alone) == []
