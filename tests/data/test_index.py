import json
import logging

import numpy as np
import pytest

from detector.data.index import check_same_classes, load_index

SPARSE_IMAGES = [
    {"id": 90, "file_name": "b.png", "height": 50, "width": 100},
    {"id": 0, "file_name": "a.png", "height": 60, "width": 80},
    {"id": 17, "file_name": "sub/ç.png", "height": 10, "width": 10},
]
SPARSE_CATEGORIES = [{"id": 20, "name": "star"}, {"id": 0, "name": "ring"}, {"id": 7, "name": "cross"}]


def failure(path):
    with pytest.raises(ValueError, match=r".") as caught:
        load_index(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_sparse_unsorted_ids_are_packed(coco):
    path = coco.annotate(
        [
            {"id": 31, "image_id": 0, "category_id": 20, "bbox": [1.5, 2, 10, 20], "area": 77.5},
            {"id": 30, "image_id": 90, "category_id": 0, "bbox": [0, 0, 100, 50], "iscrowd": 1},
            {"id": 5, "image_id": 0, "category_id": 7, "bbox": [3, 4, 5, 6], "segmentation": [[1, 2, 3, 4, 5, 6]]},
        ],
        SPARSE_IMAGES,
        SPARSE_CATEGORIES,
    )
    index = load_index(path)
    assert index.classes == ["ring", "cross", "star"]
    assert index.category_ids == [0, 7, 20]
    assert index.image_ids.tolist() == [90, 0, 17]
    assert index.file_names.tolist() == ["b.png", "a.png", "sub/ç.png"]
    assert [index.size(i) for i in range(3)] == [(50, 100), (60, 80), (10, 10)]
    assert index.offsets.tolist() == [0, 1, 3, 3]
    assert index.rows(1) == slice(1, 3)
    assert index.annotation_ids.tolist() == [30, 31, 5]
    assert index.labels.tolist() == [0, 2, 1]
    assert index.crowd.tolist() == [True, False, False]
    assert index.areas.tolist() == [5000, 77.5, 30]
    assert index.boxes_xywh.tolist() == [[0, 0, 100, 50], [1.5, 2, 10, 20], [3, 4, 5, 6]]
    assert index.boxes.tolist() == [[0, 0, 100, 50], [1.5, 2, 11.5, 22], [3, 4, 8, 10]]
    assert index.boxes.dtype == np.float32
    assert index.boxes_xywh.dtype == np.float64
    assert index.num_boxes().tolist() == [0, 2, 0]


def test_text_ids_and_byte_order_mark(coco):
    images = [{"id": "b", "file_name": "b.png", "height": 5, "width": 5}]
    path = coco.annotate([{"id": "x", "image_id": "b", "bbox": [0, 0, 1, 1], "iscrowd": False, "area": None}], images)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    index = load_index(path)
    assert index.image_id(0) == "b"
    assert type(index.image_id(0)) is str
    assert index.annotation_ids.tolist() == ["x"]
    assert index.areas.tolist() == [1]


def test_number_ids_are_python_numbers(coco):
    assert type(load_index(coco.annotate([])).image_id(0)) is int


def test_no_annotations_at_all_is_legal_for_evaluation(coco):
    path = coco.folder / "info.json"
    images = [{"id": 1, "file_name": "1.png", "height": 5, "width": 5}]
    path.write_text(json.dumps({"images": images, "categories": [{"id": 1, "name": "a"}]}))
    index = load_index(path)
    assert len(index) == 1
    assert index.boxes.shape == (0, 4)
    assert index.annotation_ids.dtype == np.int64
    assert index.offsets.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b'{"images": [],\n "annotations": [NaN]}', "line 2, column 18 (byte 32)"),
        (b'\xef\xbb\xbf{"images": [],\n "annotations": [NaN]}', "line 2, column 18 (byte 35)"),
        (b'{"images": [],\n "annotations": [', "line 2, column 18 (byte 32)"),
        (b"", "line 1, column 1 (byte 0)"),
        (b'{"images": [\n{"id": "\xff"}]}', "line 2, column 9 (byte 21)"),
        (b"hello", "line 1, column 1 (byte 0)"),
    ],
)
def test_what_is_no_json_is_located(coco, content, place):
    path = coco.folder / "broken.json"
    path.write_bytes(content)
    assert place in failure(path)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"bbox": [1, 2, 3]}, "length 4 - at `$.annotations[1].bbox`"),
        ({"bbox": [1, 2, 3, "4 px"]}, "got `str` - at `$.annotations[1].bbox[3]`"),
        ({}, "missing required field `bbox` - at `$.annotations[1]`"),
        ({"bbox": [1, 2, 3, 4], "category_id": [1]}, "got `array` - at `$.annotations[1].category_id`"),
    ],
)
def test_wrong_fields_are_named(coco, annotation, message):
    told = failure(coco.annotate([{"bbox": [1, 2, 3, 4]}, annotation]))
    assert message in told
    assert "annotations need id, image_id, category_id and bbox [x, y, width, height]" in told


