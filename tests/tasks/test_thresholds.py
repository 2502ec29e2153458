"""thresholds.json: written of a run's results, taken by its predictions, refused for other weights."""

import json
import shlex

import pytest
import torch
from helpers.runs import read

from detector.__main__ import main
from detector.commands import analyze
from detector.commands.predict import predict
from detector.errors import MissingFileError, UserError
from detector.tasks.detection import test as evaluate
from detector.tasks.detection import train
from detector.tasks.thresholds import FILE, read_thresholds


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr("detector.analysis.precision_chart.save_precision_chart", lambda *given: None)


@pytest.fixture
def run(tiny, tmp_path, undrawn):
    """A run of two steps whose results are made up: all objects are found, and as many boxes are wrong."""
    train(tiny("SOLVER.MAX_ITER", 2, "SOLVER.STEPS", "()", "MODEL.FCOS.INFERENCE_TH", 0.001))
    folder = tmp_path / "out"
    truth = json.loads((tmp_path / "val.json").read_text())
    rows = []
    for one in truth["annotations"]:
        score = {3: 0.75, 7: 0.55}[one["category_id"]] + one["id"] / 100
        rows.append(
            {"image_id": one["image_id"], "category_id": one["category_id"], "bbox": one["bbox"], "score": score}
        )
        rows.append({**rows[-1], "bbox": [0, 0, 2, 2], "score": score - 0.3})
    make_up(folder, json.dumps(rows))
    return folder


def make_up(folder, results):
    """Other detections beside a metrics.json, which loses the numbers of its own."""
    (folder / "results.json").write_text(results)
    measured = json.loads((folder / "metrics.json").read_text())["measured"]
    (folder / "metrics.json").write_text(json.dumps({"measured": measured}))


def pr(*words):
    analyze.begin(analyze.parse(["pr", *map(str, words)]))


def test_a_run_gets_thresholds_of_its_weights(run, tiny, tmp_path, caplog, reads):
    """Where there are none the remedy is named, before weights are read; what it says then writes them."""
    reads.clear()
    with pytest.raises(MissingFileError) as caught:
        predict(tiny(), str(tmp_path / "val"), tmp_path / "own", "auto")
    assert str(caught.value) == (
        f"--threshold auto: there is no {run / FILE}: `detector analyze pr {run}` writes it, from the results of the "
        "newest test"
    )
    assert not reads
    assert not (tmp_path / "own").exists()
    results = (run / "results.json").read_text()
    (run / "results.json").write_text("[]")
    pr(run)
    assert f"{run}: nothing was found, so there are no thresholds for --threshold auto" in caplog.messages
    assert not (run / FILE).exists()
    (run / "results.json").write_text(results)
    caplog.set_level("INFO", "detector")
    pr(run)
    assert f"-> {run / FILE}, for `detector predict {run} PHOTOS --threshold auto`" in caplog.messages
    pr(run)
    assert "took the place" not in caplog.text  # the same again
    for iou, before in (("0.7", "0.5"), ("0.5", "0.7")):
        pr(run, "--iou", iou)
        assert caplog.messages[-2:-1] == [
            f"{run / FILE}: the thresholds at IoU {iou} took the place of those at IoU {before}, which `detector "
            f"analyze pr {run} --iou {before}` writes again"
        ]
    said = json.loads((run / FILE).read_text())
    measured = json.loads((run / "metrics.json").read_text())["measured"]
    for key in ("digest", "weight", "step"):
        assert said[key] == measured[key]
    assert (said["version"], said["iou"], said["data"], said["images"], said["step"]) == (1, 0.5, "val", 3, 2)
    assert list(said["classes"]) == ["dark", "light"]
    parts = json.loads((run / "analysis" / "pr.json").read_text())
    for name, one in said["classes"].items():
        part = parts["classes"][name]
        for key in ("threshold", "f1", "precision", "recall", "objects"):
            assert one[key] == part[key]
        assert one["detections"] == part["kept"]
    assert said["other"] == parts["all"]["threshold"]


