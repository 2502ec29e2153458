"""What a detector costs, and the correlation of its filters."""

import pytest
from helpers.arms import write_run, write_truth

from detector.__main__ import main
from detector.config import load_config
from detector.report.facts import correlation, counts


def test_correlation_is_that_of_analyze(tmp_path, capsys):
    folder = write_run(tmp_path / "a", write_truth(tmp_path / "data"), checkpoint=True, log=False)
    cfg = load_config(folder / "config.yaml")
    found = correlation(cfg, folder)
    main(["analyze", "correlation", f"mine:resnet10={folder / 'model_final.pth'}", "--output", str(tmp_path / "out")])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("mean over layers")]
    assert line.split()[-1] == f"{found:.3f}"
    (folder / "model_final.pth").unlink()
    assert correlation(cfg, folder) is None


def test_a_test_size_that_cannot_be_counted():
    number, why = counts(load_config(None, ["INPUT.MIN_SIZE_TEST", 8, "DATALOADER.SIZE_DIVISIBILITY", 1]))
    assert number == {}
    assert "32 pixels" in why


@pytest.mark.parametrize("head", ["fcos", "faster_rcnn", "refinedet"])
def test_every_head_is_counted(head):
    number, why = counts(load_config(None, ["MODEL.HEAD.NAME", head, "MODEL.NUM_CLASSES", 3]))
    assert not why
    assert number["macs"] > number["macs_backbone"] > 0