def test_sizes_must_be_known(coco):
    told = failure(coco.annotate([], [{"id": 1, "file_name": "1.png", "height": 0, "width": 80}]))
    assert "images[0], id 1: '1.png' has no height and width (1 such image); name the folder of the pictures" in told


BOX = {"bbox": [1, 2, 3, 4]}
IMAGE = {"file_name": "1.png", "height": 6, "width": 8}


@pytest.mark.parametrize(
    ("annotations", "images", "categories", "message"),
    [
        ([BOX, {**BOX, "id": 1}], None, None, "annotations[0] and annotations[1] both have id 1"),
        ([], [{"id": "x", **IMAGE}, {"id": "x", **IMAGE}], None, "images[0] and images[1] both have id 'x'"),
        ([], [{"id": "1", **IMAGE}, {"id": 1, **IMAGE}], None, "ids of `images` are partly numbers"),
        ([], None, [{"id": 4, "name": "a"}, {"id": 4, "name": "b"}], "categories[0] and categories[1] both have id 4"),
        ([BOX, {**BOX, "image_id": "2"}], None, None, "annotations[1] has image_id '2', which no record of `images`"),
        ([BOX, {**BOX, "category_id": 9}], None, None, "annotations[1] has category_id 9, which no record of `categ"),
    ],
)
def test_ids_must_be_unique_and_known(coco, annotations, images, categories, message):
    assert message in failure(coco.annotate(annotations, images, categories))


@pytest.mark.parametrize("empty", ["images", "categories"])
def test_empty_lists_are_refused(coco, empty):
    path = coco.annotate([])
    path.write_text(json.dumps({**json.loads(path.read_text()), empty: []}))
    assert f"`{empty}` is empty" in failure(path)


def test_bad_boxes_are_counted_once_for_each_kind(coco, caplog):
    boxes = [
        [10, 10, 20, 20],
        [10, 10, 0, 5],
        [10, 10, -3, 5],
        [10, 10, 5, 0],
        [200, 10, 5, 5],
        [80, 10, 5, 5],
        [70, 10, 10.9, 5],  # 0.9 pixels too far: clipped in silence
        [-5, 50, 20, 20],
    ]
    with caplog.at_level(logging.WARNING, "detector"):
        index = load_index(coco.annotate([{"bbox": box} for box in boxes]))
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 3
    assert "3 boxes have a width or height of zero or less" in messages[0]
    assert "(annotation ids: 2, 3, 4)" in messages[0]
    assert "2 boxes lie outside their image" in messages[1]
    assert "(annotation ids: 5, 6)" in messages[1]
    assert "1 box reaches out of its image by more than a pixel" in messages[2]
    assert "(annotation ids: 8)" in messages[2]
    assert all("train.json" in message for message in messages)
    assert index.annotation_ids.tolist() == [1, 2, 4, 5, 6, 7, 8]  # only the negative side is gone
    assert index.usable.tolist() == [True, False, False, False, False, True, True]
    assert index.boxes[index.usable].tolist() == [[10, 10, 30, 30], [70, 10, 80, 15], [0, 50, 15, 60]]
    assert index.boxes_xywh.tolist() == [box for box in boxes if min(box[2:]) >= 0]


