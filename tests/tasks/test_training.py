import json
import logging

import cv2
import numpy as np
import pytest
import torch
from helpers import ROOT
from helpers.runs import records

from detector.config import load_config
from detector.errors import NonFiniteError
from detector.tasks.detection import test as run_test  # under its own name pytest would collect it
from detector.tasks.detection import train
from detector.tasks.resolve import resolve


def numbers_of(path):
    """A metrics.json without what it says of itself."""
    content = json.loads(path.read_text())
    del content["measured"]
    return content


def test_a_run_leaves_all_its_files(tiny, tmp_path):
    cfg = tiny("SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.TEST_PERIOD", 3, "MODEL.FCOS.INFERENCE_TH", 0)
    metrics = train(cfg)
    out = tmp_path / "out"
    names = {p.name for p in out.iterdir()}
    assert names == {
        "model_0000002.pth", "model_0000004.pth", "model_final.pth", "model_best.pth",
        "metrics.json", "results.json", "config.yaml", "log.jsonl",
    }  # fmt: skip
    assert load_config(out / "config.yaml") == resolve(cfg, 2, 3)
    content = torch.load(out / "model_final.pth", weights_only=True)
    assert (content["step"], content["classes"], content["category_ids"]) == (6, ["dark", "light"], [3, 7])
    assert "backbone.conv1.weight" in content["model"]
    assert numbers_of(out / "metrics.json") == metrics["val"]
    assert {"AP", "AP50", "AR100", "ARl", "AP/dark", "AP/light"} < set(metrics["val"])
    assert {r["category_id"] for r in json.loads((out / "results.json").read_text())} == {3, 7}
    steps = [r for r in records(out) if "event" not in r]
    assert [r["step"] for r in steps] == [6]
    assert {
        "lr",
        "loss",
        "loss_cls",
        "loss_reg",
        "loss_centerness",
        "grad_norm",
        "data_s",
        "step_s",
        "memory_mb",
    } < set(steps[0])
    assert [r["step"] for r in records(out) if r.get("event") == "evaluation"] == [3, 6]


def test_another_run_in_the_same_folder_is_refused(tiny):
    train(tiny("SOLVER.MAX_ITER", 1))
    with pytest.raises(ValueError, match=r"already holds a run \(model_final\.pth\): add --resume"):
        train(tiny("SOLVER.MAX_ITER", 1))


def test_resume_beyond_the_end_and_without_checkpoint(tiny, caplog):
    caplog.set_level(logging.INFO, "detector")
    train(tiny("SOLVER.MAX_ITER", 3), resume=True)
    assert "holds no checkpoint to resume from" in caplog.text
    before = torch.load(tiny().OUTPUT_DIR + "/model_final.pth", weights_only=True)
    assert train(tiny("SOLVER.MAX_ITER", 3), resume=True)  # nothing to train
    after = torch.load(tiny().OUTPUT_DIR + "/model_final.pth", weights_only=True)
    assert all(torch.equal(v, after["model"][k]) for k, v in before["model"].items())
    with pytest.raises(ValueError, match=r"at step 3, beyond SOLVER\.MAX_ITER 2"):
        train(tiny("SOLVER.MAX_ITER", 2), resume=True)


def test_divergence_stops_with_names_and_keeps_the_checkpoints(tiny, tmp_path):
    cfg = tiny("SOLVER.BASE_LR", 1e12, "SOLVER.WARMUP_ITERS", 0, "SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.MAX_ITER", 40)
    with pytest.raises(NonFiniteError) as caught:
        train(cfg)
    message = str(caught.value)
    assert "learning rate 1e+12" in message
    assert "loss_" in message or "gradient norm" in message
    assert "SOLVER.BASE_LR" in message
    batch = torch.load(tmp_path / "out" / "nonfinite_batch.pth", weights_only=True)
    for target in batch["targets"]:
        assert str(target["image_id"]) in message.partition("images ")[2]
    saved = sorted((tmp_path / "out").glob("model_0*.pth"))
    assert saved
    content = torch.load(saved[0], weights_only=True)
    assert all(torch.isfinite(v).all() for v in content["model"].values())


def test_an_unwritable_output_is_named(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"OUTPUT_DIR .*file.inside cannot be written"):
        train(tiny("OUTPUT_DIR", tmp_path / "file" / "inside"))


