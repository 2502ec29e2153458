"""The generated data set "shapes": forms of any colour and texture on noisy ground, as JPEG files and a COCO JSON."""

import logging
import math
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

_log = logging.getLogger("detector")

NUM_TRAIN, NUM_VAL = 600, 100
_MIN_SIDE, _MAX_SIDE = 20, 120  # pixels, longer side of an object's own box
_VISIBLE = 0.75  # an object that would leave less of another is placed elsewhere
_CROWD_ID = 1  # the crowd is drawn first
_TURN = math.radians(20)  # either way: a small net learns forms in any position only in many more steps
_PLACE_TRIES = 12
_EMPTY, _CROWDED = 0.05, 0.05  # share of images without objects, and with a crowd


def _circle() -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def _regular(corners: int) -> np.ndarray:
    angles = 2 * np.pi * np.arange(corners) / corners - np.pi / 2
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def _star() -> np.ndarray:
    points = _regular(10)
    points[1::2] *= 0.42
    return points


FORMS: dict[str, tuple[int, np.ndarray]] = {
    "triangle": (3, _regular(3)),
    "circle": (7, _circle()),
    "star": (8, _star()),
    "square": (20, np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)),
}
"""Class name -> (category id, outline [K, 2] around the origin). The ids have gaps on purpose."""


def ensure_shapes(folder: str | Path) -> Path:
    """The folder of the data set, generated there if it does not exist; several processes may ask at once."""
    return made_once(folder, generate_shapes, NUM_TRAIN + NUM_VAL)


def made_once(folder: str | Path, generate: Callable[[Path], None], number: int) -> Path:
    """The folder of a generated data set of so many pictures, made where there is none, whole or not at all."""
    folder = Path(folder)
    if not folder.exists():
        draft = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
        try:
            generate(draft)
            draft.rename(folder)
            _log.info("%d pictures were generated in %s", number, folder)
        except OSError:
            if not folder.exists():  # else another process was faster
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def generate_shapes(folder: str | Path, num_train: int = NUM_TRAIN, num_val: int = NUM_VAL, seed: int = 0) -> None:
    """Writes folder/train/*.jpg, folder/val/*.jpg and folder/annotations/{train,val}.json; the same for equal seeds."""
    folder = Path(folder)
    (folder / "annotations").mkdir(parents=True)
    for part, (name, count) in enumerate((("train", num_train), ("val", num_val))):
        (folder / name).mkdir()
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for i in range(count):
            image, records = draw_scene(np.random.default_rng([seed, part, i]))
            image_id = 11 + 7 * i
            file_name = f"{image_id:06d}.jpg"
            _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])
            (folder / name / file_name).write_bytes(data.tobytes())
            images.append({"id": image_id, "file_name": file_name, "height": image.shape[0], "width": image.shape[1]})
            for record in records:
                annotations.append({"id": len(annotations) + 1, "image_id": image_id, **record})
        categories = [{"id": number, "name": form} for form, (number, _) in FORMS.items()]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations" / f"{name}.json").write_bytes(msgspec.json.encode(content))


def draw_scene(rng: np.random.Generator) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """One picture, uint8 [H, W, 3] (the colours mean nothing), and its records: category_id, bbox, area, iscrowd.

    A box is the tight box of what is visible of its object.
    """
    short, long = int(rng.integers(176, 201)), int(rng.integers(232, 265))
    height, width = (short, long) if rng.random() < 0.6 else (long, short)
    canvas = ground(rng, height, width)
    owner = np.zeros((height, width), np.int32)
    areas = np.zeros(1, np.int64)
    records: list[dict[str, Any]] = []
    if rng.random() < _EMPTY:
        return softened(rng, canvas), records
    if rng.random() < _CROWDED:
        _draw_crowd(rng, canvas, owner, records)
        areas = np.array([0, records[0]["area"]])
    for _ in range(rng.integers(3, 9)):
        form = list(FORMS)[rng.integers(len(FORMS))]
        side = math.exp(rng.uniform(math.log(_MIN_SIDE), math.log(_MAX_SIDE)))
        mask = outlined(rng, FORMS[form][1], side)
        for _ in range(_PLACE_TRIES):
            top = int(rng.integers(0, height - mask.shape[0] + 1))
            left = int(rng.integers(0, width - mask.shape[1] + 1))
            place = np.s_[top : top + mask.shape[0], left : left + mask.shape[1]]
            covered = np.bincount(owner[place][mask], minlength=len(areas))[: len(areas)]
            left_over = np.bincount(owner.ravel(), minlength=len(areas)) - covered
            if (left_over[1:] >= _VISIBLE * areas[1:]).all():
                number = len(areas)
                owner[place][mask] = number
                areas = np.append(areas, mask.sum())
                paint(rng, canvas[place], mask)
                records.append({"category_id": FORMS[form][0], "iscrowd": 0})
                break
    for number, record in enumerate(records, start=1):
        rows, columns = np.nonzero(owner == number)
        top, left = int(rows.min()), int(columns.min())
        sides = [int(columns.max()) + 1 - left, int(rows.max()) + 1 - top]
        record.update(bbox=[left, top, *sides], area=len(rows))
    return softened(rng, canvas), records