def test_good_boxes_give_no_warning(coco, caplog):
    load_index(coco.annotate([{"bbox": [0, 0, 80, 60]}, {"bbox": [-0.5, 0, 81, 60.5]}]))
    assert not caplog.records


@pytest.mark.parametrize("box", [[-1.5, 2, 9, 9], [2, -1.5, 9, 9], [2, 2, 79.5, 9], [2, 2, 9, 59.5]])
def test_boxes_beyond_each_edge_are_told(coco, caplog, box):
    index = load_index(coco.annotate([{"bbox": box}]))
    assert "1 box reaches out of its image" in caplog.text
    assert index.usable.all()


def test_classes_are_compared_by_id_and_name(coco):
    first = load_index(coco.annotate([], categories=SPARSE_CATEGORIES))
    same = load_index(coco.annotate([], categories=SPARSE_CATEGORIES[::-1], name="same.json"))
    check_same_classes(first, same)
    other = load_index(
        coco.annotate([], categories=[*SPARSE_CATEGORIES[:2], {"id": 7, "name": "disc"}], name="other.json")
    )
    with pytest.raises(ValueError, match=r"train\.json and .*other\.json .*label 1: id 7 'cross' against id 7 'disc'"):
        check_same_classes(first, other)
    fewer = load_index(coco.annotate([], categories=SPARSE_CATEGORIES[1:], name="fewer.json"))
    with pytest.raises(ValueError, match=r"\(3 and 2\).*label 2: id 20 'star' against nothing"):
        check_same_classes(first, fewer)


def test_coco_excerpt_agrees_with_pycocotools(coco_tiny):
    pycocotools = pytest.importorskip("pycocotools.coco")
    for path in sorted((coco_tiny / "annotations").glob("*.json")):
        peer, index = pycocotools.COCO(str(path)), load_index(path)
        assert index.category_ids == sorted(peer.getCatIds())
        assert index.classes == [peer.cats[k]["name"] for k in index.category_ids]
        assert index.image_ids.tolist() == peer.getImgIds()
        assert len(index.labels) == len(peer.anns)
        for i, image_id in enumerate(index.image_ids.tolist()):
            rows, records = index.rows(i), peer.imgToAnns[image_id]
            assert index.annotation_ids[rows].tolist() == [r["id"] for r in records]
            assert index.boxes_xywh[rows].tolist() == [r["bbox"] for r in records]
            assert index.areas[rows].tolist() == [r["area"] for r in records]
            assert index.crowd[rows].tolist() == [r["iscrowd"] for r in records]
            assert [index.category_ids[k] for k in index.labels[rows]] == [r["category_id"] for r in records]


def test_files_nested_too_deep_are_one_line(coco):
    path = coco.annotate([])
    path.write_text(path.read_text()[:-1] + ', "info": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(ValueError, match=r"train\.json: its lists or objects are nested too deep"):
        load_index(path)


@pytest.mark.parametrize("box", [[2**31, 1, 5, 5], [1, -(2.0**31), 5, 5], [1, 1, 5, 1e300]])
def test_boxes_beyond_all_pictures_name_their_record(coco, box):
    path = coco.annotate([{"bbox": [1, 1, 2**31 - 1, 5]}, {"bbox": box}])
    with pytest.raises(ValueError, match=r"train\.json: annotations\[1\], id 2: its box .* is beyond 2147483647"):
        load_index(path)


def test_names_longer_than_any_path_are_refused(coco):
    """Numpy gives every name the space of the longest."""
    image = {"id": 1, "file_name": "a" * 1024, "height": 60, "width": 80}
    assert len(load_index(coco.annotate([], [image]))) == 1
    with pytest.raises(ValueError, match=r"Expected `str` of length <= 1024 - at `\$\.images\[0\]\.file_name`"):
        load_index(coco.annotate([], [{**image, "file_name": "a" * 1025}]))
    with pytest.raises(ValueError, match=r"length <= 256 - at `\$\.images\[0\]\.id`"):
        load_index(coco.annotate([], [{**image, "id": "a" * 257}]))
