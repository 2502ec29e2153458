"""The commands as a user calls them: one process each, a plugin's backbone, train -> test -> predict."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import ROOT, environment
from helpers.fresh import fresh

from detector.tasks.predict import count_text

SETTINGS = [
    *("MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "4", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"),
    *("INPUT.MIN_SIZE_TRAIN", "64", "INPUT.MIN_SIZE_TEST", "64", "SOLVER.CHECKPOINT_PERIOD", "2"),
]


def call(*words, path=(), cwd=ROOT):
    return fresh("-m", "detector", *words, env=environment(*path), cwd=cwd)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The example of a backbone in the docs, as a package in a folder."""
    text = (ROOT / "docs/howto/add_a_part.md").read_text()
    (code,) = re.findall(r"```python\n(# my_package.*?)```", text, re.DOTALL)
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "my_package").mkdir()
    (folder / "my_package" / "__init__.py").write_text(code)
    return folder


@pytest.fixture(scope="module")
def installed(package, tmp_path_factory):
    """Metadata of an installed distribution that names the package as a plugin."""
    folder = tmp_path_factory.mktemp("site")
    metadata = folder / "my_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[detector.plugins]\nmine = my_package\n")
    return [package, folder]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, installed):
    """A finished run with the installed plugin's backbone; returns its folder and what was printed."""
    home = tmp_path_factory.mktemp("run")
    from detector.data.shapes import generate_shapes

    generate_shapes(home / "data" / "shapes", num_train=8, num_val=4)
    words = [
        "train", "--config-file", "quickstart", *SETTINGS, "MODEL.BACKBONE.NAME", "plain",
        "DATASETS.ROOT", str(home / "data"), "OUTPUT_DIR", str(home / "out"),
    ]  # fmt: skip
    command = [sys.executable, "-m", "detector", *words]  # whatever starts with Python itself is in this one
    run = subprocess.run(command, cwd=ROOT, env=environment(*installed), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return home, run.stdout + run.stderr


def test_an_installed_plugin_trains_with_its_backbone(trained):
    home, text = trained
    assert "Average Precision" in text
    assert re.search(r"triangle +\S+", text)
    assert (home / "out" / "model_0000002.pth").exists()
    assert "NAME: plain" in (home / "out" / "config.yaml").read_text()


def test_a_package_named_on_the_command_line_is_a_plugin_too(trained, package):
    home, _ = trained
    config = home / "out" / "config.yaml"
    run = call("test", "--config-file", config, "TEST.IMS_PER_BATCH", 2, "--import", "my_package", path=[package])
    assert run.returncode == 0, run.stderr[-3000:]
    metrics = json.loads((home / "out" / "metrics.json").read_text())
    assert {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"} < set(metrics)


def test_without_the_plugin_the_name_is_unknown(trained):
    run = call("test", "--config-file", trained[0] / "out" / "config.yaml")
    assert run.returncode == 1
    assert "error: MODEL.BACKBONE.NAME: unknown backbone 'plain'" in run.stderr
    assert "Traceback" not in run.stderr


def test_predict_draws_and_lists(trained, package, tmp_path):
    home, _ = trained
    source = tmp_path / "pictures"
    (source / "inner").mkdir(parents=True)
    cv2.imwrite(str(source / "a.png"), np.full((50, 70, 3), 128, np.uint8))
    cv2.imwrite(str(source / "inner" / "b.jpg"), np.full((90, 40), 128, np.uint8))
    (source / "broken.jpg").write_bytes(b"")
    common = ["--import", "my_package", "--config-file", home / "out" / "config.yaml", "--threshold", "0.0"]
    run = call("predict", *common, "--input", source, "--output", tmp_path / "out", path=[package])
    assert run.returncode == 1, run.stderr[-3000:]
    assert f"error: {source}: 1 of 3 images could not be read; it is named above" in run.stderr
    assert "broken.jpg" in run.stdout
    listed = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [(Path(r["file"]).name, r["width"], r["height"]) for r in listed] == [("a.png", 70, 50), ("b.jpg", 40, 90)]
    for row in listed:
        for one in row["detections"]:
            x1, y1, x2, y2 = one["box"]
            assert 0 <= x1 <= x2 <= row["width"] + 1e-3
            assert 0 <= y1 <= y2 <= row["height"] + 1e-3
            assert one["class"] in ("triangle", "circle", "star", "square")
            assert one["category_id"] in (3, 7, 8, 20)
    assert cv2.imread(str(tmp_path / "out" / "a.jpg")).shape == (50, 70, 3)
    assert cv2.imread(str(tmp_path / "out" / "inner" / "b.jpg")).shape == (90, 40, 3)
    run = call("predict", *common, "--input", tmp_path / "*.nothing", path=[package])
    assert run.returncode == 1
    assert "no image there" in run.stderr


def test_a_run_that_was_moved_is_tested_and_predicts_where_it_is(trained, package, tmp_path):
    home, _ = trained
    run, there = tmp_path / "moved", {"path": [package], "cwd": tmp_path}
    shutil.copytree(home / "out", run)
    for name in ("metrics.json", "results.json"):
        (run / name).unlink()
    before = (home / "out" / "metrics.json").read_bytes()
    done = call("test", "moved", "--import", "my_package", "TEST.IMS_PER_BATCH", 2, **there)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "AP50" in json.loads((run / "metrics.json").read_text())
    assert (run / "results.json").exists()
    assert (home / "out" / "metrics.json").read_bytes() == before
    words = ["moved/model_0000002.pth", home / "data" / "shapes" / "val", "--output", "pictures"]
    done = call("predict", *words, "--import", "my_package", **there)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "model_0000002.pth" in done.stdout
    assert len(json.loads((tmp_path / "pictures" / "detections.json").read_text())) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moved", "pictures"]


@pytest.mark.parametrize(
    ("number", "highest", "text"),
    [
        (1, 0.9, "1 detection"),
        (3, 0.9, "3 detections"),
        (0, 0.0, "0 detections"),
        (0, 0.349, "no detection of score 0.5 or more: the highest is 0.35, so try --threshold 0.34"),
    ],
)
def test_what_predict_says_it_found(number, highest, text):
    assert count_text(number, 0.5, highest) == text
