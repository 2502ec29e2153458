"""The benchmark of learning: both detectors see the same, and both are measured."""

import json

import cv2
import numpy as np
import pytest
import torch

SMALL = [
    *("INPUT.MIN_SIZE_TRAIN", "64", "INPUT.MAX_SIZE_TRAIN", "96", "INPUT.MIN_SIZE_TEST", "64"),
    *("INPUT.MAX_SIZE_TEST", "96", "MODEL.DEVICE", "cpu", "MODEL.NUM_CLASSES", "1", "SOLVER.IMS_PER_BATCH", "2"),
    *("DATALOADER.NUM_WORKERS", "0"),
]


@pytest.fixture(scope="module")
def learn(load_benchmark):
    return load_benchmark("learn")


@pytest.fixture
def cells(tmp_path):
    """Six pictures with a cell each, in VOC's layout, as overrides."""
    for name in ("JPEGImages", "Annotations"):
        (tmp_path / "cells" / name).mkdir(parents=True)
    for i in range(6):
        image = np.full((64, 96, 3), 120, np.uint8)
        cv2.circle(image, (30 + 5 * i, 32), 16, (0, 0, 200), -1)
        cv2.imwrite(str(tmp_path / "cells" / "JPEGImages" / f"{i}.png"), image)
        edges = zip(("xmin", "ymin", "xmax", "ymax"), (15 + 5 * i, 17, 47 + 5 * i, 49))
        box = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges)
        size = "<size><width>96</width><height>64</height></size>"
        text = f"<annotation>{size}<object><name>cell</name><bndbox>{box}</bndbox></object></annotation>"
        (tmp_path / "cells" / "Annotations" / f"{i}.xml").write_text(text)
    return ["DATASETS.ROOT", str(tmp_path), "DATASETS.TRAIN", "voc:cells:train", "DATASETS.TEST", "voc:cells:test"]


def test_both_detectors_see_the_same_and_are_measured(learn, cells, tmp_path, capsys):
    learn.main(["--iterations", "2", "--seeds", "3", "--output", str(tmp_path / "out"), *SMALL, *cells])
    ours, peer = json.loads((tmp_path / "out" / "learn.json").read_text())["runs"]
    assert (ours["detector"], peer["detector"]) == ("ours fcos", "torchvision fcos")
    assert (ours["order"], ours["pixels"]) == (peer["order"], peer["pixels"])
    assert ours["parameters"] - peer["parameters"] == 5  # one network, but for FCOS's learned scale of each level
    for row in (ours, peer):
        assert (row["seed"], row["iterations"]) == (3, 2)
        assert 0 <= row["AP"] <= row["AP50"] <= 1
        assert row["train_s"] > 0
    assert "torchvision fcos" in capsys.readouterr().out
    for name in ("ours_fcos_3", "torchvision_fcos_3"):
        content = torch.load(tmp_path / "out" / name / "model_final.pth", weights_only=True)
        assert (content["step"], content["classes"]) == (2, ["cell"])
        found = json.loads((tmp_path / "out" / name / "results.json").read_text())
        assert {one["image_id"] for one in found} <= set("012345")
    assert found  # of torchvision's, which takes lower scores


def test_the_peer_sees_images_in_the_size_they_come_in(learn, cells):
    task = learn.Peer.from_config(learn.settings("fcos", 2, 0, [*SMALL, *cells]))
    batch = next(iter(task.batches(0, 1)))
    model, seen = task.build(), []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    task.losses(model, batch)
    model.eval()
    assert len(task.detections(model, batch)) == 2
    assert seen == [batch.images.shape] * 2


def test_one_of_them_and_means_over_seeds(learn, cells, tmp_path, capsys):
    short = ["--iterations", "1", "--only", "ours", "--output", str(tmp_path)]
    learn.main([*short, "--seeds", "0,1", *SMALL, *cells])
    first, second = json.loads((tmp_path / "learn.json").read_text())["runs"]
    assert first["pixels"] != second["pixels"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split()[:3] == ["ours", "fcos", "mean"]


def test_seeds_are_numbers(learn):
    with pytest.raises(SystemExit, match="error: --seeds 0 1: write whole numbers with commas"):
        learn.main(["--seeds", "0 1"])


def test_settings_follow_the_iterations(learn):
    cfg = learn.settings("faster_rcnn", 50, 7, ["TEST.IMS_PER_BATCH", "1"])
    assert (cfg.MODEL.HEAD.NAME, cfg.SEED, cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == ("faster_rcnn", 7, 50, (40,))
    assert cfg.TEST.IMS_PER_BATCH == 1
