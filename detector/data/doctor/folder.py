"""What a person who names a folder means by it."""

import os
from pathlib import Path

from detector.data.catalog import DATASETS
from detector.data.entries import resolve
from detector.data.hints import of_folder
from detector.data.layouts import PASSED_OVER, find_data_sets
from detector.data.problems import Finding
from detector.errors import UserError

__all__ = ["PASSED_OVER", "entries_in"]


def entries_in(entry: str, root: str | Path) -> tuple[list[str], list[Finding]]:
    """The entry itself, or where it is a folder, those of the data sets in it, see `find_data_sets`.

    Also a finding for what is passed over there. root: where a folder is looked for that is not in the working
    directory. Raises ValueError for a folder in which there is none.
    """
    folder = resolve(entry, Path(root))
    if entry in DATASETS or not entry or not os.path.isdir(folder):
        return [entry], []  # whose reader says what is wrong
    found = find_data_sets(folder)
    if not found.sure and (hint := of_folder(str(folder), folder)):
        raise UserError(hint)
    return found.entries, found.findings
