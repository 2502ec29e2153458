"""The document of runs: arms, seeds, facts, curves, and what makes a comparison less than fair."""

import json
import math

import numpy as np
import pytest
from helpers.arms import IMAGES, write_run, write_truth

from detector.analysis.counts import count_detector
from detector.config import load_config
from detector.evaluation.report import MEASURES
from detector.evaluation.significance import holm
from detector.files import json_bytes
from detector.report.document import FACTS
from detector.report.origin import read_speed
from detector.report.runs import runs_document, thinned

SHARES = {"resnet10": (0.5, 0.6, 0.7), "resnet18": (0.7, 0.8, 0.75)}


@pytest.fixture
def entry(tmp_path):
    return write_truth(tmp_path / "data")


@pytest.fixture
def folder(tmp_path, entry):
    """Two backbones with three seeds each."""
    for backbone, shares in SHARES.items():
        for seed, share in enumerate(shares):
            path, name = tmp_path / "runs" / f"{backbone}_{seed}", ("MODEL.BACKBONE.NAME", backbone)
            write_run(path, entry, *name, hits=share, seed=seed, scale=2**seed)
    return tmp_path / "runs"


def recall(folder):
    return len(json.loads((folder / "results.json").read_text())) / IMAGES


def test_seeds_are_grouped_and_paired(folder):
    document = runs_document(None, [folder], 50)
    assert [*document["models"]] == ["resnet10", "resnet18"]
    values = {b: np.array([recall(folder / f"{b}_{s}") for s in range(3)]) for b in SHARES}
    for name, model in document["models"].items():
        assert [run["seed"] for run in model["runs"]] == [0, 1, 2]
        assert model["AR100"]["value"] == pytest.approx(values[name].mean())
        assert model["AR100"]["seeds"]["n"] == 3
        assert model["AR100"]["seeds"]["sd"] == pytest.approx(values[name].std(ddof=1))
        assert model["AR100"]["bca95"] is None
        assert set(model["AR100"]["seeds"]) == {"n", "sd", "se", "interval95"}
        assert set(model) >= {*MEASURES, "AP/dark", "AP/light", "runs", "facts", "curves"}
    (pair,) = document["differences"]
    gaps = values["resnet18"] - values["resnet10"]
    told = pair["AR100"]
    assert pair["models"] == ["resnet18", "resnet10"]
    assert told["value"] == pytest.approx(gaps.mean())
    assert told["seeds"]["mean"] == pytest.approx(gaps.mean())
    assert told["seeds"]["se"] == pytest.approx(gaps.std(ddof=1) / math.sqrt(3))
    assert told["se"] == pytest.approx(math.hypot(told["seeds"]["se"], told["images"]["se"]))
    assert told["images"]["se"] > 0
    assert {*pair["AP/dark"]} - {*told} == {"p_holm"}
    both = [pair[f"AP/{name}"] for name in ("dark", "light")]
    assert [one["p_holm"] for one in both] == pytest.approx(holm([one["p"] for one in both]))
    assert both[0]["p_holm"] > both[0]["p"] or both[1]["p_holm"] > both[1]["p"]
    assert pair["APs"]["seeds"] is None  # there are no small objects
    assert pair["APs"]["value"] is None
    assert "Fewer than six seeds cannot reach p < 0.05 by the sign-flip test." in document["notes"]
    assert json.loads(json_bytes(document)) == document


def test_facts_curves_and_settings(folder, entry):
    document = runs_document(None, [folder], 10)
    model = document["models"]["resnet18"]
    cfg = load_config(folder / "resnet18_0" / "config.yaml")
    parts = count_detector(cfg, (64, 96))
    facts = model["facts"]
    assert tuple(facts) == FACTS
    assert facts["params"] == sum(part.params for part in parts.values())
    assert facts["macs"] == sum(part.macs for part in parts.values())
    assert facts["macs_backbone"] == parts["backbone"].macs < facts["macs"]
    assert facts["size"] == [64, 96]
    assert facts["step_s"] == 0.6  # the median of the lines, and that of the runs
    assert facts["memory_mb"] == 1200  # the most
    assert facts["train_s"] == pytest.approx(20 * (0.5 + 0.25 + 0.3) * (1 + 2 + 4) / 3)
    assert (facts["image_s"], facts["correlation"]) == (None, None)
    assert (facts["steps"], facts["images_seen"]) == (60, 240)
    assert model["curves"][1] == {
        "seed": 1, "loss": [[20, 2.0], [40, 1.0], [60, 0.5]], "evaluations": [[60, 0.5, 0.7]]
    }  # fmt: skip
    assert (model["backbone"], model["head"]) == ("resnet18", "fcos")
    compared = document["compared"]
    assert compared["differ"] == {"MODEL.BACKBONE.NAME": {"resnet10": "resnet10", "resnet18": "resnet18"}}
    assert compared["same"]["SOLVER.MAX_ITER"] == 60
    assert compared["same"]["DATASETS.TEST"] == [entry]
    assert not {"SEED", "OUTPUT_DIR", "MODEL.DEVICE"} & {*compared["same"]}
    assert (document["device"], document["versions"]) == ("cpu (mine)", {"torch": "2.14"})
    assert (document["kind"], document["truth"], document["images"]) == ("runs", "truth", IMAGES)


