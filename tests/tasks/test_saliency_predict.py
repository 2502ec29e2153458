"""Maps and overlays of `detector predict`, and what the other commands say of a network that makes them."""

import json
import logging
import shutil

import cv2
import numpy as np
import pytest
import torch
from helpers.salient import register_small, scene, tiny_salient

from detector.__main__ import main
from detector.config import load_config, save_config
from detector.data.mask_set import build_mask_tests
from detector.errors import UserError
from detector.inference.drawn import is_map, was_drawn
from detector.inference.sources import find_images
from detector.models.saliency import build_saliency
from detector.tasks import detection
from detector.tasks.predict import load
from detector.tasks.saliency_predict import predict_maps


@pytest.fixture(scope="module", autouse=True)
def _small():
    with pytest.MonkeyPatch.context() as patch:
        register_small(patch)
        yield


@pytest.fixture(scope="module")
def run(_small, tmp_path_factory):
    """A folder with a run of one checkpoint, whose network puts out something, and its data."""
    folder = tmp_path_factory.mktemp("salient")
    cfg = tiny_salient(folder)
    torch.manual_seed(3)
    model = build_saliency(cfg)
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    out = folder / "out"
    out.mkdir()
    save_config(cfg, out / "config.yaml")
    content = {"model": model.state_dict(), "config": cfg.dump(), "classes": ["salient object"], "category_ids": [0]}
    torch.save({**content, "step": 4}, out / "model_final.pth")
    return folder


def predict(run, output, *, source=None, threshold=0.5, **options):
    return predict_maps(
        load_config(run / "out" / "config.yaml"), source or str(run / "val" / "images"), output, threshold, **options
    )


def test_maps_have_the_size_of_their_pictures_and_are_what_a_test_measures(run, tmp_path):
    image, _ = scene(7, 50, 31)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "in" / "deep" / "b.png"), image)
    for i in range(3):
        cv2.imwrite(str(tmp_path / "in" / f"a{i}.png"), cv2.imread(str(run / "val" / "images" / f"a{i}.jpg")))
    assert predict(run, tmp_path / "out", source=str(tmp_path / "in")) == 4
    deep = cv2.imread(str(tmp_path / "out/maps/deep/b.png"), cv2.IMREAD_UNCHANGED)
    assert (deep.shape, deep.dtype) == ((50, 31), np.uint8)
    assert deep.std() > 1
    maps = {f"a{i}": cv2.imread(str(tmp_path / f"out/maps/a{i}.png"), cv2.IMREAD_UNCHANGED) for i in range(3)}
    detection.test(load_config(run / "out" / "config.yaml", ["OUTPUT_DIR", str(tmp_path / "tested")]), run / "out")
    from detector.evaluation.saliency import measure

    (dataset,) = build_mask_tests(
        load_config(run / "out" / "config.yaml", ["DATALOADER.SIZE_DIVISIBILITY", "32"])
    ).values()
    rows = json.loads((tmp_path / "tested" / "results.json").read_text())
    for place, row in enumerate(rows):
        found = measure(maps[row["image_id"]], dataset[place][1]["mask"].numpy())
        assert (found.mae, found.s_measure) == pytest.approx((row["mae"], row["s_measure"]), abs=2e-3)
    overlay = cv2.imread(str(tmp_path / "out/overlays/deep/b.jpg"))
    assert overlay.shape == (50, 31, 3)


def test_where_no_picture_can_be_read_no_folder_is_named(run, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="detector")
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "in" / name).write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"in: none of 2 images could be read; each is named above$"):
        predict(run, tmp_path / "out" / "x", source=str(tmp_path / "in"))
    assert sum("it is left out" in line for line in caplog.messages) == 2
    assert not [line for line in caplog.messages if "out/x" in line or " -> " in line]
    assert not (tmp_path / "out").exists()


def test_overlays_are_tinted_from_the_threshold_on(run, tmp_path):
    predict(run, tmp_path / "all", threshold=0.0)
    predict(run, tmp_path / "none", threshold=1.0)
    red, plain = (cv2.imread(str(tmp_path / name / "overlays" / "a0.jpg")).astype(int) for name in ("all", "none"))
    assert (red - plain)[..., 2].mean() > 60
    assert (plain - red)[..., 0].mean() > 25


