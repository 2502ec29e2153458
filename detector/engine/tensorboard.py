"""TensorBoard: the numbers of a run, its measures, and pictures of what it finds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from detector.errors import FileAccessError, MissingPackageError
from detector.extras import to_install

FOLDER = "tensorboard"
"""Its files' place in the folder of a run."""

TIMES = ("data_s", "step_s")
NOTHING = -1
"""What a measure is where there is nothing to find, which is no point of a curve."""


def require_tensorboard() -> None:
    """Raise MissingPackageError, with what to install, unless TensorBoard is there."""
    try:
        import tensorboard  # noqa: F401 - its writer takes seconds to import, and comes when something is written
    except ImportError as error:
        raise MissingPackageError(
            f"LOG.TENSORBOARD needs a package that cannot be imported ({error}): "
            f"{to_install('log')}; or leave LOG.TENSORBOARD out"
        ) from None


class Board:
    """Files for TensorBoard, in a folder of a run's own.

    step: finished ones; what an earlier process wrote of later ones is marked as void, so that none is there twice.
    text: the config, for readers; written once, whoever resumes.
    """

    def __init__(self, folder: Path, step: int, text: str) -> None:
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        home = folder / FOLDER
        if home.is_symlink():
            raise FileAccessError(f"{home} is a link, which is not followed; delete it")
        fresh = not any(home.glob("events.*"))
        self.writer = SummaryWriter(str(home), purge_step=step + 1)
        if fresh:
            self.writer.add_text("config", "".join(f"    {line}\n" for line in text.splitlines()), step)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """The averages of the steps before `step`: losses, rate, norm, seconds and memory."""
        for name, value in values.items():
            self.writer.add_scalar(f"{'time' if name in TIMES else 'train'}/{name}", value, step)

    def measures(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Measures by name, or by test set and name, after `step`."""
        for name, value in metrics.items():
            inner = value.items() if isinstance(value, Mapping) else [("", value)]
            for key, one in inner:
                if one != NOTHING:
                    self.writer.add_scalar(f"test/{name}/{key}".rstrip("/"), one, step)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Pictures by name, uint8 RGB [H, W, 3], after `step`."""
        for name, picture in pictures.items():
            self.writer.add_image(name, picture, step, dataformats="HWC")
        self.writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()
