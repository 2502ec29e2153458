"""Pictures beside numbers that are complete without them: drawn, or passed over where matplotlib is missing."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detector.errors import MissingPackageError

log = logging.getLogger("detector")


@contextmanager
def picture(path: Path) -> Iterator[None]:
    """Around the drawing of a picture: says where it is, or in one line that it is left out, and what to install.

    One of an earlier study that lies there stays, and is called that.
    """
    try:
        yield
    except MissingPackageError as error:
        earlier = f"; {path} is of an earlier study" * path.exists()
        log.warning("there is no picture: %s%s", error, earlier)
    else:
        log.info("-> %s", path)


def asked(flag: str) -> None:
    """Raise MissingPackageError, before the work, where a flag asks for a picture that cannot be drawn."""
    from detector.analysis.charts import figure_class

    try:
        figure_class()
    except MissingPackageError as error:
        raise MissingPackageError(f"{flag}: {error}") from None