def test_named_arms_speed_and_failed_cells(folder):
    arms = {"big one": [folder / "resnet18_2", folder / "resnet18_0"], "small": [folder / "resnet10_1"]}
    speed = {
        "arms": {"big one": {"step_s": 0.2, "image_s": 0.05}, "fcos resnet10": {"image_s": 0.01, "step_s": 0.1}},
        "device": "x",
    }
    document = runs_document(arms, (), 10, speed, {"fcos resnet50, seed 0": "out of memory"})
    facts = {name: model["facts"] for name, model in document["models"].items()}
    assert [*facts] == ["big one", "small"]
    assert [run["seed"] for run in document["models"]["big one"]["runs"]] == [0, 2]
    assert (facts["big one"]["step_s"], facts["big one"]["image_s"]) == (0.2, 0.05)
    # neither what was measured of an arm of another name, nor what its log says, beside what was measured in turns
    assert (facts["small"]["step_s"], facts["small"]["image_s"], facts["small"]["memory_mb"]) == (None, None, None)
    assert "Not measured with the others, so without times and memory: small." in document["notes"]
    assert document["failed"] == [{"cell": "fcos resnet50, seed 0", "why": "out of memory"}]
    assert document["models"]["small"]["AP"]["seeds"] is None
    assert any("one of them has one run" in note for note in document["notes"])
    assert any("measured in turns on x" in note for note in document["notes"])


def test_unequal_seeds_are_said(tmp_path, entry):
    for name, width, seeds in (("a", 64, (0, 1, 2)), ("b", 96, (2, 1, 7)), ("c", 128, (8, 9))):
        for seed in seeds:
            write_run(
                tmp_path / f"{name}_seed{seed}", entry, "MODEL.NECK.OUT_CHANNELS", width, seed=seed, log=seed != 8
            )
    folders = [tmp_path / name for name in ("a_seed0", "a_seed1", "a_seed2", "b_seed1", "b_seed2", "b_seed7")]
    document = runs_document(None, [*folders, tmp_path / "c_seed8", tmp_path / "c_seed9"], 10)
    first, second, third = (f"MODEL.NECK.OUT_CHANNELS {width}" for width in (64, 96, 128))
    assert [*document["models"]] == [first, second, third]
    paired, welch = document["differences"]
    assert paired["AP"]["seeds"]["n"] == 2
    assert welch["AP"]["seeds"]["p"] is None
    notes = "\n".join(document["notes"])
    assert (
        f"{second} and {first} are paired by seeds 1, 2; not in their differences: seed 7 of {second}, seed 0" in notes
    )
    assert f"{third} and {first} have no seed in common: their differences are not paired" in notes
    assert "Two seeds tell little" in notes
    document = runs_document(None, [tmp_path / "a_seed0", tmp_path / "a_seed1", tmp_path / "b_seed1"], 10)
    assert document["differences"][0]["AP"]["seeds"] is None
    assert any("have one seed in common" in note for note in document["notes"])
    document = runs_document(None, [tmp_path / "a_seed0", tmp_path / "a_seed2", tmp_path / "b_seed1"], 10)
    assert any("no seed in common, and one of them has one run" in note for note in document["notes"])
    assert f"{tmp_path / 'c_seed8'} holds no log.jsonl" in notes


