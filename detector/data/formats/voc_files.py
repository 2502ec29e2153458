"""What a folder in VOC's layout holds: its files matched to each other, and the names of a split."""

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from detector.data.formats.voc_layout import ALL, Place, last_part, lists_of, match, outside, scan, without_suffix
from detector.data.formats.voc_splits import FLAG, Names, divided, pick_list, plain, read_lines
from detector.data.formats.voc_xml import Annotation, read_annotation
from detector.data.names import readings
from detector.data.problems import Finding, Problems, clause, declare, named
from detector.data.suffixes import SUFFIXES
from detector.errors import MissingFileError, UserError
from detector.text import agreeing, forms

LOST = declare(
    "voc-lost-name", "error", "names in a list stand for neither an annotation file nor a picture", "Mend the list."
)
TWICE = declare(
    "voc-listed-twice",
    "warning",
    "picture|pictures stands|stand twice in a list",
    "They count once; delete the others.",
)
ABSENT = declare(
    "voc-absent-class",
    "note",
    "picture|pictures stands|stand with -1 in the list of one class, which it|they does|do not show, and is|are taken "
    "too",
    "Name train, val or another list of all classes, or delete these lines, if only the others are meant.",
)
DOUBTFUL = declare(
    "voc-two-pictures",
    "error",
    "annotation files have the name of several pictures",
    "Say which in <filename>, or delete the others.",
)
CLAIMED = declare(
    "voc-same-picture",
    "error",
    "annotation file|files names|name the picture of another one",
    "Join the files of each picture into one, or bring the picture that is meant.",
)
BARE = declare(
    "voc-without-xml",
    "note",
    "picture|pictures without an annotation file counts|count as picture|pictures without objects",
    "Annotate those that have objects, or take them out.",
)
UNLABELLED = declare(
    "voc-passed-picture",
    "note",
    "picture|pictures without an annotation file is|are passed over",
    "Name them in a list of ImageSets/Main to have them as pictures without objects.",
)
UNLISTED = declare(
    "voc-unlisted",
    "note",
    "annotation file|files is|are named by no list and passed over",
    "List them, or read split all.",
)
OTHER = declare(
    "voc-other-file",
    "note",
    "file|files is|are neither annotation file|files nor picture|pictures that is|are read, and is|are passed over",
    "Convert those that are pictures to JPEG or PNG.",
)
OUTSIDE = declare(
    "voc-outside",
    "warning",
    "annotation file|files lies|lie outside the folder that is read, and is|are passed over",
    "Put them and their pictures into the folders of the others, or name their folder as a data set of its own.",
)
TWIN = declare(
    "voc-second-picture",
    "note",
    "picture|pictures has|have the name of another one, which the annotation file names, and is|are passed over",
    "Give each an annotation file under a name of its own, or take them out.",
)

_SAID = {
    BARE: "it has no annotation file",
    UNLABELLED: "it has no annotation file",
    UNLISTED: "no list names it",
    OTHER: "it is neither an annotation file nor a picture that is read",
    OUTSIDE: "it lies outside the folder that is read",
    TWIN: "the annotation file of its name names another picture",
}