def test_predictions_take_them(run, tiny, tmp_path, capsys):
    """From the run's folder, and from a checkpoint in it."""
    pr(run)
    content = json.loads((run / FILE).read_text())
    everything = predict(tiny("MODEL.FCOS.INFERENCE_TH", 0.001), str(tmp_path / "val"), tmp_path / "all", 0.0)
    scores = {
        name: sorted(x["score"] for row in everything for x in row["detections"] if x["class"] == name)
        for name in ("dark", "light")
    }
    chosen = {name: values[len(values) // 3 * (1 + (name == "light"))] for name, values in scores.items()}
    for name, value in chosen.items():
        content["classes"][name]["threshold"] = value
    (run / FILE).write_text(json.dumps(content))
    counts = {name: sum(score >= chosen[name] for score in values) for name, values in scores.items()}
    assert counts["dark"] != counts["light"]
    for given in (run, run / "model_final.pth"):
        words = ["predict", str(given), str(tmp_path / "val"), "--output", str(tmp_path / "own"), "--threshold", "auto"]
        main(words)
        each = ", ".join(f"{name} {value:g}" for name, value in chosen.items())
        assert f"--threshold auto: {each} (IoU 0.5 on val, step 2; {run / FILE})" in capsys.readouterr().out
        found = json.loads((tmp_path / "own" / "detections.json").read_text())
        rows = [x for row in found for x in row["detections"]]
        assert {name: sum(x["class"] == name for x in rows) for name in counts} == counts
        assert all(x["threshold"] == chosen[x["class"]] <= x["score"] for x in rows)


def test_those_of_other_weights_are_refused(run, tiny, tmp_path):
    pr(run)
    path = run / "model_final.pth"
    content = read(path)
    key = next(name for name, value in content["model"].items() if value.dtype == torch.float32)
    for part in {"model", "ema"} & content.keys():
        if key in content[part]:
            content[part][key] += 1e-3
    torch.save({**content, "step": 9}, path)
    with pytest.raises(UserError) as caught:
        predict(tiny(), str(tmp_path / "val"), tmp_path / "own", "auto")
    assert str(caught.value) == (
        f"--threshold auto: {run / FILE} is of other weights ({path}, step 2) than {path} (step 9), whose scores mean "
        f"something else: `detector test {run}` and `detector analyze pr {run}` write them anew; or write a number"
    )
    (run / "val").mkdir()  # as of one of several test sets
    (run / FILE).rename(run / "val" / FILE)
    with pytest.raises(UserError, match=rf"`detector test {run}` and `detector analyze pr {run}/val` write them anew"):
        predict(tiny(), str(tmp_path / "val"), tmp_path / "own", "auto")
    evaluate(tiny())  # what the message says
    assert json.loads((run / "metrics.json").read_text())["measured"]["step"] == 9


def test_for_weights_that_are_not_the_newest_another_folder_is_named(run, tiny, tmp_path, capsys):
    pr(run)
    other = run / "model_best.pth"
    content = read(run / "model_final.pth")
    key = next(name for name, value in content["model"].items() if value.dtype == torch.float32)
    content["model"][key] += 1e-3
    torch.save({**content, "step": 1}, other)
    with pytest.raises(UserError, match=rf"`detector test {other} OUTPUT_DIR another/folder` and `detector analyze pr"):
        predict(tiny(), str(tmp_path / "val"), tmp_path / "own", "auto", weight=other)
    # as the message says
    main(["test", str(other), "OUTPUT_DIR", str(tmp_path / "another")])
    make_up(tmp_path / "another", (run / "results.json").read_text())
    capsys.readouterr()
    pr(tmp_path / "another")
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "for `detector predict" in line)
    words = shlex.split(line.split("`")[1].replace("PHOTOS", f"{tmp_path / 'val'} --output {tmp_path / 'own'}"))
    assert words[-2:] == ["OUTPUT_DIR", str(tmp_path / "another")]
    main(words[1:])
    assert (tmp_path / "own" / "detections.json").exists()


# ---------------------------------------------------------------------------- reading


def content(**changes):
    one = {"threshold": 0.25, "f1": 0.5, "precision": 0.5, "recall": 0.5, "objects": 9, "detections": 9}
    return {
        "version": 1, "iou": 0.5, "digest": "x", "weight": "w.pth", "step": 7, "data": "val", "images": 3,
        "classes": {"cat": one, "dog": {**one, "threshold": 0.75}, "a #7": {**one, "threshold": 0.5}}, "other": 0.4,
        **changes,
    }  # fmt: skip


def test_classes_are_found_by_name_and_others_take_that_of_all(tmp_path):
    (tmp_path / FILE).write_text(json.dumps(content()))
    found = read_thresholds(tmp_path)
    assert found.of(["dog", "bird", "cat"], [1, 2, 3]) == [0.75, 0.4, 0.25]
    assert found.of(["a", "a"], [6, 7]) == [0.4, 0.5]


def test_many_classes_are_said_by_the_ends(tmp_path):
    (tmp_path / FILE).write_text(json.dumps(content(step=None)))
    found = read_thresholds(tmp_path)
    names = ["N/A", "cat", "dog", *map(str, range(9))]
    values = [0.01, *found.of(names[1:], range(11))]
    assert found.text(names, values, [False, *[True] * 11]) == (
        f"11 classes from 0.25 (cat) to 0.75 (dog) (IoU 0.5 on val, unknown step; {tmp_path / FILE})"
    )


def test_of_one_of_several_test_sets_they_are_found_in_its_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / FILE).write_text(json.dumps(content()))
    assert read_thresholds(tmp_path).path == tmp_path / "a" / FILE
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / FILE).write_text(json.dumps(content()))
    with pytest.raises(UserError) as caught:
        read_thresholds(tmp_path)
    assert str(caught.value) == (
        f"--threshold auto: {tmp_path} has thresholds of several test sets ({tmp_path / 'a' / FILE}, "
        f"{tmp_path / 'b' / FILE}): copy one to {tmp_path / FILE}"
    )
    (tmp_path / FILE).write_text(json.dumps(content(other=0.9)))
    assert read_thresholds(tmp_path).content.other == 0.9


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", json.dumps(content(version=2)), json.dumps(content(other="0.5")), json.dumps(content(other=None)),
     json.dumps(content()).replace("0.25", "1e999"), '{"version": 1}', "\udcff"],
)  # fmt: skip
def test_what_is_no_such_file_is_named(tmp_path, text):
    (tmp_path / FILE).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=rf"^{tmp_path / FILE}\b.*`detector analyze pr {tmp_path}` writes it anew"):
        read_thresholds(tmp_path)
