"""The generated set of salient objects: one or two vivid forms on pale, noisy ground, and their masks."""

from pathlib import Path

import cv2
import numpy as np

from detector.data.shapes import FORMS, ground, made_once, outlined, softened

NUM_TRAIN, NUM_VAL = 200, 40
_SIZES = (96, 129), (128, 161)  # pixels, ranges of the shorter and longer side
_SHARES = 0.35, 0.75  # of the shorter side: longer side of an object
_PALE = 0.2  # share of its colour that the ground keeps
_FULL, _LIGHT = (170, 255), (120, 255)  # saturation and value of an object, of 255


def ensure_mask_shapes(folder: str | Path) -> Path:
    """The folder of the data set, generated there if it does not exist; several processes may ask at once."""
    return made_once(folder, generate_mask_shapes, NUM_TRAIN + NUM_VAL)


def generate_mask_shapes(folder: str | Path, num_train: int = NUM_TRAIN, num_val: int = NUM_VAL, seed: int = 0) -> None:
    """Writes folder/images/*.jpg, folder/masks/*.png, train.txt and val.txt; the same for equal seeds."""
    folder = Path(folder)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for part, (name, count) in enumerate((("train", num_train), ("val", num_val))):
        names = [f"{name}_{i:04d}" for i in range(count)]
        for i, one in enumerate(names):
            image, mask = draw_salient(np.random.default_rng([seed, part, i]))
            _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])
            (folder / "images" / f"{one}.jpg").write_bytes(data.tobytes())
            _, data = cv2.imencode(".png", mask)
            (folder / "masks" / f"{one}.png").write_bytes(data.tobytes())
        (folder / f"{name}.txt").write_text("".join(f"{one}\n" for one in names))


def draw_salient(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One picture, uint8 [H, W, 3] BGR, and its mask, uint8 [H, W], 255 on the objects.

    Brightness says nothing: the ground has any, and lines and specks on it. It is pale, and the objects are vivid.
    """
    short, long = (int(rng.integers(*bounds)) for bounds in _SIZES)
    height, width = (short, long) if rng.random() < 0.6 else (long, short)
    mask = np.zeros((height, width), np.uint8)
    canvas = ground(rng, height, width)
    canvas += (1 - _PALE) * (canvas.mean(2, keepdims=True) - canvas)
    for _ in range(1 + (rng.random() < 0.3)):
        outline = list(FORMS.values())[rng.integers(len(FORMS))][1]
        form = outlined(rng, outline, rng.uniform(*_SHARES) * short)
        top, left = (int(rng.integers(0, side - own + 1)) for side, own in zip(mask.shape, form.shape, strict=True))
        place = np.s_[top : top + form.shape[0], left : left + form.shape[1]]
        hue, full, light = rng.integers(180), rng.uniform(*_FULL), rng.uniform(*_LIGHT)
        colour = cv2.cvtColor(np.array([[[hue, full, light]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0]
        canvas[place][form] = colour + rng.normal(0, rng.uniform(1, 12), (np.count_nonzero(form), 3))
        mask[place][form] = 255
    return softened(rng, canvas), mask