def test_what_an_earlier_prediction_wrote_is_replaced_and_nothing_else(run, tmp_path):
    predict(run, tmp_path / "out")
    assert is_map(tmp_path / "out/maps/a0.png")
    assert was_drawn(tmp_path / "out/overlays/a0.jpg")
    predict(run, tmp_path / "out")
    (tmp_path / "out/maps/a1.png").write_bytes((run / "val/ground_truth_mask/a1.png").read_bytes())
    with pytest.raises(UserError, match=r"maps/a1\.png would be overwritten, and no prediction wrote it: nothing was"):
        predict(run, tmp_path / "out")


def test_maps_of_an_earlier_prediction_are_no_pictures_of_the_next(run, tmp_path, caplog):
    photos = tmp_path / "photos"
    shutil.copytree(run / "val/images", photos)
    for _ in range(2):
        assert predict(run, photos / "out", source=str(photos)) == 3
    assert sorted(path.name for path in (photos / "out/maps").rglob("*.*")) == ["a0.png", "a1.png", "a2.png"]
    shutil.copy(run / "val/ground_truth_mask/a0.png", photos / "out/maps/mine.png")  # which is a picture
    with caplog.at_level(logging.INFO, "detector"):
        assert len(find_images(str(photos), photos / "out")) == 4
    assert f"6 pictures in {photos}/out, which predict drew, are left out" in caplog.messages


def test_sources_are_folders_of_masks_too_and_lost_pictures_are_named(run, tmp_path, caplog):
    assert predict(run, tmp_path / "out", source=f"saliency:{run}/val") == 3
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.jpg").write_bytes(b"no picture")
    (tmp_path / "in" / "good.jpg").write_bytes((run / "val/images/a0.jpg").read_bytes())
    with (
        caplog.at_level(logging.WARNING, "detector"),
        pytest.raises(UserError, match="1 of 2 images could not be read"),
    ):
        predict(run, tmp_path / "two", source=str(tmp_path / "in"))
    assert "bad.jpg" in caplog.text
    assert (tmp_path / "two/maps/good.png").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold": "auto"}, "--threshold auto is of the classes of a detector"),
        ({"formats": ["coco"]}, "--format coco is for boxes: with MODEL.TASK saliency write --format pictures"),
    ],
)
def test_what_is_for_boxes_is_refused(run, tmp_path, options, said):
    with pytest.raises(UserError, match=said):
        predict(run, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_the_command_predicts(run, tmp_path, monkeypatch):
    words = ["predict", str(run / "out"), str(run / "val/images/a0.jpg"), "--output", str(tmp_path / "out")]
    main(words)
    assert is_map(tmp_path / "out/maps/a0.png")


COMMANDS = [
    ("export", "RUN", "--output", "OUT/x.onnx"),
    ("plan", "saliency/resnet50", "--memory", "8"),
    ("check", "--config-file", "saliency/resnet50"),
    ("compare", "--config-file", "saliency/resnet50", "--backbones", "resnet18", "--output", "OUT/c"),
    ("compare", "--runs", "RUN", "--output", "OUT/c"),
    ("analyze", "errors", "RUN"),
    ("card", "RUN"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: f"{words[0]}-{words[1].strip('-')}")
def test_other_commands_say_in_one_line_that_they_need_boxes(run, tmp_path, words, capsys):
    detection.test(load_config(run / "out" / "config.yaml"))  # so that there are measures to look into
    names = {"RUN": str(run / "out"), "OUT": str(tmp_path), "DATA": str(run / "val")}
    for name, value in names.items():
        words = [word.replace(name, value) for word in words]
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    said = f"{ended.value.code}{capsys.readouterr().err}"
    assert "MODEL.TASK saliency" in said
    assert "detector train" in said
    assert "\n" not in said.strip()
    assert words[0] != "card" or said.startswith("error: detector card is for")


def test_checks_of_data_say_it_too(run, capsys):
    with pytest.raises(SystemExit):
        main(["check", f"saliency:{run}/val"])
    assert "pictures with masks have no boxes" in capsys.readouterr().out


def test_load_says_it_too(run):
    with pytest.raises(UserError, match=r"load\(.*\) is for detectors of boxes, and this is MODEL.TASK saliency"):
        load(run / "out")
