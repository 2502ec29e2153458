"""Where public data sets are to be had, for messages on data that are not there."""

from pathlib import Path

FOLDERS = {"bccd": "it is the folder BCCD of `git clone https://github.com/Shenggan/BCCD_Dataset`"}
"""Name of a folder, in lower case -> a clause."""

CATALOG = {
    "coco": "its files are at https://cocodataset.org/#download",
    "voc": "its files are at http://host.robots.ox.ac.uk/pascal/VOC/",
}
"""First word of a name of the catalog -> a clause."""


def origin_of(entry: str, folder: Path) -> str:
    """A clause on where the data set of an entry, which lies in a folder, is to be had; "" where nobody knows it."""
    return FOLDERS.get(folder.name.lower(), "") if ":" in entry else CATALOG.get(entry.partition("_")[0], "")