class Files:
    """The files of a place, each annotation file read once, and what is wrong with them.

    faults: what stops the loader, each with the class of the exception; claims: of files without a picture that name
    another one's, the picture and the other.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.found = scan(place)
        self.faults: list[tuple[Finding, type[UserError]]] = []
        self._read: dict[Path, Annotation | UserError] = {}
        self.pictures, self.left = match(self.found)
        self.claims: dict[str, tuple[str, str]] = {}
        self._match_what_files_say()
        self.names = Names([*self.found.annotations, *self.left], place.home.resolve().name)

    def path(self, name: str) -> Path:
        """The annotation file of a picture, whether it is there or not."""
        return self.place.annotations / self.found.annotations.get(name, f"{name}.xml")

    def annotation(self, path: Path) -> Annotation | UserError:
        """What a file says, or what is wrong with it."""
        if path not in self._read:
            try:
                self._read[path] = read_annotation(path)
            except UserError as error:
                self._read[path] = error
        return self._read[path]

    def fault(
        self, kind: str, text: str, picture: str = "", record: str = "", error: type[UserError] = UserError
    ) -> None:
        """Keep what stops the loader."""
        self.faults.append((Finding(kind, text, picture, record), error))

    def file(self, name: str, said: str) -> str:
        """The picture of an annotation file, below the root of the pictures.

        A likely name where there is none; "", and a fault, where several come into question.
        """
        files = self.pictures.get(name, [])
        if len(files) > 1:
            alike = _called(files, said)
            if not alike:
                what = " and ".join(os.path.basename(file) for file in sorted(files))
                text = f"{what} in {self.place.pictures} have its name; say which in <filename>, or delete the others"
                self.fault(DOUBTFUL, f"{self.path(name)}: {text}", files[0], str(self.path(name)))
                return ""
            return alike[0]
        if files:
            return files[0]
        suffix = os.path.splitext(plain(said))[1].lower()
        return name if without_suffix(name) != name else name + (suffix if suffix in SUFFIXES else ".jpg")

    def second(self, name: str) -> list[str]:
        """The pictures that have the name of an annotation file, which names another one."""
        files = self.pictures.get(name, [])
        one = self.annotation(self.path(name)) if len(files) > 1 else None
        alike = _called(files, one.image.get("filename", "")) if isinstance(one, Annotation) else []
        return [file for file in files if file not in alike[:1]] if alike else []

    def _match_what_files_say(self) -> None:
        """Match annotation files without a picture of their name to what their <filename> says, or to other files."""
        root = self.place.pictures
        others = {p.relative_to(root).with_suffix("").as_posix(): p for p in self.found.others if root in p.parents}
        by_file = {file: name for name, files in self.left.items() for file in files}
        owners = {file: name for name, files in self.pictures.items() for file in files}
        for name in self.found.annotations:
            if name in self.pictures:
                continue
            one = self.annotation(self.path(name))
            said = one.image.get("filename", "") if isinstance(one, Annotation) else ""
            here = name[: -len(last_part(name))] + last_part(plain(said))
            files = list(chain.from_iterable(map(forms, (plain(said), here, *readings(said)))))
            for file in files:
                if file in by_file and by_file[file] in self.left:
                    self.pictures[name] = [file]
                    owners[file] = name
                    del self.left[by_file[file]]
                    break
            else:
                if name in others:  # of a format that may not be read: whoever looks at the pictures says so
                    self.pictures[name] = [others[name].relative_to(root).as_posix()]
                    self.found.others.remove(others[name])
                elif file := next((file for file in files if file in owners), ""):
                    self.claims[name] = file, owners[file]


def _called(files: Sequence[str], said: str) -> list[str]:
    """Those of the pictures that a <filename> names."""
    return [file for file in files if os.path.basename(file) == os.path.basename(plain(said))]


def split_names(files: Files, split: str, problems: Problems) -> list[str]:
    """The names of a split's pictures; what the scan passes over is told."""
    place, found, left = files.place, files.found, files.left
    path = pick_list(place.home, split)
    passed: list[str] = []
    unlisted: list[str] = []
    if path is None:
        homes = {os.path.dirname(name) for name in found.annotations} if place.beside else set()
        names = divided(place, split, [*found.annotations, *(name for name in left if os.path.dirname(name) in homes)])
        # Where only the annotation files are divided into folders, pictures of other splits are no news.
        whole = place.annotations in (place.every, place.home) or place.annotations.name == place.pictures.name
        passed = [name for name in left if whole and os.path.dirname(name) not in homes]
    else:
        names = _listed(files, path, split, problems)
        if split != ALL:
            passed, unlisted = _in_no_list(files)
    bare = [name for name in names if name not in found.annotations]
    twins = [file for name in names if name in found.annotations for file in files.second(name)]
    for kind, root, some in (
        (BARE, place.pictures, [left[name][0] for name in bare]),
        (UNLABELLED, place.pictures, [left[name][0] for name in passed]),
        (UNLISTED, place.annotations, [found.annotations[name] for name in unlisted]),
        (TWIN, place.pictures, twins),
        (OUTSIDE, place.home, outside(place)),
        (OTHER, place.home, [path.relative_to(place.home).as_posix() for path in found.others]),
    ):
        what = clause(kind, len(some)) + (f", of {len(names)} in split {split!r}" if kind == BARE else "")

        def example(row: int, kind: str = kind, root: Path = root, some: Sequence[str] = some) -> Finding:
            path = str(root / some[row])
            return Finding(kind, f"{path}: {_SAID[kind]}", some[row] if kind in (BARE, UNLABELLED) else "", path)

        usual = kind == BARE and len(some) < len(names)
        problems.several(named(root, len(some), what, some, "files"), range(len(some)), example, usual)
    _tell_claims(files, names, problems)
    return names


def _tell_claims(files: Files, names: Sequence[str], problems: Problems) -> None:
    claims = [name for name in names if name in files.claims]

    def example(row: int) -> Finding:
        name = claims[row]
        file, owner = files.claims[name]
        text = f"{files.path(name)}: its <filename> is {file}, the picture of {files.path(owner)}"
        return Finding(CLAIMED, text, file, str(files.path(name)))

    some = [files.found.annotations[name] for name in claims]
    own = agreeing(len(some), "has|have none of its|their own")
    line = named(files.place.annotations, len(some), f"{clause(CLAIMED, len(some))}, and {own}", some, "files")
    problems.several(line, range(len(some)), example)


def _listed(files: Files, path: Path, split: str, problems: Problems) -> list[str]:
    lines = read_lines(path)
    if not lines:
        raise UserError(f"{path}: this list of pictures is empty")
    names = []
    for line, name in zip(lines, files.names.meant(lines), strict=True):
        if name:
            names.append(name)
        else:
            files.fault(
                LOST,
                f"{files.place.annotations / without_suffix(plain(line))}.xml: there is no such annotation file, but "
                f"split {split!r} names it in {path}, and no picture of that name in {files.place.pictures} either; "
                "mend the list, or add the file",
                record=str(path),
                error=MissingFileError,
            )
    twice = [name for name, count in Counter(names).items() if count > 1]
    absent = [line.split()[0] for line in lines] if all(map(FLAG.fullmatch, lines)) else []
    absent = [name for name, line in zip(absent, lines, strict=False) if line.split()[-1] == "-1"]
    for kind, some in ((TWICE, twice), (ABSENT, absent)):
        line = named(path, len(some), clause(kind, len(some)), some, "e.g.")
        said = "stands twice" if kind == TWICE else "does not show the class"

        def example(row: int, kind: str = kind, some: Sequence[str] = some, said: str = said) -> Finding:
            return Finding(kind, f"{path}: {some[row]!r} {said}", record=str(path))

        problems.several(line, range(len(some)), example)
    return list(dict.fromkeys(names))


def _in_no_list(files: Files) -> tuple[list[str], list[str]]:
    """The pictures without annotation file, and the annotation files, that no list of the folder names."""
    rest = {*files.found.annotations, *files.left}
    for path in lists_of(files.place.home).values():
        if not rest:
            break
        with suppress(UserError):  # whoever reads that split says what is wrong with its list
            rest.difference_update(filter(None, files.names.meant(read_lines(path))))
    return [name for name in files.left if name in rest], [name for name in files.found.annotations if name in rest]
