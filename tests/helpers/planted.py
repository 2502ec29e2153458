"""Two data sets in COCO's format without any defect, for tests that plant one."""

import json

import cv2
import numpy as np

HEIGHT, WIDTH = 96, 128
CLASSES = ("cat", "dog", "bird")
SPOTS = ((6, 8), (52, 10), (88, 50))  # corners of the boxes, which never meet


def texture(seed):
    """A picture like no other."""
    grid = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(grid, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


class Sets:
    """train and val, each with pictures, an object of each class in each of them, and a JSON file."""

    def __init__(self, folder, train=10, val=6):
        self.folder, self.images = folder, folder / "images"
        self.images.mkdir()
        self.content = {
            part: {
                "images": [],
                "annotations": [],
                "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
            }
            for part in ("train", "val")
        }
        self.entries = [f"{self.images}:{folder / f'{part}.json'}" for part in self.content]
        for part, number in (("train", train), ("val", val)):
            self.grow(part, number)

    def grow(self, part, number, classes=(1, 2, 3)):
        """Further pictures with an object of each of the classes."""
        content = self.content[part]
        for _ in range(number):
            place = len(content["images"])
            name = f"{part}{place}.jpg"
            cv2.imwrite(str(self.images / name), texture(place + 1000 * (part == "val")))
            content["images"].append({"id": place + 1, "file_name": name, "height": HEIGHT, "width": WIDTH})
            for category in classes:
                x, y = SPOTS[category - 1]
                self.box(part, [x + place % 5, y, 20 + place % 3, 22], category, place)

    def box(self, part, box, category=1, image=0, **more):
        """A further annotation."""
        rows = self.content[part]["annotations"]
        rows.append({"id": len(rows) + 1, "image_id": image + 1, "category_id": category, "bbox": box, **more})

    def category(self, name, *parts):
        """A further class; returns its id."""
        for part in parts or ("train", "val"):
            rows = self.content[part]["categories"]
            rows.append({"id": len(rows) + 1, "name": name})
        return len(rows)

    def picture(self, part, place=0):
        """The file of a picture."""
        return self.images / self.content[part]["images"][place]["file_name"]

    def write(self):
        """Writes the JSON files; returns the entries."""
        for part, content in self.content.items():
            if isinstance(content, dict):
                content = json.dumps(content)
            (self.folder / f"{part}.json").write_text(content)
        return self.entries
