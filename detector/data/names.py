"""Names of picture files as other programs and machines wrote them: the files in the folder that they mean."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from detector.data.packed import PackedIndex
from detector.data.problems import Finding, Problems, declare
from detector.data.suffixes import SUFFIXES
from detector.errors import cut
from detector.text import agreeing, counted

ELSEWHERE = declare(
    "name-elsewhere",
    "note",
    "records name a file by the path of another machine or folder",
    "What is there under the rest of the name is taken; write names relative to the folder of the pictures.",
)
CLASH = declare(
    "names-one-file",
    "error",
    "records name by the path of another machine or folder what another record names too",
    "Join the records if they are of one picture; else bring the other picture, and name both relative to the folder.",
)

_FORBIDDEN = re.compile(r'[<>:"|?*]')  # by Windows in names; programs that unpack archives write "_" for them


def with_real_names(index: PackedIndex, folder: Path, problems: Problems) -> PackedIndex:
    """An index whose records name the files that are in a folder, see `real_names`."""
    names, changed, clashes = _real_names(folder, index.file_names)
    _tell_clashes(index, folder, clashes, problems)
    if not len(changed):
        return index

    def example(row: int) -> Finding:
        said, picture = str(index.file_names[row]), str(names[row])
        return Finding(ELSEWHERE, f"{index.record(row)}: {said!r} is taken as {picture!r}", picture, index.record(row))

    first = int(changed[0])
    line = (
        f"{index.path}: {len(changed)} of {counted(len(index), 'image|images')} "
        f"{agreeing(len(changed), 'names|name')} files that are not in {folder} as they are written, "
        f"but under another form of the name: {cut(str(index.file_names[first]))} (images[{first}]) is taken as "
        f"{cut(str(names[first]))}"
    )
    problems.several(line, changed.tolist(), example)
    return replace(index, file_names=names)


def _tell_clashes(index: PackedIndex, folder: Path, clashes: dict[str, str], problems: Problems) -> None:
    rows = [row for row, name in enumerate(index.file_names.tolist()) if name in clashes]
    if not rows:
        return

    def example(row: int) -> Finding:
        said = str(index.file_names[row])
        text = (
            f"{index.record(row)}: {said!r} is not in {folder}, and may mean {clashes[said]!r} as another record does"
        )
        return Finding(CLASH, text, said, index.record(row))

    first = str(index.file_names[rows[0]])
    line = (
        f"{index.path}: {len(rows)} of {counted(len(index), 'image|images')} {agreeing(len(rows), 'has|have')} a name "
        "that may mean the file of another image: "
        f"{cut(first)} (images[{rows[0]}]) may be {cut(clashes[first])}; none is guessed: join the records if they are "
        "of one picture"
    )
    problems.several(line, rows, example)


def real_names(folder: Path, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The files in a folder that names [N] mean, and the places [n] of those that are not what was written.

    A name that is there stands. For another one the first of `readings` counts that is there, be it with small letters
    for large ones, or accents in another form. Where a reading leaves out folders other than the folder of pictures
    itself, it counts only if no name that differs comes to the same file: such names stand as they are, and so does
    what is not found at all. Where not one is found, but most of them but for the suffix, for signs that Windows
    allows in no name ("_" stands for them), or for blanks at the end, these pictures are taken, on the same condition.
    """
    return _real_names(folder, names)[:2]


