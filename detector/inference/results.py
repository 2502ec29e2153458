"""What a detector found in one picture."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detector.console import in_notebook
from detector.errors import UserError
from detector.files import user_path, write_atomic
from detector.inference.drawn import encoded
from detector.text import printable

if TYPE_CHECKING:  # without torch, PIL
    from PIL.Image import Image

    from detector.data.transforms import Sample
    from detector.structures import Detection


@dataclass(frozen=True, eq=False)
class Result:
    """The detections of one picture, scores descending.

    boxes: [D, 4] float32 xyxy, pixels of the picture as viewers show it; labels [D] int64 in 0..C-1, places in classes;
    scores [D] float32 in (0, 1]; height, width: of the picture, pixels; image_id: the data set's own, else its number
    in the source, from 1; path: the file it is from, None for pictures in memory and cameras; frame, seconds: its place
    in a video, from 0; classes [C]: names of all classes; category_ids [C]; thresholds [C]: lowest score of each class
    that is here; truth: boxes of the data set that it is from, labels in that set's order.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    height: int
    width: int
    image_id: int | str
    path: Path | None
    frame: int | None
    seconds: float | None
    classes: Sequence[str]
    category_ids: Sequence[int]
    thresholds: Sequence[float]
    truth: "Sample | None" = None
    pixels: Callable[[], np.ndarray | None] = field(default=lambda: None, repr=False)

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        where = printable(str(self.path)) if self.path else f"picture {self.image_id}"
        at = f", frame {self.frame}" if self.frame is not None else ""
        counts = ", ".join(f"{number} {printable(name)}" for name, number in Counter(self.names).most_common())
        return f"<{where}{at} ({self.width} x {self.height}): {counts or 'nothing'}>"

    def _repr_jpeg_(self) -> bytes:
        """What a notebook shows of a result."""
        return encoded(self.draw(), ".jpg")

    @property
    def names(self) -> list[str]:
        """[D] the name of the class of each detection."""
        return [self.classes[label] for label in self.labels.tolist()]

    @property
    def image(self) -> np.ndarray:
        """The picture, uint8 [H, W, 3] RGB. That of a file is read again, so that a list of results takes no memory.

        Raises OSError or UserError where it cannot be read any more.
        """
        image = self.pixels()
        if image is None or image.shape[:2] != (self.height, self.width):
            raise UserError(f"{self.path}: it is not the picture any more that was looked at")
        return image

    def draw(self) -> np.ndarray:
        """The picture with its detections, uint8 [H, W, 3] RGB; the truth of a data set in dashes."""
        return self.draw_on(self.image)

    def draw_on(self, image: np.ndarray) -> np.ndarray:
        """A copy of the picture `image` [H, W, 3] uint8 RGB with the detections, for those who have it at hand."""
        import torch

        from detector.structures import Target
        from detector.visualize import draw

        found: Detection = {
            "boxes": torch.from_numpy(self.boxes),
            "labels": torch.from_numpy(self.labels),
            "scores": torch.from_numpy(self.scores),
        }
        if self.truth is None:
            return draw(image, found, self.classes)
        boxes, labels, ignore = map(torch.from_numpy, (self.truth.boxes, self.truth.labels, self.truth.ignore))
        size = (self.height, self.width)
        target = Target(boxes=boxes, labels=labels, ignore=ignore, image_id=self.image_id, original=size, draw=0)
        return draw(image, found, self.classes, target)

    def save(self, path: str | Path) -> Path:
        """Write the drawn picture; its suffix says the format, as .jpg, .png or .webp. Returns the path.

        Raises ValueError or OSError where it cannot be written, or would take the place of the picture itself.
        """
        path = user_path(path)
        if self.path is not None and path.exists() and path.samefile(self.path):
            raise UserError(f"{path} is the picture itself, which is not drawn on; name another file")
        write_atomic(path, encoded(self.draw(), path.suffix))
        return path

    def show(self) -> "Image | None":
        """Shows the drawn picture in the cell of a notebook; elsewhere nothing is opened, and a PIL image returned."""
        from PIL import Image

        picture = Image.fromarray(self.draw())
        if not in_notebook():
            return picture
        from IPython.display import display

        display(picture)
        return None

    def to_dict(self) -> dict[str, Any]:
        """Plain values: file, width, height and detections; frame and seconds of a video.

        A detection has box (xyxy, pixels), score, class, category_id and threshold.
        """
        place = {} if self.frame is None else {"frame": self.frame, "seconds": self.seconds}
        rows = zip(self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True)
        detections = [
            {
                "box": box,
                "score": score,
                "class": self.classes[label],
                "category_id": self.category_ids[label],
                "threshold": self.thresholds[label],
            }
            for box, score, label in rows
        ]
        file = None if self.path is None else str(self.path)
        return {"file": file, **place, "width": self.width, "height": self.height, "detections": detections}

    def to_coco(self, image_id: int | str | None = None) -> list[dict[str, Any]]:
        """The detections as rows of COCO's results format: image_id, category_id, bbox (x, y, width, height), score.

        image_id: in place of the result's own.
        """
        image_id = self.image_id if image_id is None else image_id
        rows = zip(self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True)
        return [
            {
                "image_id": image_id,
                "category_id": self.category_ids[label],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": score,
            }
            for (x1, y1, x2, y2), score, label in rows
        ]
