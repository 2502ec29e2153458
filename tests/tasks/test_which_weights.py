"""Which weights a test or a prediction takes, and what metrics.json says of them."""

import json
import logging
from pathlib import Path
from shutil import copytree, rmtree

import pytest
import torch
from helpers.runs import read

from detector.config import load_config
from detector.engine.device import device_name
from detector.errors import UserError
from detector.models.build import build_detector
from detector.tasks.detection import test as run_test  # under its own name pytest would collect it
from detector.tasks.detection import train
from detector.tasks.measured import state_digest
from detector.tasks.trained import find_trained, load_for_inference, load_weights, run_config


def metrics_of(folder, name="metrics"):
    return json.loads((folder / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def tmp_path(home):
    """An empty folder, the same for all tests: a run knows where it lies, so that one training serves them all."""
    rmtree(home / "here", ignore_errors=True)
    (home / "here").mkdir()
    return home / "here"


@pytest.fixture
def once(home, tmp_path):
    """once(name, cfg): train what writes to the folder of this name, or put there what that gave the first time."""

    def trained(name, cfg):
        if (home / name).exists():
            copytree(home / name, tmp_path / name)
        else:
            train(cfg)
            copytree(tmp_path / name, home / name)

    return trained


@pytest.fixture
def first(tiny, tmp_path, once):
    """A run of two steps; its last checkpoint."""
    once("first", tiny("SOLVER.MAX_ITER", 2, "SOLVER.TEST_PERIOD", 1, "OUTPUT_DIR", tmp_path / "first"))
    return tmp_path / "first" / "model_final.pth"


@pytest.fixture
def fine(tiny, tmp_path, first, once):
    """fine("KEY", value, ..): the config of a run that started from the first one, and that has trained a step."""
    opts = ("MODEL.WEIGHT", first, "SOLVER.MAX_ITER", 1, "SOLVER.CHECKPOINT_PERIOD", 1, "OUTPUT_DIR", tmp_path / "fine")
    once("fine", tiny(*opts))
    return lambda *more: tiny(*opts, *more)


def test_a_run_is_tested_with_its_own_weights_whatever_it_started_from(fine, tmp_path, first):
    trained = metrics_of(tmp_path / "fine")
    assert find_trained(fine()).file.path == tmp_path / "fine" / "model_final.pth"
    run_test(fine())
    tested = metrics_of(tmp_path / "fine")
    assert (
        tested["measured"]["digest"]
        == trained["measured"]["digest"]
        == state_digest(read(tmp_path / "fine" / "model_final.pth")["model"])
    )
    assert tested["measured"]["digest"] != state_digest(read(first)["model"])
    assert {p.name for p in (tmp_path / "fine").glob("metrics*")} == {"metrics.json"}


@pytest.mark.parametrize("wish", ["imagenet", "first"])
def test_what_a_run_started_from_is_no_wish_and_that_is_said(fine, tmp_path, first, caplog, monkeypatch, wish):
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, "detector")
    weight = "imagenet" if wish == "imagenet" else "first/model_final.pth"  # relative: another name of the same file
    assert find_trained(fine(), weight=weight).file.path == tmp_path / "fine" / "model_final.pth"
    if wish == "first":  # the Path of a checkpoint is taken whatever it is
        assert find_trained(fine(), weight=first).file.path == first
    said = "detects nothing" if wish == "imagenet" else "is what the run in"
    assert said in caplog.text


def test_a_weight_that_is_asked_for_comes_first(fine, tiny, tmp_path):
    train(tiny("SOLVER.MAX_ITER", 1, "SEED", 3, "OUTPUT_DIR", tmp_path / "third"))
    other = tmp_path / "third" / "model_final.pth"
    before = (tmp_path / "fine" / "metrics.json").read_bytes()
    want = metrics_of(tmp_path / "third")["measured"]["digest"]
    run_test(fine(), weight=str(other))
    assert (tmp_path / "fine" / "metrics.json").read_bytes() == before
    assert metrics_of(tmp_path / "fine", "metrics_model_final")["measured"]["digest"] == want
    assert (tmp_path / "fine" / "results_model_final.json").exists()
    # another file of that name does not overwrite it either
    content = read(other)
    content["model"] = {k: v + 1 if k.endswith("cls_logits.bias") else v for k, v in content["model"].items()}
    (tmp_path / "else").mkdir()
    torch.save(content, tmp_path / "else" / "model_final.pth")
    run_test(fine(), weight=str(tmp_path / "else" / "model_final.pth"))
    assert metrics_of(tmp_path / "fine", "metrics_model_final")["measured"]["digest"] == want
    digest = state_digest(content["model"])
    assert metrics_of(tmp_path / "fine", f"metrics_model_final_{digest[:8]}")["measured"]["digest"] == digest


def test_a_backbones_file_is_no_detector(fine, tmp_path):
    torch.save({"model": {"conv1.weight": torch.ones(1)}}, tmp_path / "backbone.pth")
    with pytest.raises(ValueError, match=r"backbone\.pth holds no detector"):
        run_test(fine(), weight=str(tmp_path / "backbone.pth"))


def test_a_run_that_started_from_a_backbones_file_is_tested_with_its_config(tiny, tmp_path, first):
    state = {k.removeprefix("backbone."): v for k, v in read(first)["model"].items() if k.startswith("backbone.")}
    torch.save(state, tmp_path / "backbone.pth")
    cfg = tiny("MODEL.WEIGHT", tmp_path / "backbone.pth", "SOLVER.MAX_ITER", 1)
    assert train(cfg) == run_test(cfg)
    assert find_trained(cfg).file.path == tmp_path / "out" / "model_final.pth"


def test_without_a_run_the_configs_weight_counts(tiny, tmp_path, first):
    empty = ("OUTPUT_DIR", tmp_path / "empty")
    for weight in ("", "imagenet"):
        with pytest.raises(ValueError, match=r"has no checkpoint and MODEL\.WEIGHT names no detector"):
            run_test(tiny("MODEL.WEIGHT", weight, *empty))
    assert find_trained(tiny("MODEL.WEIGHT", first, *empty)).file.path == first


def test_the_best_weights_are_taken_when_asked_for(tiny, tmp_path, first, caplog):
    caplog.set_level(logging.INFO, "detector")
    cfg = tiny("OUTPUT_DIR", tmp_path / "first")
    assert find_trained(cfg, which="best").file.path.name == "model_best.pth"
    (tmp_path / "first" / "model_best.pth").unlink()
    assert find_trained(cfg, which="best").file.path == first
    assert "has no model_best.pth" in caplog.text
    with pytest.raises(ValueError, match="newest or best"):
        find_trained(cfg, which="worst")


def test_a_bare_state_dict_serves_as_a_checkpoint(tiny, tmp_path, first):
    torch.save(read(first)["model"], tmp_path / "bare.pth")
    cfg = tiny("OUTPUT_DIR", tmp_path / "elsewhere")
    run_test(cfg, weight=str(tmp_path / "bare.pth"))
    said = metrics_of(tmp_path / "elsewhere")["measured"]
    assert said["digest"] == metrics_of(tmp_path / "first")["measured"]["digest"]
    assert (said["weight"], said["step"]) == (str(tmp_path / "bare.pth"), None)
    _, names, ids = load_for_inference(cfg, weight=str(tmp_path / "bare.pth"))
    assert (names, ids) == (["0", "1"], [0, 1])


def test_metrics_say_what_they_measured(first, tmp_path):
    metrics = metrics_of(tmp_path / "first")
    said = metrics.pop("measured")
    assert metrics["AP"] <= metrics["AP50"]
    assert all(isinstance(value, float) for value in metrics.values())
    assert (said["weight"], said["step"]) == (str(first), 2)
    assert said["data"]["name"] == "val"
    assert said["data"]["images"] == 3
    assert said["config"]["MODEL.BACKBONE.NAME"] == "resnet10"
    assert "MODEL.RPN.NMS_THRESH" not in said["config"]  # a default
    assert said["versions"]["torch"] == torch.__version__
    assert said["date"].endswith("+00:00")
    assert said["seconds"] > 0
    assert said["device"] == device_name(torch.device("cpu"))
    assert (said["threads"], said["processes"]) == (torch.get_num_threads(), 1)


def test_newer_weights_of_the_run_take_the_place_and_that_is_said(tiny, tmp_path, first, caplog):
    caplog.set_level(logging.INFO, "detector")
    content = read(first)
    content["model"] = {k: v + 1 if k.endswith("cls_logits.bias") else v for k, v in content["model"].items()}
    torch.save({**content, "step": 5}, tmp_path / "first" / "model_0000005.pth")
    run_test(tiny("OUTPUT_DIR", tmp_path / "first"))
    assert metrics_of(tmp_path / "first")["measured"]["step"] == 5
    assert "the numbers of step 2 (" in caplog.text


def test_a_training_says_whose_numbers_give_way(tiny, tmp_path, first, caplog):
    caplog.set_level(logging.INFO, "detector")
    run_test(tiny("OUTPUT_DIR", tmp_path / "new"), weight=first)
    train(tiny("OUTPUT_DIR", tmp_path / "new", "SOLVER.MAX_ITER", 1))
    assert f"metrics.json: the numbers of step 2 ({first}) give way to those of step 1" in caplog.text
    assert f"numbers -> {tmp_path / 'new' / 'metrics.json'}" in caplog.text
    caplog.clear()
    train(tiny("OUTPUT_DIR", tmp_path / "own", "SOLVER.MAX_ITER", 2, "SOLVER.TEST_PERIOD", 1))
    assert "give way" not in caplog.text  # one step after the other


def test_numbers_that_do_not_say_what_they_measured_stay(tiny, tmp_path, first):
    old = tmp_path / "first" / "metrics.json"
    old.write_text('{"AP": 0.5}')
    run_test(tiny("OUTPUT_DIR", tmp_path / "first"), which="best")
    assert old.read_text() == '{"AP": 0.5}'
    assert metrics_of(tmp_path / "first", "metrics_model_best")["measured"]["weight"].endswith("model_best.pth")


def test_a_runs_folder_or_checkpoint_brings_its_config(tiny, tmp_path, first):
    moved = (tmp_path / "first").rename(tmp_path / "moved")
    cfg = run_config(moved, ["TEST.IMS_PER_BATCH", "1"])
    assert (cfg.OUTPUT_DIR, cfg.TEST.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER) == (str(moved), 1, 2)
    assert run_config(moved / "model_best.pth", []).OUTPUT_DIR == str(moved)
    assert run_config(moved, ["OUTPUT_DIR", "there"]).OUTPUT_DIR == "there"
    lonely = tmp_path / "lonely.pth"
    lonely.write_bytes((moved / "model_final.pth").read_bytes())
    assert run_config(lonely, []).OUTPUT_DIR == str(tmp_path)  # where it lies now
    torch.save(read(lonely)["model"], tmp_path / "bare.pth")
    with pytest.raises(ValueError, match=r"bare\.pth holds no config: .*--config-file"):
        run_config(tmp_path / "bare.pth", [])
    with pytest.raises(ValueError, match=r"nowhere.* is neither a run's folder nor a checkpoint"):
        run_config(tmp_path / "nowhere", [])
    with pytest.raises(ValueError, match=r"holds no checkpoint"):
        run_config(tmp_path, [])


def test_a_runs_folder_is_where_its_weights_are_wherever_results_go(fine, tmp_path, first):
    cfg = run_config(tmp_path / "fine", ["OUTPUT_DIR", str(tmp_path / "eval")])
    found = find_trained(cfg, weight=tmp_path / "fine")
    assert (found.file.path, found.newest) == (tmp_path / "fine" / "model_final.pth", False)
    run_test(cfg, weight=tmp_path / "fine")
    want = metrics_of(tmp_path / "fine")["measured"]["digest"]
    assert metrics_of(tmp_path / "eval")["measured"]["digest"] == want
    assert find_trained(cfg, weight=tmp_path / "first", which="best").file.path.name == "model_best.pth"
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"none holds no checkpoint"):
        find_trained(cfg, weight=tmp_path / "none")