def test_what_is_not_fair_is_said(tmp_path, entry):
    write_run(tmp_path / "a", entry)
    other = {"device": "cuda (x)", "threads": 8, "versions": {"torch": "2.9"}}
    write_run(tmp_path / "b", entry, "SOLVER.IMS_PER_BATCH", 8, header=other, step=40)
    notes = "\n".join(runs_document(None, [tmp_path / "a", tmp_path / "b"], 10)["notes"])
    assert (
        "budgets differ: SOLVER.IMS_PER_BATCH 4: 60 steps of 4 images; SOLVER.IMS_PER_BATCH 8: 40 steps of 8" in notes
    )
    assert "different devices: cpu (mine); cuda (x)" in notes
    assert "different versions: torch 2.14; torch 2.9" in notes
    assert "different numbers of threads: 1; 8" in notes
    assert f"{tmp_path / 'b'} was tested at step 40 of 60" in notes
    plain = "\n".join(runs_document(None, [tmp_path / "a"], 10)["notes"])
    assert "there is one run of each" in plain
    assert "differ" not in plain


def test_other_test_sets_are_refused(tmp_path, entry):
    write_run(tmp_path / "a", entry)
    write_run(tmp_path / "b", write_truth(tmp_path / "other", ("dark", "bright")), seed=1)
    with pytest.raises(ValueError, match=r"a and .*b were tested on different classes"):
        runs_document(None, [tmp_path / "a", tmp_path / "b"], 10)
    write_run(tmp_path / "c", write_truth(tmp_path / "third", turn=1), seed=2)
    with pytest.raises(ValueError, match=r"a and .*c were tested on different objects \("):
        runs_document(None, [tmp_path / "a", tmp_path / "c"], 10)


def test_crowds_are_the_same_in_all_tests(tmp_path, entry):
    path = tmp_path / "data" / "truth.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    write_run(tmp_path / "a", entry)
    write_run(tmp_path / "b", entry, "DATASETS.CROWDS", "objects", seed=1)
    with pytest.raises(ValueError, match="some are crowds"):
        runs_document(None, [tmp_path / "a", tmp_path / "b"], 10)


def test_a_seed_that_is_there_twice_is_refused(tmp_path, entry):
    for name in "ab":
        write_run(tmp_path / name, entry, seed=4)
    write_run(tmp_path / "c", entry, seed=5)
    with pytest.raises(
        ValueError, match=r"a and .*b have the same settings .*SEED 4: .* train with SEED 6 and"
    ) as caught:
        runs_document(None, [tmp_path / name for name in "abc"], 10)
    assert f"--results {tmp_path}/a/results.json {tmp_path}/b/results.json --truth {entry} " in str(caught.value)
    (model,) = runs_document(None, [tmp_path / "a", tmp_path / "c"], 10)["models"].values()
    assert model["AP"]["seeds"]["n"] == 2  # what the message tells to do


def test_runs_without_results(folder):
    (folder / "resnet18_1" / "metrics.json").unlink()
    (folder / "resnet10_2" / "results.json").unlink()
    document = runs_document(None, [folder], 10)
    assert [run["seed"] for run in document["models"]["resnet18"]["runs"]] == [0, 2]
    assert [failed["cell"] for failed in document["failed"]] == ["resnet10_2", "resnet18_1"]
    assert "detector test" in document["failed"][1]["why"]
    for path in folder.glob("*/metrics.json"):
        path.unlink()
    with pytest.raises(ValueError, match="no run to compare: resnet10_0"):
        runs_document(None, [folder], 10)


def test_speed_files(tmp_path):
    assert read_speed([tmp_path]) is None
    (tmp_path / "speed.json").write_text('{"arms": {"a": {"image_s": 1}}}')
    assert read_speed([tmp_path / "nothing", tmp_path])["arms"] == {"a": {"image_s": 1}}
    for content, words in (("[]", 'no "arms"'), ("{", "no JSON")):
        (tmp_path / "speed.json").write_text(content)
        with pytest.raises(ValueError, match=words):
            read_speed([tmp_path])


def test_long_curves_are_thinned():
    points = [(20 * i, float(i)) for i in range(1, 8)]
    assert thinned(points, 7) == [list(point) for point in points]
    assert thinned(points, 3) == [[60, 2.0], [120, 5.0], [140, 7.0]]
    assert thinned([]) == []


