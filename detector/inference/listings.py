"""What was found, as files: our JSON, a table, COCO's formats, and data sets in VOC's and YOLO's layout."""

import csv
import io
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from detector.data.catalog import Source
from detector.data.convert import Form, write_datasets
from detector.data.packed import PackedIndex
from detector.data.turning import as_recorded
from detector.errors import UserError
from detector.files import json_bytes, write_atomic, write_json
from detector.inference.drawn import VideoFile, save_picture, was_drawn
from detector.inference.results import Result
from detector.inference.sources import Input, Picture
from detector.text import encodable

if TYPE_CHECKING:  # without torch
    from detector.inference.predictor import Seen

log = logging.getLogger("detector")

LISTING, TABLE, COCO, RESULTS = "detections.json", "detections.csv", "coco.json", "results.json"

HEAD = "file frame seconds width height class category_id score x1 y1 x2 y2 threshold".split()

WRITER = "detections written by detector predict, no annotations"
"""What `info` of a COCO file says."""


class Json:
    """detections.json: a list with an object for each picture, as `Result.to_dict` has it. pictures: drawn ones."""

    def __init__(self, path: Path, pictures: "Pictures | None" = None) -> None:
        self.path, self.pictures = path, pictures
        self.rows: list[dict[str, Any]] = []

    def add(self, seen: "Seen", result: Result) -> None:
        """One more picture."""
        row = result.to_dict()
        if self.pictures is not None:
            row = {"file": row.pop("file"), "picture": self.pictures.of(seen.picture).as_posix(), **row}
        self.rows.append(row)

    def finish(self) -> None:
        """Write the file."""
        write_json(self.path, self.rows)


def is_listing(path: Path) -> bool:
    """Whether a file is a detections.json that was written here, never without a picture."""
    rows = _decoded(path)
    if not isinstance(rows, list) or not rows:
        return False
    return all(isinstance(row, dict) and {"file", "detections"} <= row.keys() for row in rows)


class Csv:
    """detections.csv: a line for each detection, with the columns of HEAD."""

    def __init__(self, path: Path) -> None:
        self.path, self.text = path, io.StringIO(newline="")
        self.writer = csv.writer(self.text, lineterminator="\n")
        self.writer.writerow(HEAD)

    def add(self, seen: "Seen", result: Result) -> None:
        """One more picture."""
        row = result.to_dict()
        place = [
            encodable(row["file"] or ""),
            row.get("frame", ""),
            row.get("seconds", ""),
            row["width"],
            row["height"],
        ]
        for one in row["detections"]:
            named = [encodable(one["class"]), one["category_id"], one["score"]]
            self.writer.writerow([*place, *named, *one["box"], one["threshold"]])

    def finish(self) -> None:
        """Write the file."""
        write_atomic(self.path, self.text.getvalue().encode())