def test_weights_move_to_another_class_count_without_the_classifier(tiny, tmp_path, caplog, write_images):
    caplog.set_level(logging.INFO, "detector")
    train(tiny("SOLVER.MAX_ITER", 2))
    source = tmp_path / "out" / "model_final.pth"
    three = write_images(tmp_path / "three", (2, 2), categories=((1, "a"), (2, "b"), (9, "c")))
    other = ["DATASETS.TRAIN", three, "DATASETS.TEST", three, "MODEL.NUM_CLASSES", 3, "MODEL.WEIGHT", source]
    with pytest.raises(
        ValueError,
        match=r"3 classes \('a', 'b', 'c'\), and .*final\.pth was trained on 2 \('dark', 'light'\), without 'a',",
    ):
        run_test(tiny(*other, "OUTPUT_DIR", tmp_path / "none"))
    train(tiny(*other, "OUTPUT_DIR", tmp_path / "fine", "SOLVER.MAX_ITER", 1))
    assert "has 2 class outputs, the config 3: its classifier is dropped" in caplog.text
    with pytest.raises(ValueError, match=r"lists 2 classes \(dark, light\).*write MODEL\.NUM_CLASSES 2"):
        run_test(tiny("MODEL.NUM_CLASSES", 5))


def test_several_test_sets_have_a_folder_each(tiny, tmp_path, data, write_images):
    second = write_images(tmp_path / "second", (1, 1), seed=5)
    metrics = train(tiny("SOLVER.MAX_ITER", 1, "DATASETS.TEST", f"('{data[3]}', '{second}')"))
    assert list(metrics) == ["val", "second"]
    for name in metrics:
        assert numbers_of(tmp_path / "out" / name / "metrics.json") == metrics[name]


def test_no_test_set_is_no_evaluation(tiny, tmp_path):
    assert train(tiny("SOLVER.MAX_ITER", 1, "DATASETS.TEST", "()")) == {}
    assert (tmp_path / "out" / "model_final.pth").exists()


def test_the_memory_format_does_not_change_a_run(tiny, tmp_path):
    final = []
    for last in (True, False):
        out = tmp_path / str(last)
        train(tiny("SOLVER.MAX_ITER", 1, "DATASETS.TEST", "()", "MODEL.CHANNELS_LAST", last, "OUTPUT_DIR", out))
        final.append(torch.load(out / "model_final.pth", weights_only=True)["model"])
    for key, value in final[0].items():
        torch.testing.assert_close(value, final[1][key], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("before", "after"), [("off", "fp16"), ("fp16", "off")])
def test_the_precision_may_change_on_resuming(tiny, tmp_path, before, after):
    small = ("DATASETS.TEST", "()", "INPUT.MIN_SIZE_TRAIN", 32)  # a CPU computes fp16 slowly
    train(tiny(*small, "SOLVER.MAX_ITER", 1, "SOLVER.AMP", before))
    train(tiny(*small, "SOLVER.MAX_ITER", 2, "SOLVER.AMP", after), resume=True)
    content = torch.load(tmp_path / "out" / "model_final.pth", weights_only=True)
    assert (content["step"], bool(content["scaler"])) == (2, after == "fp16")


def test_few_images_a_step_under_batch_norm_are_warned_of(tiny, caplog):
    with caplog.at_level("WARNING"):
        train(tiny("SOLVER.MAX_ITER", 1, "MODEL.BACKBONE.NORM", "bn"))
    assert "batch norms measure their statistics on 2 images at a time" in caplog.text


def test_outputs_that_stand_for_no_class_are_left_out_of_the_evaluation(tiny, tmp_path):
    train(tiny("SOLVER.MAX_ITER", 1))
    path = tmp_path / "out" / "model_final.pth"
    content = torch.load(path, weights_only=True)
    for key, value in content["model"].items():
        if "cls_logits" in key:  # dark, N/A, light: the last two alike
            content["model"][key] = value[[0, 1, 1]]
    wide = {"model": content["model"], "classes": ["dark", "N/A", "light"], "category_ids": [3, 5, 7]}
    torch.save(wide, tmp_path / "wide.pth")
    results, everything = [], ("TEST.DETECTIONS_PER_IMG", 1000, "MODEL.FCOS.INFERENCE_TH", 0)
    for weight, classes in ((path, 2), (tmp_path / "wide.pth", 3)):
        home = tmp_path / f"of {classes}"
        run_test(tiny("MODEL.NUM_CLASSES", classes, *everything, "OUTPUT_DIR", home), weight=str(weight))
        results.append(json.loads((home / "results.json").read_text()))
    assert len(results[0]) > 20
    assert {r["category_id"] for r in results[0]} == {3, 7}
    plain, wide = (sorted((r["image_id"], r["category_id"], r["score"]) for r in rows) for rows in results)
    assert [row[:2] for row in wide] == [row[:2] for row in plain]
    np.testing.assert_allclose([row[2] for row in wide], [row[2] for row in plain], atol=1e-5)
    with pytest.raises(ValueError, match=r"lists 2 classes .* write MODEL\.NUM_CLASSES 3"):
        run_test(tiny(), weight=str(tmp_path / "wide.pth"))


def test_frozen_parts_stay_as_they_were(tiny, tmp_path):
    cfg = tiny("MODEL.BACKBONE.FREEZE_CONV_BODY_AT", 3, "SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.MAX_ITER", 3)
    train(cfg)
    first, last = (
        torch.load(tmp_path / "out" / name, weights_only=True)["model"]
        for name in ("model_0000001.pth", "model_final.pth")
    )
    for key in first:
        frozen = key.startswith(("backbone.conv1", "backbone.bn1", "backbone.layer1", "backbone.layer2"))
        if frozen:
            assert torch.equal(first[key], last[key]), key
    assert not torch.equal(first["backbone.layer3.0.conv1.weight"], last["backbone.layer3.0.conv1.weight"])


