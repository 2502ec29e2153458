"""A weight file is read once for each use; fine-tuning keeps the outputs of the classes that stay."""

import numpy as np
import torch
from PIL import Image

from detector.models.backbones import build_backbone, build_classifier
from detector.models.build import build_detector
from detector.tasks.accuracy import measure_accuracy
from detector.tasks.detection import test as run_test
from detector.tasks.detection import train
from detector.tasks.trained import load_weights


def test_training_reads_the_file_of_a_backbone_once(tiny, tmp_path, reads):
    torch.save(build_backbone("resnet10", "bn").state_dict(), tmp_path / "backbone.pth")
    train(tiny("SOLVER.MAX_ITER", 1, "MODEL.WEIGHT", tmp_path / "backbone.pth"))
    assert reads == ["backbone.pth"]


def test_a_run_is_tested_and_resumed_by_reading_one_checkpoint(tiny, reads):
    train(tiny("SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 1))
    assert not reads
    run_test(tiny())
    assert reads == ["model_final.pth"]
    train(tiny("SOLVER.MAX_ITER", 5), resume=True)
    assert reads == ["model_final.pth", "model_final.pth"]


def test_a_classifier_is_measured_by_reading_its_file_once(tmp_path, reads):
    for name in ("ape", "bat"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "data" / name / "0.png")
    torch.save(build_classifier("resnet10", 2).state_dict(), tmp_path / "classifier.pth")
    weight = str(tmp_path / "classifier.pth")
    measure_accuracy("resnet10", tmp_path / "data", weight, crop=32, workers=0, device="cpu")
    assert reads == ["classifier.pth"]


def test_fine_tuning_on_other_classes_starts_from_the_outputs_of_those_that_stay(tiny, tmp_path, caplog, write_images):
    train(tiny("SOLVER.MAX_ITER", 1))  # of "dark" and "light"
    before = torch.load(tmp_path / "out" / "model_final.pth", weights_only=True)["model"]
    data = write_images(tmp_path / "other", (2, 1), categories=((1, "light"), (2, "apple")))
    cfg = tiny(
        *("DATASETS.TRAIN", data, "DATASETS.TEST", data, "MODEL.WEIGHT", tmp_path / "out" / "model_final.pth"),
        *("OUTPUT_DIR", tmp_path / "fine", "SOLVER.MAX_ITER", 1, "SOLVER.BASE_LR", 1e-30),
    )
    train(cfg)
    after = torch.load(tmp_path / "fine" / "model_final.pth", weights_only=True)["model"]
    torch.testing.assert_close(after["head.cls_logits.weight"][0], before["head.cls_logits.weight"][1])
    assert not torch.allclose(after["head.cls_logits.weight"][1], before["head.cls_logits.weight"][0])
    assert "its outputs for light are kept, those for dark dropped; apple start anew" in caplog.text


def test_a_bare_state_dict_is_tested_and_starts_a_training(tiny, tmp_path):
    trained = train(tiny("SOLVER.MAX_ITER", 1))
    state = torch.load(tmp_path / "out" / "model_final.pth", weights_only=True)["model"]
    torch.save({f"module._orig_mod.{key}": value for key, value in state.items()}, tmp_path / "bare.pth")
    cfg = tiny("MODEL.WEIGHT", tmp_path / "bare.pth", "OUTPUT_DIR", tmp_path / "bare")
    assert run_test(cfg) == trained
    model = build_detector(cfg)
    load_weights(model, cfg, ["dark", "light"])
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