def _real_names(folder: Path, names: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """As `real_names`, and the names that stand since another one comes to the same file: name -> file."""
    files = _Files(folder)
    said: list[str] = names.tolist()
    meant: dict[str, str] = {}
    guessed: set[str] = set()
    own = _alike(folder.resolve().name)
    missing = {name for name in said if not files.has(name)}
    for name in missing:
        tried = ((files.find(rest), above) for rest, above in _readings(name))
        found, above = next(((file, above) for file, above in tried if file), ("", ""))
        if found and (not files.outside(name) or files.same(name, found)):
            meant[name] = found
            if above and _alike(above) != own:
                guessed.add(name)
    if not meant and missing == {*said}:
        near = {name: next(filter(None, map(files.near, readings(name))), "") for name in missing}
        meant = {name: file for name, file in near.items() if file and not files.outside(name)}
        if 2 * len(meant) <= len(missing):  # a few are like other files by chance
            meant = {}
        guessed = {*meant}
    if not meant:
        return names, np.empty(0, np.int64), {}
    owners = Counter(meant.get(name, name) for name in {*said})
    clashes = {name: meant.pop(name) for name in guessed if owners[meant[name]] > 1}
    changed = [row for row, name in enumerate(said) if name in meant]
    return np.array([meant.get(name, name) for name in said]), np.array(changed, np.int64), clashes


def number_found(folder: Path, names: Iterable[str]) -> int:
    """How many of the names mean a file in a folder, as they are or under another reading."""
    files = _Files(folder)
    return sum(any(map(files.find, readings(name))) for name in names)


def readings(name: str) -> Iterator[str]:
    r"""What a name may mean as a path inside the folder: with "/" for "\", decoded, and without its first folders.

    Label Studio's "/data/local-files/?d=FOLDER%20A/1.jpg" and other addresses are read without and with what stands
    before the question mark. Nothing leads out of the folder.
    """
    return (rest for rest, _ in _readings(name))


def _readings(name: str) -> Iterator[tuple[str, str]]:
    """What a name may mean, and the last of the folders that this leaves out, "" for none."""
    path, _, query = name.partition("?")
    forms = [*(match[1] for match in re.finditer(r"(?:^|&)d=([^&]*)", query)), path, name]
    seen: set[str] = set()
    for form in (*forms, *(unquote(form) for form in forms if "%" in form)):
        parts = [part for part in form.replace("\\", "/").split("/") if part not in ("", ".")]
        for start in range(len(parts)):
            rest = "/".join(parts[start:])
            if ".." not in parts[start:] and not leads_out(rest) and rest not in seen:
                seen.add(rest)
                yield rest, parts[start - 1] if start else ""


def leads_out(name: str) -> bool:
    """Whether a name does not lie inside the folder that it is relative to."""
    drive, path = os.path.splitdrive(name)
    return bool(drive) or os.path.isabs(path) or os.path.normpath(path).split(os.sep)[0] == os.pardir


class _Files:
    """The files of a folder; each folder in it is listed once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listed: dict[str, frozenset[str]] = {}
        self.lowered: dict[str, dict[str, list[str]]] = {}
        self.heads: dict[str, str] = {}
        self.stems: dict[str, dict[str, list[str]]] = {}

    def has(self, name: str) -> bool:
        """Whether there is such a file inside the folder."""
        head, _, tail = name.rpartition("/")
        if tail in self._list(head):
            return True
        # Some file systems do not tell small letters from large ones.
        return bool(self._alike(head, tail)) and os.path.isfile(os.path.join(self.folder, name))

    def find(self, name: str) -> str:
        """The name itself where it is there, else that of the one file that differs in its spelling only, else ""."""
        if self.has(name):
            return name
        head, _, tail = name.rpartition("/")
        if head and not self._list(head):
            if head not in self.heads:
                self.heads[head] = self.find(head)
            head = self.heads[head]
            if not head:
                return ""
        alike = self._alike(head, tail)
        return f"{head}/{alike[0]}".lstrip("/") if len(alike) == 1 else ""

    def near(self, name: str) -> str:
        """The one picture whose name differs in its suffix, in signs that Windows forbids or in blanks at its end."""
        head, _, tail = name.rpartition("/")
        if head not in self.stems:
            stems = self.stems[head] = {}
            for file in self._list(head):
                stem, suffix = os.path.splitext(file)
                if suffix.lower() in SUFFIXES:
                    stems.setdefault(_stem(stem), []).append(file)
        tail = tail.rstrip()
        stem, suffix = os.path.splitext(tail)
        found = self.stems[head].get(_stem(stem if suffix.lower() in SUFFIXES else tail), [])
        same = [file for file in found if os.path.splitext(file)[1].lower() == suffix.lower()]
        found = same or found
        return f"{head}/{found[0]}".lstrip("/") if len(found) == 1 else ""

    def outside(self, name: str) -> bool:
        """Whether there is such a file that is not inside the folder."""
        return leads_out(name) and os.path.isfile(os.path.join(self.folder, name))

    def same(self, name: str, other: str) -> bool:
        """Whether two names are one file."""
        return os.path.samefile(os.path.join(self.folder, name), os.path.join(self.folder, other))

    def _list(self, head: str) -> frozenset[str]:
        if head not in self.listed:
            self.listed[head] = frozenset()
            if not leads_out(head):
                with suppress(OSError, ValueError):  # ValueError: no name that a folder can have
                    self.listed[head] = frozenset(os.listdir(os.path.join(self.folder, head)))
        return self.listed[head]

    def _alike(self, head: str, tail: str) -> list[str]:
        """What differs from a file's name at most in the case of letters and the form of accents."""
        if head not in self.lowered:
            lowered = self.lowered[head] = {}
            for name in self._list(head):
                lowered.setdefault(_alike(name), []).append(name)
        return self.lowered[head].get(_alike(tail), [])


def _stem(stem: str) -> str:
    return _alike(_FORBIDDEN.sub("_", stem.rstrip()))


def _alike(name: str) -> str:
    """What names have in common that differ in the case of letters, or write accents as signs of their own."""
    return unicodedata.normalize("NFC", name).lower()
