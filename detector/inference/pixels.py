"""Pictures in memory, in whatever form: arrays, tensors, PIL images."""

import re

import numpy as np
from PIL import Image, ImageOps

from detector.errors import UserError


def is_pixels(source: object) -> bool:
    """Whether it is meant as one picture."""
    return isinstance(source, np.ndarray | Image.Image) or hasattr(source, "detach")


def pixels_of(source: object, number: int, order: str) -> np.ndarray:
    """A copy of the pixels of an array uint8 [H, W, 3], a tensor uint8 [3, H, W] or a PIL image: uint8 [H, W, 3] RGB.

    number: of the picture, for messages; order: "rgb" or "bgr", of the channels of arrays and tensors. Raises
    ValueError for anything else.
    """
    if isinstance(source, Image.Image):
        try:
            return _of_pil(source, number)
        except UserError:
            raise
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # as Pillow's readers do
            raise UserError(f"picture {number}: Pillow cannot read it: {error}") from None
    if isinstance(source, np.ndarray):
        array, form, axis = source, "an array", 2
    elif not hasattr(source, "detach"):
        raise UserError(_wrong(number, f"a {type(source).__name__}"))
    else:
        tensor = source
        kind = re.sub(r"^torch\.", "", str(tensor.dtype))  # type: ignore[attr-defined]
        if kind != "uint8":
            raise UserError(_wrong(number, f"a tensor {kind} {list(tensor.shape)}"))  # type: ignore[attr-defined]
        array, form, axis = tensor.detach().cpu().numpy(), "a tensor", 0  # type: ignore[attr-defined]
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[axis] != 3 or 0 in array.shape:
        raise UserError(_wrong(number, f"{form} {array.dtype} {list(array.shape)}"))
    array = array if axis == 2 else array.transpose(1, 2, 0)
    return np.array(array[..., ::-1] if order == "bgr" else array, order="C")


def _wrong(number: int, what: str) -> str:
    return (
        f"picture {number} is {what}: pass a path, a PIL image, or pixels as they are, uint8 from 0 to 255: an array "
        "[H, W, 3] or a tensor [3, H, W]; several as a list"
    )


def _of_pil(image: Image.Image, number: int) -> np.ndarray:
    """The pixels of a PIL image, turned by its EXIF tag as files are; 16 bits become 8, also those in mode I."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":  # Pillow itself would cut at 0 and 255
        raise UserError(_wrong(number, "a PIL image of mode F, whose white nobody knows"))
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min(initial=0) < 0 or values.max(initial=0) > 0xFFFF:
            raise UserError(
                _wrong(number, f"a PIL image of mode I with values from {values.min()} to {values.max()}, no 16 bits")
            )
        grey = (values.astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(image.convert("RGB"))