@pytest.fixture
def comparison(tmp_path, entry):
    """A comparison of two arms of one backbone; its second has a training that broke, its third is broken at all."""
    folder = tmp_path / "cmp"
    arms = {"fcos plain": (), "fcos twice": ("MODEL.BACKBONE.PASSES", 2), "fcos boom": ("SOLVER.BASE_LR", 9.0)}
    for name, keys in arms.items():
        for seed in range(2):
            write_run(folder / f"{name.replace(' ', '_')}_seed{seed}", entry, *keys, seed=seed)
    for name in ("fcos_twice_seed1", "fcos_boom_seed0", "fcos_boom_seed1"):
        break_training(folder / name)
    known = {name: {"keys": {}, "steps": 60} for name in arms}
    (folder / "comparison.json").write_text(json.dumps({"version": 1, "arms": known}))
    times = {"fcos plain": {"step_s": 0.1, "image_s": 0.01, "image_s_rounds": [0.01, 0.02], "memory_mb": 7.0}}
    (folder / "speed.json").write_text(json.dumps({"version": 1, "arms": times, "device": "mine"}))
    return folder


def break_training(folder):
    """Cut its log at step 20, after which its losses are no numbers."""
    lines = (folder / "log.jsonl").read_text().splitlines()[:2]
    lines.append(json.dumps({"step": 26, "event": "nonfinite", "message": "nan"}))
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")


def test_a_comparisons_folder_has_its_names_its_times_and_no_broken_trainings(comparison):
    document = runs_document(None, [comparison], 10)
    assert [*document["models"]] == ["fcos plain", "fcos twice"]  # in its order, which is not that of the folders
    plain, twice = (model["facts"] for model in document["models"].values())
    assert (plain["step_s"], plain["image_s"], plain["memory_mb"]) == (0.1, 0.01, 7.0)
    assert plain["image_s_rounds"] == [0.01, 0.02]
    assert (twice["step_s"], twice["image_s"], twice["memory_mb"]) == (None, None, None)
    assert len(document["models"]["fcos twice"]["runs"]) == 1
    failed = {one["cell"]: one["why"] for one in document["failed"]}
    assert [*failed] == ["fcos_twice_seed1", "fcos_boom_seed0", "fcos_boom_seed1"]
    assert "losses that are no numbers after step 26 of 60" in failed["fcos_boom_seed0"]
    assert document["unfinished"] == []
    assert any("turns on mine" in note for note in document["notes"])
    assert any("tensors of a training step" in note for note in document["notes"])


def test_a_run_of_a_comparison_has_its_arms_times_also_when_it_is_named_alone(comparison, tmp_path, entry):
    write_run(tmp_path / "other", entry, "MODEL.NECK.OUT_CHANNELS", 96)
    document = runs_document(None, [tmp_path / "other", comparison / "fcos_plain_seed0"], 10)
    other, plain = document["models"].values()
    assert (other["facts"]["step_s"], plain["facts"]["step_s"]) == (None, 0.1)


def test_what_did_not_come_to_its_end_is_told_and_is_not_what_others_are_compared_with(tmp_path, entry):
    for name, rate in (("a", 0.5), ("b", 0.1), ("c", 0.2)):
        write_run(tmp_path / name, entry, "SOLVER.BASE_LR", rate)
    break_training(tmp_path / "a")
    log = (tmp_path / "b" / "log.jsonl").read_text().splitlines()[:3]
    (tmp_path / "b" / "log.jsonl").write_text("\n".join(log))
    document = runs_document(None, [tmp_path / name for name in "abc"], 10)
    assert [*document["models"]] == ["SOLVER.BASE_LR 0.2", "SOLVER.BASE_LR 0.5", "SOLVER.BASE_LR 0.1"]
    assert document["unfinished"] == [
        {
            "model": "SOLVER.BASE_LR 0.5", "folder": str(tmp_path / "a"),
            "why": "losses that are no numbers after step 26 of 60",
        },
        {"model": "SOLVER.BASE_LR 0.1", "folder": str(tmp_path / "b"), "why": "its log ends at step 40 of 60"},
    ]  # fmt: skip
    ended = {"step": 40, "event": "patience", "best_step": 20}
    (tmp_path / "b" / "log.jsonl").write_text("\n".join([*log, json.dumps(ended)]))
    document = runs_document(None, [tmp_path / name for name in "abc"], 10)
    assert next(iter(document["models"])) == "SOLVER.BASE_LR 0.1"
    assert len(document["unfinished"]) == 1


def test_memory_is_said_to_be_that_of_the_logs_where_nothing_was_measured(folder):
    document = runs_document(None, [folder], 10)
    assert "on CUDA of the tensors, elsewhere of the whole process" in " ".join(document["notes"])
    assert not any("tensors of a training step" in note for note in document["notes"])