def _draw_crowd(rng: np.random.Generator, canvas: np.ndarray, owner: np.ndarray, records: list[dict[str, Any]]) -> None:
    """A clump of small objects of one form, which is one record."""
    form = list(FORMS)[rng.integers(len(FORMS))]
    centre = rng.uniform(0.3, 0.7, 2) * owner.shape
    for _ in range(rng.integers(15, 30)):
        mask = outlined(rng, FORMS[form][1], rng.uniform(11, 20))
        limits = np.array(owner.shape) - mask.shape
        top, left = np.clip(centre + rng.normal(0, 22, 2), 0, limits).astype(int)
        place = np.s_[top : top + mask.shape[0], left : left + mask.shape[1]]
        owner[place][mask] = _CROWD_ID
        paint(rng, canvas[place], mask)
    records.append({"category_id": FORMS[form][0], "iscrowd": 1, "area": int((owner == _CROWD_ID).sum())})


def outlined(rng: np.random.Generator, outline: np.ndarray, side: float) -> np.ndarray:
    """The form, turned and a little stretched, in its tight box of the given longer side; bool [h, w]."""
    angle = rng.uniform(-_TURN, _TURN)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points = outline * [1, rng.uniform(0.9, 1)] @ turn
    points -= points.min(0)
    points *= (side - 1) / points.max()
    height, width = (int(v) + 1 for v in np.ceil(points.max(0))[::-1])
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 1)
    return mask.astype(bool)


def _stripes(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    angle, period = rng.uniform(0, np.pi), rng.uniform(5, 12)
    return np.sin((x * math.cos(angle) + y * math.sin(angle)) * 2 * np.pi / period)


def _checks(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    side = rng.integers(4, 9)
    return ((x // side + y // side) % 2) * 2.0 - 1


def _slope(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    slope = x * math.cos(angle) + y * math.sin(angle)
    return 2 * (slope - slope.min()) / max(np.ptp(slope), 1) - 1


def _plain(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.zeros(np.broadcast_shapes(x.shape, y.shape))


_TEXTURES: tuple[Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray], ...] = (
    _stripes,
    _checks,
    _slope,
    _plain,
)


def paint(rng: np.random.Generator, patch: np.ndarray, mask: np.ndarray) -> None:
    """Fills the mask in the patch, float32 [h, w, 3], with a texture in a colour that stands out from what is there."""
    ground = patch[mask].mean(0)
    colours = rng.uniform(20, 235, (8, 3))
    far = np.abs(colours - ground).sum(1) > 240
    colour = colours[np.argmax(far)] if far.any() else np.where(ground > 128, 30.0, 225.0)
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    texture = _TEXTURES[rng.integers(len(_TEXTURES))](rng, x, y)[..., None] * rng.uniform(5, 20, 3)
    noise = rng.normal(0, rng.uniform(1, 7), (*mask.shape, 3))
    patch[mask] = (colour + texture + noise)[mask]


def ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Soft clouds of colour, thin lines and specks; float32 [height, width, 3]."""
    base = rng.uniform(40, 215, 3)
    clouds = rng.normal(base, rng.uniform(5, 20), (int(rng.integers(3, 7)), int(rng.integers(3, 7)), 3))
    canvas = cv2.resize(clouds.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(0, 6)):
        ends = (rng.random((2, 2)) * (width, height)).astype(int).tolist()
        cv2.line(canvas, ends[0], ends[1], rng.uniform(0, 255, 3).tolist(), int(rng.integers(1, 3)))
    for x, y in (rng.random((rng.integers(0, 12), 2)) * (width, height)).astype(int).tolist():
        cv2.circle(canvas, (x, y), int(rng.integers(1, 3)), rng.uniform(0, 255, 3).tolist(), -1)
    return canvas


def softened(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Softened edges and sensor noise; uint8."""
    noise = rng.standard_normal(canvas.shape, np.float32) * np.float32(rng.uniform(1, 7))
    return np.clip(cv2.GaussianBlur(canvas, (3, 3), 0.6) + noise, 0, 255).astype(np.uint8)
