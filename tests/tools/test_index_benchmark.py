"""The benchmark of annotation files: every reader has its costs, and the file goes."""

import json
import re
import tempfile

import pytest

from detector.data.formats import coco


@pytest.mark.parametrize("polygons", [True, False])
def test_the_file_is_one_in_cocos_format(load_benchmark, tmp_path, polygons):
    path = tmp_path / "annotations.json"
    load_benchmark("index").write_annotations(path, 10, 70, polygons)
    content = json.loads(path.read_text())
    assert [len(content[key]) for key in ("images", "annotations", "categories")] == [10, 70, 80]
    assert ("segmentation" in content["annotations"][0]) is polygons
    assert coco.read(path).usable.all()


def test_every_reader_is_measured_and_the_file_goes(load_benchmark, capfd, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("detector.data.index.SMALL", 0)
    load_benchmark("index").main(["--images", "20", "--boxes", "90", "--rounds", "1", "--workers", "0"])
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("20 images, 90 boxes")
    assert [re.split(r" {2,}", line)[0] for line in lines[1:]] == [
        "pycocotools",
        "ours, first time",
        "ours, from then on",
    ]
    assert all(
        re.search(r"\d+\.\d\d s processor +\d+\.\d\d s wall +\d+ MiB peak   1?0?\.?\d*", line) for line in lines[1:]
    )
    assert not list(tmp_path.iterdir())