def test_a_single_pixel_and_a_very_wide_image_train_and_evaluate(tiny, tmp_path):
    folder = tmp_path / "extremes"
    folder.mkdir()
    images, annotations = [], []
    for i, (height, width) in enumerate(((1, 1), (3, 12000), (64, 96)), start=1):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((height, width, 3), 90, np.uint8))
        images.append({"id": i, "file_name": f"{i}.png", "height": height, "width": width})
        box = {"bbox": [0, 0, width, height], "area": width * height, "iscrowd": 0}
        annotations.append({"id": i, "image_id": i, "category_id": 3, **box})
    categories = [{"id": 3, "name": "dark"}, {"id": 7, "name": "light"}]
    path = tmp_path / "extremes.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    entry = f"{folder}:{path}"
    metrics = train(tiny("DATASETS.TRAIN", entry, "DATASETS.TEST", entry, "SOLVER.MAX_ITER", 3))
    assert 0 <= metrics["extremes"]["AP"] <= 1


def test_one_line_swaps_the_backbone(tmp_path, data):
    published = (ROOT / "configs" / "fcos" / "resnet50_1080.yaml").read_text()
    assert published.count("NAME: resnet50") == 1
    swapped = published.replace("NAME: resnet50", "NAME: sreresnet50").replace("../", f"{ROOT / 'configs'}/")
    (tmp_path / "mine.yaml").write_text(swapped)
    opts = [
        *data,
        "MODEL.WEIGHT",
        "",
        "MODEL.NUM_CLASSES",
        "2",
        "INPUT.MIN_SIZE_TRAIN",
        "64",
        "INPUT.MIN_SIZE_TEST",
        "64",
    ]
    opts += ["SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "()", "DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu"]
    metrics = train(load_config(tmp_path / "mine.yaml", [*opts, "OUTPUT_DIR", str(tmp_path / "out")]))
    assert "AP/dark" in metrics["val"]


def voc_folder(folder):
    """Four pictures with a box each in VOC's layout, one of them difficult."""
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    for i, name in enumerate(("dark", "light", "dark", "light")):
        image = np.full((64, 96, 3), 120, np.uint8)
        image[10:40, 20:60] = 10 if name == "dark" else 245
        cv2.imwrite(str(folder / "JPEGImages" / f"{i}.png"), image)
        box = "<bndbox><xmin>21</xmin><ymin>11</ymin><xmax>60</xmax><ymax>40</ymax></bndbox>"
        one = f"<object><name>{name}</name><difficult>{int(i == 3)}</difficult>{box}</object>"
        size = "<size><width>96</width><height>64</height></size>"
        (folder / "Annotations" / f"{i}.xml").write_text(f"<annotation>{size}{one}</annotation>")
    return f"voc:{folder}:all"


@pytest.mark.parametrize("evaluator", ["auto", "voc", "[voc, coco]"])
def test_data_in_vocs_layout_is_trained_and_evaluated(tiny, tmp_path, evaluator):
    entry = voc_folder(tmp_path / "cells")
    square = ["INPUT.SQUARE_SIZE", 64, "INPUT.AUGMENTATION", "ssd", "TEST.EVALUATOR", evaluator]
    steps = ("SOLVER.MAX_ITER", 3, "SOLVER.STEPS", "(2,)", "MODEL.FCOS.INFERENCE_TH", 0)
    cfg = tiny("DATASETS.TRAIN", entry, "DATASETS.TEST", entry, *steps, *square)
    (metrics,) = train(cfg).values()
    assert ("AP" in metrics) == (evaluator != "voc")
    assert {"VOC/AP", "VOC/AP50", "VOC/AP50_11point", "VOC/AP50/dark"} < set(metrics)
    assert numbers_of(tmp_path / "out" / "metrics.json") == metrics
    final = torch.load(tmp_path / "out" / "model_final.pth", weights_only=True)
    assert (final["classes"], final["metrics"]) == (["dark", "light"], {"cells_all": metrics})
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {row["image_id"] for row in rows} == {"0", "1", "2", "3"}
    assert run_test(cfg) == {"cells_all": metrics}


@pytest.mark.parametrize("part", ["BACKBONE", "NECK", "HEAD"])
def test_names_of_parts_are_checked_before_the_data_are_read(tiny, tmp_path, part):
    (tmp_path / "train.json").unlink()  # whoever reads it says so
    for work in (train, run_test):
        with pytest.raises(KeyError, match=rf"MODEL\.{part}\.NAME: unknown {part.lower()} 'resnet10O'"):
            work(tiny(f"MODEL.{part}.NAME", "resnet10O"))
