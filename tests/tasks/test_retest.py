"""The command that measures anew, for every kind of folder that has results."""

import json
import shlex

import pytest

from detector.commands import test as command
from detector.errors import UserError
from detector.tasks.detection import test as run_test
from detector.tasks.detection import train
from detector.tasks.examined import examine_run, read_metrics
from detector.tasks.retest import repeated, retest


@pytest.fixture
def folder(tmp_path):
    """folder(name, weight, entries): one with a metrics.json that says so much."""

    def write(name, weight="", entries=("val",)):
        path = tmp_path / name
        path.mkdir(parents=True)
        said = {"weight": str(weight), "data": {}, "config": {"DATASETS.TEST": list(entries)}}
        (path / "metrics.json").write_text(json.dumps({"measured": said}))
        return path

    return write


def test_where_the_checkpoints_are_the_folder_is_enough(folder, tmp_path):
    mine = folder("run", "gone/elsewhere.pth")
    (mine / "model_0000005.pth").touch()
    assert retest(mine) == f"`detector test {mine}`"
    lost = folder("lost", tmp_path / "lost" / "model_final.pth")
    assert retest(lost) == f"`detector test {lost}`"
    assert retest(folder("unknown")) == f"`detector test {tmp_path / 'unknown'}`"


def test_where_a_test_wrote_elsewhere_weights_and_folder_are_named(folder, tmp_path):
    other = folder("an other", tmp_path / "run" / "model_final.pth")
    assert retest(other) == f"`detector test {tmp_path}/run/model_final.pth OUTPUT_DIR {shlex.quote(str(other))}`"
    assert "'" in retest(other)
    told = repeated(other, "predict", " PHOTOS --threshold auto")
    words = ["predict", f"{tmp_path}/run/model_final.pth", "PHOTOS", "--threshold", "auto", "OUTPUT_DIR", str(other)]
    assert shlex.split(told.strip("`"))[1:] == words


def test_of_several_sets_the_folder_of_all_is_written_to(folder, tmp_path):
    weight = tmp_path / "run" / "model_final.pth"
    for name in ("run/val", "other/val"):
        folder(name, weight, ("val", "more"))
    weight.touch()
    assert retest(tmp_path / "run" / "val") == f"`detector test {tmp_path / 'run'}`"
    assert retest(tmp_path / "other" / "val") == f"`detector test {weight} OUTPUT_DIR {tmp_path / 'other'}`"
    (tmp_path / "run" / "val" / "metrics.json").write_bytes(b"\xff")  # which says nothing
    assert retest(tmp_path / "run" / "val") == f"`detector test {tmp_path / 'run'}`"


def test_the_command_of_a_message_does_what_it_says(tiny, tmp_path):
    train(tiny("SOLVER.MAX_ITER", 1, "SOLVER.STEPS", "()", "OUTPUT_DIR", tmp_path / "run"))
    other = tmp_path / "other"
    run_test(tiny("OUTPUT_DIR", other), weight=tmp_path / "run")
    (other / "results.json").unlink()
    with pytest.raises(UserError, match=r"holds no results\.json: ") as caught:
        examine_run(other)
    words = shlex.split(str(caught.value).split("`")[1])
    assert words[:3] == ["detector", "test", str(tmp_path / "run" / "model_final.pth")]
    command.main(words[2:])
    assert examine_run(other).run == other


def test_a_folder_without_results_is_told_where_they_may_be(tmp_path):
    with pytest.raises(UserError, match="in RUN or in the OUTPUT_DIR that it is given: name that folder"):
        examine_run(tmp_path)
    (tmp_path / "config.yaml").touch()
    told = f"`detector test {tmp_path}` makes them; where a test had another OUTPUT_DIR, they lie there: name that"
    with pytest.raises(UserError, match=told):
        examine_run(tmp_path)


def test_what_cannot_be_read_names_the_command_too(folder, tmp_path):
    path = folder("run") / "metrics.json"
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(UserError, match=f"is no JSON: .*; `detector test {tmp_path / 'run'}` writes it anew"):
        read_metrics(path)
