"""Small annotation files and pictures."""

import json

import cv2
import numpy as np
import pytest

from detector.config.defaults import get_defaults


class CocoFolder:
    """A folder with pictures and annotation files that tests write."""

    def __init__(self, folder):
        self.folder = folder
        self.images = folder / "images"
        self.images.mkdir()

    def picture(self, name, height, width, seed=0):
        """Writes a picture of smooth noise; returns its array, RGB."""
        grid = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
        image = cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)
        assert cv2.imwrite(str(self.images / name), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        return image

    def annotate(self, annotations, images=None, categories=None, name="train.json"):
        """Writes an annotation file. annotations: dicts, whose ids are filled in."""
        content = {
            "images": images or [{"id": 1, "file_name": "1.png", "height": 60, "width": 80}],
            "annotations": [{"id": i + 1, "image_id": 1, "category_id": 1, **a} for i, a in enumerate(annotations)],
            "categories": categories or [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        path = self.folder / name
        path.write_text(json.dumps(content))
        return path

    def dataset(self, sizes, boxes=None, name="train.json", categories=None):
        """Pictures 1.png, 2.png, .. of these sizes with the given xywh boxes each; returns the config entry."""
        images = [{"id": i + 1, "file_name": f"{i + 1}.png", "height": h, "width": w} for i, (h, w) in enumerate(sizes)]
        for i, (h, w) in enumerate(sizes):
            self.picture(f"{i + 1}.png", h, w, seed=i)
        boxes = boxes or [[[2, 3, 10, 8]] for _ in sizes]
        annotations = [{"image_id": i + 1, "bbox": box} for i, some in enumerate(boxes) for box in some]
        path = self.annotate(annotations, images, categories, name)
        return f"{self.images}:{path}"


@pytest.fixture
def coco(tmp_path):
    return CocoFolder(tmp_path)


@pytest.fixture
def cfg(tmp_path):
    node = get_defaults()
    node.DATASETS.ROOT = str(tmp_path)
    node.MODEL.DEVICE = "cpu"
    node.MODEL.NUM_CLASSES = 2
    node.DATALOADER.NUM_WORKERS, node.DATALOADER.SIZE_DIVISIBILITY = 0, 32
    node.INPUT.MIN_SIZE_TRAIN = (40, 48, 56)
    node.INPUT.MAX_SIZE_TRAIN = 100
    node.INPUT.MIN_SIZE_TEST = 48
    node.INPUT.MAX_SIZE_TEST = 100
    node.SOLVER.IMS_PER_BATCH = 2
    node.TEST.IMS_PER_BATCH = 2
    return node
