"""JSON files of other tools are told by their keys, and what to do with them is said."""

import json

import pytest

from detector.data.formats.coco import read
from detector.data.json_files import OTHER, look_into
from detector.errors import UserError

IMAGES = [{"id": 1, "file_name": "a.jpg", "height": 4, "width": 4}]
CLASSES = [{"id": 1, "name": "cat"}]


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ([{"filename": "a.jpg", "regions": []}], "looks like VIA's own format: export as COCO"),
        ({"a.jpg1": {"filename": "a.jpg", "size": 1, "regions": []}}, "looks like VIA's"),
        ([{"id": 1, "data": {"image": "a.jpg"}, "annotations": []}], "looks like Label Studio's"),
        ({"version": "5", "shapes": [{"shape_type": "rectangle"}], "imagePath": "a.jpg"}, "looks like labelme's"),
        ([{"image": "a.jpg", "annotations": [{"label": "x", "coordinates": {}}]}], "looks like CreateML's"),
        ({"categories": {"label": {}}, "items": [{"id": "a"}]}, "looks like CVAT's or Datumaro's"),
        ({"asset": {"name": "a.jpg"}, "regions": []}, "looks like VoTT's"),
        ({"predictions": [{"boundingBox": {"left": 0.1}}]}, "looks like Azure Custom Vision's"),
        ({"images": {"a": 1}, "annotations": [], "categories": []}, "of a pandas table"),
        ([1], "lists stand under images, annotations, categories"),
    ],
)
def test_the_tool_is_named(tmp_path, tree, said):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(UserError) as caught:
        read(path)
    assert said in str(caught.value)
    file = look_into(path)
    assert file.rank == OTHER
    assert ("looks like" in said) == ("looks like" in file.why)


def test_json_lines_are_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("".join(json.dumps(one) + "\n" for one in IMAGES * 2))
    with pytest.raises(UserError, match=r"a JSON object a line \(JSON lines\): export as COCO"):
        read(path)


def test_a_key_that_is_nearly_annotations(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": IMAGES, "annotation": [], "categories": CLASSES}))
    with pytest.raises(UserError, match="a list under `annotation` and none under `annotations`: call it so"):
        read(path)
    path.write_text(json.dumps({"images": IMAGES, "categories": CLASSES}))
    assert len(read(path)) == 1


def test_measures_of_ours_are_no_export_of_anybody(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"AP": 0.5, "measured": {"data": "val", "annotations": "val.json"}}))
    with pytest.raises(UserError) as caught:
        read(path)
    assert "looks like" not in str(caught.value)
