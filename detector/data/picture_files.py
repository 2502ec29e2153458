"""Which files below a folder are pictures, and whether two folders hold some of the same files."""

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from torchvision.datasets.folder import IMG_EXTENSIONS


class Files(NamedTuple):
    """Names of pictures relative to a root; where they lie: folders' real paths, and those of files that are links."""

    names: list[bytes]
    folders: set[str]
    links: set[str]

    def meet(self, other: "Files") -> bool:
        """Whether a file is in both, by whatever links each of them is reached."""
        return not (
            self.folders.isdisjoint(other.folders)
            and self.links.isdisjoint(other.links)
            and other.folders.isdisjoint(map(os.path.dirname, self.links))
            and self.folders.isdisjoint(map(os.path.dirname, other.links))
        )


def class_files(root: str, name: str) -> Files:
    """The pictures of a class folder, in torchvision's order; links are followed."""
    return _gather(root, sorted(_walk(os.path.join(root, name), None), key=lambda found: found[0]))


def loose_files(root: str) -> Files:
    """The pictures of a folder in any depth, sorted; links are followed, each folder once; what is hidden is left."""
    found = _gather(root, _walk(root, set()))
    found.names.sort()
    return found


def _gather(root: str, walked: Iterable[tuple[str, list[os.DirEntry[str]]]]) -> Files:
    found = Files([], set(), set())
    for folder, entries in walked:
        real = os.path.realpath(folder)
        for entry in entries:
            if not entry.name.lower().endswith(IMG_EXTENSIONS):
                continue
            found.names.append(os.fsencode(os.path.relpath(entry.path, root)))
            if entry.is_symlink():
                found.links.add(os.path.realpath(entry.path))
            else:
                found.folders.add(real)
    return found


def _walk(folder: str, seen: set[str] | None) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Folders and their files, both by name. seen: folders that are not entered again, nor what is hidden; or None."""
    if seen is not None:
        real = os.path.realpath(folder)
        if real in seen:
            return
        seen.add(real)
    try:
        with os.scandir(folder) as listed:
            entries = sorted((e for e in listed if seen is None or e.name[0] != "."), key=lambda entry: entry.name)
    except OSError:  # as os.walk passes over what may not be listed
        return
    inner = [_is_folder(entry) for entry in entries]
    yield folder, [entry for entry, is_folder in zip(entries, inner, strict=True) if not is_folder]
    for entry, is_folder in zip(entries, inner, strict=True):
        if is_folder:
            yield from _walk(entry.path, seen)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