def is_table(path: Path) -> bool:
    """Whether a file is a detections.csv that was written here."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.readline().rstrip(b"\n").decode(errors="replace") == ",".join(HEAD)


class Coco:
    """coco.json, a file in COCO's format with a score for each box; and results.json for a data set with truth.

    Names of images are relative to the folder of all of them; frames of a video are named as their drawn pictures.
    """

    def __init__(self, output: Path, opened: Input, names: dict[int | str, str]) -> None:
        self.output, self.names = output, names
        self.results: list[dict[str, Any]] | None = [] if opened.kind == "data" else None
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.categories: list[dict[str, Any]] = []

    def add(self, seen: "Seen", result: Result) -> None:
        """One more picture."""
        if not self.categories:
            from detector.structures import real_outputs

            triples = zip(result.category_ids, result.classes, real_outputs(result.classes, ()), strict=True)
            self.categories = [{"id": id_, "name": name} for id_, name, real in triples if real]
        id_ = result.image_id
        name = self.names.get(id_) or frame_name(seen.picture).as_posix()
        self.images.append({"id": id_, "file_name": name, "width": result.width, "height": result.height})
        rows = result.to_coco()
        if self.results is not None:
            self.results += rows
        picture = seen.picture
        if rows and picture.upright and picture.path and picture.lasting:
            size = (result.height, result.width)
            boxes = as_recorded(picture.path, np.array([row["bbox"] for row in rows]), size)
            rows = [{**row, "bbox": box} for row, box in zip(rows, boxes.tolist(), strict=True)]
        for row in rows:
            area = row["bbox"][2] * row["bbox"][3]
            self.annotations.append({"id": len(self.annotations) + 1, **row, "area": area, "iscrowd": 0})

    def finish(self) -> None:
        """Write the files."""
        content = {
            "info": {"description": WRITER},
            "images": self.images,
            "annotations": self.annotations,
            "categories": self.categories,
        }
        write_atomic(self.output / COCO, json_bytes(content))
        if self.results is not None:
            write_atomic(self.output / RESULTS, json_bytes(self.results))


def is_coco(path: Path) -> bool:
    """Whether a file is a coco.json that was written here."""
    content = _decoded(path)
    return isinstance(content, dict) and content.get("info") == {"description": WRITER}


def is_results(path: Path) -> bool:
    """Whether a file is a results.json that was written here: then a coco.json of ours lies beside it."""
    return isinstance(_decoded(path), list) and is_coco(path.with_name(COCO))


def _decoded(path: Path) -> Any:  # noqa: ANN401
    try:
        return msgspec.json.decode(path.read_bytes()) if path.is_file() and not path.is_symlink() else None
    except msgspec.DecodeError:
        return None


class DataSet:
    """OUTPUT/voc or OUTPUT/yolo: a data set with copies of the pictures, and what was found as their objects.

    folder: of the pictures; names: of each, below it, by image id. Raises ValueError where the folder is not empty: its
    labels may have been corrected by hand.
    """

    def __init__(self, output: Path, form: Form, folder: Path, names: dict[int | str, str]) -> None:
        self.output, self.form, self.folder, self.names = output / form, form, folder, names
        self.results: list[Result] = []
        self.as_shown: list[bool] = []
        if self.output.exists() and (not self.output.is_dir() or any(self.output.iterdir())):
            raise UserError(
                f"--output {output}: {self.output} is not empty, and its labels may have been corrected since: nothing "
                "was done; write --output another/folder, or delete it"
            )

    def add(self, seen: "Seen", result: Result) -> None:
        """One more picture."""
        self.results.append(result)
        self.as_shown.append(seen.picture.upright)

    def finish(self) -> None:
        """Write the data set."""
        source = Source(self.folder.name or "pictures", self.folder, self._index())
        written = write_datasets({"train": source}, self.form, self.output)
        scores = ["the format has no scores: they are in --format json, csv and coco"]
        for text in [text for text in written.losses if not re.search(r" loses? (its|their) ids?:", text)] + scores:
            log.info("%s: %s", self.output, text)
        log.info("-> %s", written.entry)

    def _index(self) -> PackedIndex:
        from detector.structures import real_outputs

        results = self.results
        real = np.array(real_outputs(results[0].classes, ()), bool)
        classes = [name for name, one in zip(results[0].classes, real, strict=True) if one]
        counts = np.array([len(one) for one in results])
        boxes = np.concatenate([one.boxes for one in results])
        low, high = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64)
        sides = high - low
        number = len(boxes)
        return PackedIndex(
            path=self.output,
            classes=classes,
            category_ids=list(range(1, len(classes) + 1)),
            image_ids=np.arange(1, len(results) + 1),
            file_names=np.array([self.names[one.image_id] for one in results]),
            heights=np.array([one.height for one in results]),
            widths=np.array([one.width for one in results]),
            offsets=np.concatenate([[0], counts.cumsum()]),
            annotation_ids=np.arange(1, number + 1),
            labels=(real.cumsum() - 1)[np.concatenate([one.labels for one in results])],
            boxes_xywh=np.concatenate([low, sides], 1),
            areas=sides.prod(1),
            crowd=np.zeros(number, bool),
            boxes=boxes,
            usable=np.asarray((sides > 0).all(1)),
            difficult=np.zeros(number, bool),
            measured=np.array(self.as_shown),
        )


class Pictures:
    """A drawn picture of each, a JPEG below `output`. names: by image id; frames are named by their video."""

    def __init__(self, output: Path, names: dict[int | str, Path]) -> None:
        self.output, self.names = output, names

    def of(self, picture: Picture) -> Path:
        """Where the drawn one of a picture lies below the output's folder."""
        return self.names.get(picture.image_id) or frame_name(picture)

    def add(self, seen: "Seen", result: Result) -> None:
        """One more picture."""
        path = self.output / self.of(seen.picture)
        if os.path.lexists(path) and not was_drawn(path):  # a frame: how many there are is not known before
            raise UserError(f"{path} would be overwritten, and no prediction wrote it; write --output another/folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        image = result.image if seen.pixels is None else seen.pixels
        save_picture(path, result.draw_on(image))

    def finish(self) -> None:
        """All is written."""


class Video:
    """A drawn video, at the frame rate of the source."""

    def __init__(self, path: Path, rate: float) -> None:
        self.file = VideoFile(path, rate)

    def add(self, seen: "Seen", result: Result) -> None:
        """One more frame."""
        image = result.image if seen.pixels is None else seen.pixels
        self.file.add(result.draw_on(image))

    def finish(self) -> None:
        """Put the video in its place."""
        self.file.finish()
        log.info("-> %s", self.file.path)

    def close(self) -> None:
        """Remove what is not finished."""
        self.file.close()


def frame_name(picture: Picture) -> Path:
    """What the drawn picture of a frame is called."""
    stem = picture.path.stem if picture.path else "camera"
    return Path(stem, f"{picture.frame or 0:06}.jpg")
