"""A single data set written anew in another format."""

from pathlib import Path

from detector.data.catalog import Source
from detector.data.convert import Form, Written, write_datasets


def write_dataset(source: Source, form: Form, folder: Path, split: str = "train", link: bool = False) -> Written:
    return write_datasets({split: source}, form, folder, link)
