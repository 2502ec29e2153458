"""What the numbers and the forms of images mean for a run: the schedule fitted to the batch, batches of one form."""

import json

import cv2
import pytest
from helpers.by_hand import RECIPE, distance, train_by_hand
from helpers.runs import move_run, read, records, same_bits

from detector.config import load_config
from detector.models.detector import Detector
from detector.tasks.detection import train

FOR_FOUR = (
    *("SOLVER.REFERENCE_BATCH", 4, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.BASE_LR", 0.04, "SOLVER.MAX_ITER", 3),
    *("SOLVER.STEPS", "(2,)", "SOLVER.GAMMA", 0.5, "SOLVER.WARMUP_ITERS", 1, "SOLVER.WARMUP_FACTOR", 0.25),
)
FOR_TWO = RECIPE._replace(rates=[0.005, 0.0125, 0.02, 0.02, 0.01, 0.01])


def test_a_run_is_fitted_to_the_reference_batch(started, tmp_path):
    cfg, start = started(*FOR_FOUR, "SOLVER.CHECKPOINT_PERIOD", 2)
    train(cfg)
    whole = read(tmp_path / "out" / "model_final.pth")
    assert whole["step"] == 6
    assert records(tmp_path / "out")[-1]["lr"] == 0.01
    assert distance(whole["model"], train_by_hand(cfg, start, FOR_TWO).model, start) < 5e-3
    for number in (2, 4):  # once, however often it is resumed
        folder = tmp_path / f"resumed{number}"
        move_run(tmp_path / "out" / f"model_000000{number}.pth", folder)
        train(started(*FOR_FOUR, "OUTPUT_DIR", folder)[0], resume=True)
        resumed = read(folder / "model_final.pth")
        assert resumed["step"] == 6
        assert same_bits(resumed["model"], whole["model"])


def test_a_run_written_down_is_the_same_run(started, tmp_path):
    train(started(*FOR_FOUR)[0])
    whole = read(tmp_path / "out" / "model_final.pth")
    (tmp_path / "checkpoint.yaml").write_text(whole["config"])
    for number, path in enumerate((tmp_path / "out" / "config.yaml", tmp_path / "checkpoint.yaml")):
        folder = tmp_path / f"again{number}"
        train(load_config(path, ["OUTPUT_DIR", str(folder)]))
        again = read(folder / "model_final.pth")
        assert again["step"] == 6
        assert same_bits(again["model"], whole["model"])


@pytest.fixture
def two_forms(tmp_path, write_images):
    """Training sets of four wide and of four tall pictures."""
    wide, tall = (write_images(tmp_path / name, (1, 2, 1, 1), seed) for seed, name in enumerate(("wide", "tall")))
    for path in (tmp_path / "tall").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path)).transpose(1, 0, 2))
    path = tmp_path / "tall.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["height"], image["width"] = image["width"], image["height"]
    for box in content["annotations"]:
        x, y, w, h = box["bbox"]
        box["bbox"] = [y, x, h, w]
    path.write_text(json.dumps(content))
    return f"('{wide}', '{tall}')"


@pytest.mark.parametrize("grouping", [True, False])
def test_wide_and_tall_images_meet_only_without_grouping(tiny, two_forms, monkeypatch, grouping):
    forms, real = [], Detector.forward

    def forward(self, images, sizes, targets=None):
        forms.append([height > width for height, width in sizes])
        return real(self, images, sizes, targets)

    monkeypatch.setattr(Detector, "forward", forward)
    opts = ("MODEL.NECK.OUT_CHANNELS", 32, "SOLVER.MAX_ITER", 8)
    train(tiny(*opts, "DATASETS.TRAIN", two_forms, "DATASETS.TEST", "()", "DATALOADER.ASPECT_RATIO_GROUPING", grouping))
    assert len(forms) == 8
    assert sum(map(sum, forms)) == 8  # each image twice
    assert (sum(tall != other for tall, other in forms) == 0) == grouping