def test_the_digest_is_that_of_the_detector_whatever_its_keys(tiny, tmp_path, first):
    state = {f"module.{key}": v for key, v in read(first)["model"].items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "wrapped.pth")
    run_test(tiny("OUTPUT_DIR", tmp_path / "wrapped"), weight=tmp_path / "wrapped.pth")
    counters = [key for key in read(first)["model"] if key.endswith("num_batches_tracked")]
    want = {key: torch.zeros_like(v) if key in counters else v for key, v in read(first)["model"].items()}
    assert counters
    assert metrics_of(tmp_path / "wrapped")["measured"]["digest"] == state_digest(want)


def test_a_damaged_checkpoint_is_passed_over_wherever_the_newest_counts(tiny, tmp_path, first, caplog):
    whole = first.read_bytes()
    (tmp_path / "first" / "model_0000009.pth").write_bytes(whole[: len(whole) // 2])
    cfg = run_config(tmp_path / "first")
    assert cfg.SOLVER.MAX_ITER == 2
    assert find_trained(cfg).file.path == first
    assert find_trained(cfg, weight=str(first)).file.path == first
    assert "model_0000009.pth is truncated" in caplog.text


def test_the_checkpoints_number_of_classes_counts_where_the_config_leaves_it_open(tiny, tmp_path, first):
    cfg = tiny("MODEL.NUM_CLASSES", 0, "OUTPUT_DIR", tmp_path / "first")
    assert run_test(cfg)
    model, names, _ = load_for_inference(cfg)
    assert (model.head.num_classes, names) == (2, ["dark", "light"])
    assert load_config(Path(tmp_path / "first") / "config.yaml").MODEL.NUM_CLASSES == 2


@pytest.mark.parametrize(("entry", "value"), [("classes", 5), ("category_ids", ["a", "b"]), ("config", {"SEED": 1})])
def test_a_detector_beside_entries_of_another_kind_is_refused_in_one_line(started, tmp_path, entry, value):
    cfg, _ = started()
    torch.save({**read(tmp_path / "start.pth"), entry: value}, tmp_path / "start.pth")
    for use in (lambda: find_trained(cfg), lambda: load_weights(build_detector(cfg), cfg, ["dark", "light"])):
        with pytest.raises(UserError, match=rf"start\.pth: its entry '{entry}' is .*; a checkpoint has a .* there$"):
            use()


@pytest.mark.parametrize("named", [True, False], ids=["with names", "without"])
def test_data_of_other_classes_is_no_matter_of_their_number(tiny, tmp_path, first, write_images, named, caplog):
    caplog.set_level(logging.INFO, "detector")
    content = read(first)
    if not named:
        content = {"model": content["model"]}
    torch.save(content, tmp_path / "lone.pth")
    other = write_images(tmp_path / "other", (1, 1))
    opts = ("DATASETS.TEST", other, "OUTPUT_DIR", tmp_path / "new")
    truth = Path(other.partition(":")[2])
    content = json.loads(truth.read_text())
    before = run_test(tiny(*opts), weight=tmp_path / "lone.pth") if named else None
    content["categories"].insert(0, {"id": 1, "name": "grey"})
    truth.write_text(json.dumps(content))
    if named:  # a class that no object is of is no matter at all
        assert run_test(tiny(*opts), weight=tmp_path / "lone.pth") == before
        assert "no object is of 'grey', which the model does not know: left out" in caplog.text
    content["annotations"][0]["category_id"] = 1
    truth.write_text(json.dumps(content))
    said = r"trained on 2 \('dark', 'light'\), without 'grey': evaluate on data with"
    said = said if named else r"2 class outputs, the config 3 .*: the data lists 3 classes; evaluate on data with"
    for number in (2, 3) if named else (3,):
        opts = ("DATASETS.TEST", other, "OUTPUT_DIR", tmp_path / "new", "MODEL.NUM_CLASSES", number)
        with pytest.raises(ValueError, match=rf"lone\.pth (was|has) {said}"):
            run_test(tiny(*opts), weight=tmp_path / "lone.pth")


def test_a_lone_checkpoint_is_measured_beside_itself_under_its_name(tmp_path, first, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the folder of its run is another one
    before = {path: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    (tmp_path / "shelf").mkdir()
    lone = tmp_path / "shelf" / "mine.pth"
    lone.write_bytes(first.read_bytes())
    run_test(run_config(lone), weight=lone)
    written = {"metrics_mine.json", "results_mine.json"}
    assert {path.name for path in lone.parent.iterdir()} == {"mine.pth", *written}
    assert {path: path.read_bytes() for path in (tmp_path / "first").iterdir()} == before
    content = read(lone)
    torch.save({**content, "model": {k: v + 1 for k, v in content["model"].items()}}, lone)
    run_test(run_config(lone), weight=lone)  # other weights of the same name
    assert len({path.name for path in lone.parent.iterdir()} - written) == 3
    run_test(run_config(lone, ["OUTPUT_DIR", "said"]), weight=lone)
    assert {path.name for path in (tmp_path / "said").iterdir()} == {"metrics.json", "results.json"}


def test_a_folder_that_cannot_be_written_is_said_before_the_work(tiny, tmp_path, first, monkeypatch):
    monkeypatch.setattr("detector.tasks.detection.build_test_datasets", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"OUTPUT_DIR .*file/x cannot be written: Not a directory; write OUTPUT_DIR"):
        run_test(tiny("OUTPUT_DIR", tmp_path / "file" / "x"), weight=first)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match=r"OUTPUT_DIR .*loop cannot be written: File exists"):
        run_test(tiny("OUTPUT_DIR", tmp_path / "loop"), weight=first.parent)
    monkeypatch.setattr("os.access", lambda *of: False)
    with pytest.raises(OSError, match=r"OUTPUT_DIR .*x cannot be written: Permission denied; write OUTPUT_DIR"):
        run_test(tiny("OUTPUT_DIR", tmp_path / "x"), weight=first)


def test_the_same_weights_under_other_settings_are_said(tiny, tmp_path, first, write_images, caplog):
    caplog.set_level(logging.INFO, "detector")
    run_test(tiny("OUTPUT_DIR", tmp_path / "first"))
    run_test(tiny("OUTPUT_DIR", tmp_path / "first", "SEED", 3, "TEST.IMS_PER_BATCH", 1, "TEST.BEST_BY", "AP50"))
    assert "measured otherwise" not in caplog.text
    run_test(tiny("OUTPUT_DIR", tmp_path / "first", "TEST.DETECTIONS_PER_IMG", 1))
    (said,) = [text for text in caplog.messages if "measured otherwise" in text]
    assert "(TEST.DETECTIONS_PER_IMG default -> 1)" in said
    other = write_images(tmp_path / "other", (1, 1))
    run_test(tiny("OUTPUT_DIR", tmp_path / "first", "DATASETS.TEST", other))
    said = [text for text in caplog.messages if "measured otherwise" in text][-1]
    assert "(data val (3 images) -> other (2); TEST.DETECTIONS_PER_IMG 1 -> default)" in said
