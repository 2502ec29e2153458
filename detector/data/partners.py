"""Pictures that are there under another name: one that Label Studio or Roboflow made of that in the records."""

import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from detector.text import printable

_STUDIO = re.compile(r"^(?:[0-9a-f]{8}-|[0-9a-f]{4,8}__)(?=.)")
"""What Label Studio puts before the names of what is uploaded, and of what it fetches from an address."""
_ROBOFLOW = re.compile(r"_(?:jpe?g|png|bmp|webp|tiff?)\.rf\.\w+$", re.IGNORECASE)
"""What Roboflow's exports have in place of the ending."""


class Partner(NamedTuple):
    """said: the name in the records; there: that of the file, which is likely the same picture."""

    said: str
    there: str

    def what(self) -> str:
        """Under which names the pictures are there, one for the other, and the remedy."""
        pair = f"{printable(self.there)} for {printable(self.said)}"
        said, there = (bool(_ROBOFLOW.search(_stem(name))) for name in self)
        if there and not said:
            what = "under the names that Roboflow gives to what it exports"
            return f"{what}, {pair}: take the annotations of that export, as its pictures may be scaled or turned"
        if said and not there:
            what = "without what Roboflow adds to names"
            return f"{what}, {pair}: take the pictures of that export, which may be scaled or turned"
        said, there = (bool(_STUDIO.search(_stem(name))) for name in self)
        if said and not there:
            return f"without the sign that Label Studio puts before names, {pair}: take it away from each file_name"
        if there and not said:
            return f"with the sign that Label Studio puts before names, {pair}: take it away from each file"
        return f"under other names, {pair}: give both one name"

    def its(self) -> str:
        """Of a file of labels beside a picture: that one may be the other's, and the remedy."""
        if any(_ROBOFLOW.search(_stem(name)) for name in self):
            return f"{printable(self.there)} may be its, by the names of Roboflow: take both of one export"
        tool = ", by the names of Label Studio" * any(_STUDIO.search(_stem(name)) for name in self)
        return f"{printable(self.there)} may be its{tool}: give both one name"


class Partners:
    """The files of a folder by what their names are without folders, endings and what the tools add."""

    def __init__(self, files: Iterable[str]) -> None:
        self._files: dict[str, str] = {}
        for file in files:
            self._files.setdefault(_plain(file), file)

    def of(self, name: str) -> Partner | None:
        """The file that likely has the picture of this name, which is not there."""
        there = self._files.get(_plain(name))
        return None if there is None else Partner(name, there)


def _plain(name: str) -> str:
    return _ROBOFLOW.sub("", _STUDIO.sub("", _stem(name)))


def _stem(name: str) -> str:
    return os.path.splitext(name.replace("\\", "/").rpartition("/")[2])[0]
