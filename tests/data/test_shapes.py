import json

import cv2
import numpy as np
import pytest

from detector.data import shapes
from detector.data.images import read_rgb
from detector.data.index import load_index


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("root") / "shapes"
    shapes.generate_shapes(folder, num_train=120, num_val=4)
    return folder


@pytest.fixture(scope="module")
def index(folder):
    return load_index(folder / "annotations" / "train.json")


def test_the_same_seed_gives_the_same_files(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        shapes.generate_shapes(tmp_path / name, num_train=3, num_val=2, seed=seed)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 7
    content = {name: [(tmp_path / name / file).read_bytes() for file in files] for name in "abc"}
    assert content["a"] == content["b"]
    assert all(a != c for a, c in zip(content["a"], content["c"], strict=True))


def test_train_and_val_differ(folder):
    first, second = (sorted((folder / part).iterdir())[0].read_bytes() for part in ("train", "val"))
    assert first != second


def test_categories_have_gaps_and_all_occur(index):
    assert index.category_ids == [3, 7, 8, 20]
    assert index.classes == ["triangle", "circle", "star", "square"]
    assert (np.bincount(index.labels, minlength=4) > 50).all()


def test_objects_are_inside_and_of_the_promised_size(index):
    np.testing.assert_array_equal(index.boxes[:, 2:] - index.boxes[:, :2], index.boxes_xywh[:, 2:])
    assert index.usable.all()
    longer = index.boxes_xywh[~index.crowd, 2:].max(1)
    assert longer.max() <= 121
    assert np.percentile(longer, 2) >= 16
    assert np.percentile(longer, 90) > 80


def test_there_are_empty_images_crowds_overlaps_and_both_formats(index):
    counts = np.diff(index.offsets)
    assert 0 < (counts == 0).sum() < 20
    assert 0 < index.crowd.sum() < 20
    assert (index.widths > index.heights).any()
    assert (index.widths < index.heights).any()
    pairs = 0
    for i in range(len(index)):
        boxes = index.boxes[index.rows(i)][~index.crowd[index.rows(i)]]
        low, high = np.maximum(boxes[:, None, :2], boxes[:, :2]), np.minimum(boxes[:, None, 2:], boxes[:, 2:])
        pairs += (np.triu((high > low).all(-1), 1)).sum()
    assert pairs > 20


def test_boxes_are_tight_around_what_is_visible(monkeypatch):
    """Without noise and texture each object has one colour: its pixels span its box."""
    monkeypatch.setattr(shapes, "ground", lambda rng, height, width: np.zeros((height, width, 3), np.float32))
    monkeypatch.setattr(shapes, "softened", lambda rng, canvas: canvas)
    painted = iter(range(1, 1000))

    def paint(rng, patch, mask):
        patch[mask] = next(painted)

    monkeypatch.setattr(shapes, "paint", paint)
    monkeypatch.setattr(shapes, "_CROWDED", 0.0)
    for seed in range(8):
        canvas, records = shapes.draw_scene(np.random.default_rng(seed))
        colours = [c for c in np.unique(canvas) if c]
        assert len(colours) == len(records)
        for colour, record in zip(colours, records, strict=True):
            rows, columns = np.nonzero(canvas[..., 0] == colour)
            x, y, w, h = record["bbox"]
            assert (x, y, x + w, y + h) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert record["area"] == len(rows)


def test_no_colour_belongs_to_a_class(folder, index):
    """The mean colours of the objects of all classes come from the same wide range."""
    colours = [[] for _ in index.classes]
    for i in range(len(index)):
        image = cv2.blur(read_rgb(folder / "train" / str(index.file_names[i])), (9, 9))
        for box, label in zip(index.boxes[index.rows(i)], index.labels[index.rows(i)], strict=True):
            x, y = ((box[:2] + box[2:]) / 2).astype(int)
            colours[label].append(image[y, x])
    means = np.array([np.mean(some, 0) for some in colours])
    assert np.ptp(means, axis=0).max() < 45
    assert min(np.std(some, 0).min() for some in colours) > 35


def test_pictures_fit_their_records(folder, index):
    for i in range(0, len(index), 10):
        image = read_rgb(folder / "train" / str(index.file_names[i]), index.size(i))
        assert image.std() > 3


def test_a_second_process_that_was_faster_wins(tmp_path, monkeypatch):
    folder = tmp_path / "shapes"

    def generate(draft):
        draft.mkdir()
        (draft / "mine").touch()
        folder.mkdir()
        (folder / "theirs").touch()

    monkeypatch.setattr(shapes, "generate_shapes", generate)
    assert shapes.ensure_shapes(folder) == folder
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]
    assert [path.name for path in folder.iterdir()] == ["theirs"]


def test_a_broken_generation_leaves_nothing(tmp_path, monkeypatch):
    def generate(draft):
        draft.mkdir()
        raise OSError("disk full")

    monkeypatch.setattr(shapes, "generate_shapes", generate)
    with pytest.raises(OSError, match="disk full"):
        shapes.ensure_shapes(tmp_path / "shapes")
    assert not list(tmp_path.iterdir())


def test_the_files_are_plain_coco(folder):
    content = json.loads((folder / "annotations" / "val.json").read_text())
    assert set(content) == {"images", "annotations", "categories"}
    assert content["images"][1]["id"] == 18
    pycocotools = pytest.importorskip("pycocotools.coco")
    assert len(pycocotools.COCO(str(folder / "annotations" / "val.json")).imgs) == 4
