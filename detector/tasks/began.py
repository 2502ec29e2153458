"""Where the paths of a run's config start: in the folder in which it was trained."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detector.engine.records import directory_of
from detector.errors import MissingDataError
from detector.text import printable


@contextmanager
def knowing_where(*folders: Path) -> Iterator[None]:
    """Add to the error of a data set that is not there where the run was trained, if that was in another folder.

    folders: of the run, the first one that has a log counts.
    """
    try:
        yield
    except MissingDataError as error:
        place = next(filter(None, map(directory_of, folders)), "")
        if not place or os.path.realpath(place) == os.path.realpath(os.curdir):
            raise
        shown = printable(shlex.quote(place))
        remedy = f"write `cd {shown}` first" if os.path.isdir(place) else "which is not here"
        raise MissingDataError(f"{error}; the run was trained in {shown}, where its paths start: {remedy}") from None
