"""`detector check`: data sets are read, examined together, summed up, and copied without what is broken."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from yacs.config import CfgNode

from detector.data.catalog import Source
from detector.data.doctor import balance, mend
from detector.data.doctor.balance import Numbers, Sides
from detector.data.doctor.checks import CHECKS
from detector.data.doctor.folder import entries_in
from detector.data.doctor.part import Part, Role, short_names
from detector.data.doctor.seen import SKIPPED, UNDECODED
from detector.data.doctor.sets import UNREADABLE, Pictures, read_sets, with_pictures, without_crowds
from detector.data.packed import BEYOND, beside, in_classes
from detector.data.plausible import FRACTIONS, corners, fractions
from detector.data.problems import KINDS, Finding, Kind
from detector.errors import UserError

VERSION = 2
"""Of the JSON document."""

SEVERITIES = ("error", "warning", "note")

FIGURES = {"reach-recall"}
"""Kinds of which each finding is a figure of a whole data set: nothing to count, nor to mend."""

SPLITS = ("train", "val", "valid", "trainval", "test")
TESTS = ("val", "valid", "test")


class Fix(NamedTuple):
    """A cleaned copy. entry, written: the data set and its copy, as in DATASETS; done, lost: sentences.

    emptied: pictures that lost all their boxes.
    """

    entry: str
    written: str
    done: list[str]
    lost: list[str]
    emptied: list[str]


class Diagnosis(NamedTuple):
    """What was found.

    parts: the data sets that could be read; findings: in the order of KINDS' severities, then as they were found;
    sides: how a test by the config resizes pictures, None without a config; skipped: the kinds of pictures that a
    training by the config leaves out.
    """

    parts: list[Part]
    findings: list[Finding]
    sides: Sides | None = None
    skipped: frozenset[str] = frozenset()

    @property
    def counts(self) -> dict[str, int]:
        """Kind -> number of findings, errors first."""
        return dict(Counter(finding.kind for finding in self.findings))

    def kind(self, kind: str) -> Kind:
        """The table's row of a kind, with its severity in these data sets."""
        found = KINDS[kind]
        return found._replace(severity="warning") if kind in self.skipped else found

    def number(self, severity: str) -> int:
        """Findings of a severity."""
        return sum(self.kind(finding.kind).severity == severity for finding in self.findings)

    @property
    def numbers(self) -> list[Numbers]:
        """Of each data set."""
        return [balance.numbers(part, self.sides) for part in self.parts]


def examine(
    entries: Sequence[str], root: str | Path, pictures: Pictures = "all", cfg: CfgNode | None = None
) -> Diagnosis:
    """Reads and examines data sets, together.

    entries: as in DATASETS, or folders, see `entries_in`; none: those of the config; pictures: how closely they are
    looked at; cfg: of the detector that is meant to be trained, to say what its head can reach.
    Raises ValueError where there are no entries.
    """
    named: list[tuple[str, Role]] = []
    passed_over: list[Finding] = []
    for entry in entries:
        try:
            inside, others = entries_in(entry, root)
        except UserError as error:
            inside, others = [], [Finding(UNREADABLE, str(error), record=entry)]
        named += [(one, _role(one, cfg)) for one in inside]
        passed_over += others
    if not entries and cfg is not None:
        named = [*((entry, "train") for entry in cfg.DATASETS.TRAIN), *((entry, "test") for entry in cfg.DATASETS.TEST)]
    if not named and not passed_over:
        raise UserError("DATASETS.TRAIN and DATASETS.TEST are empty; name a data set")
    parts, found = read_sets(named, root)
    found += passed_over
    if cfg is not None and cfg.DATASETS.CROWDS == "objects":
        parts = [without_crowds(part) for part in parts]
    parts = with_pictures(parts, pictures, cfg is not None and cfg.DATASETS.ALLOW_OUTSIDE)
    if parts:
        for check in CHECKS:
            found += check(parts)
    if cfg is not None:
        found += _reach(cfg, parts)
    diagnosis = Diagnosis(parts, found, _sides(cfg), _skipped(cfg, parts, found))
    kinds = sorted(diagnosis.counts, key=lambda kind: SEVERITIES.index(diagnosis.kind(kind).severity))
    return diagnosis._replace(findings=sorted(found, key=lambda finding: kinds.index(finding.kind)))


def _role(entry: str, cfg: CfgNode | None) -> Role:
    if cfg is None or (entry in cfg.DATASETS.TRAIN) == (entry in cfg.DATASETS.TEST):
        return ""
    return "train" if entry in cfg.DATASETS.TRAIN else "test"


def _sides(cfg: CfgNode | None) -> Sides | None:
    if cfg is None:
        return None
    return Sides(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.SQUARE_SIZE)


def _skipped(cfg: CfgNode | None, parts: Sequence[Part], found: Sequence[Finding]) -> frozenset[str]:
    """The kinds of pictures that a training does without: none where a data set would be left without any picture."""
    if cfg is None or cfg.DATALOADER.BROKEN != "skip" or any(one.seen and one.seen.unusable.all() for one in parts):
        return frozenset()
    stop = {finding.kind for finding in found if finding.text.endswith(UNDECODED)}
    return frozenset(SKIPPED) - stop


def _reach(cfg: CfgNode, parts: Sequence[Part]) -> list[Finding]:
    """What the head of the config cannot reach, of what it is trained on."""
    from detector.analysis.reach import reach
    from detector.analysis.reach_findings import reach_findings

    found, choice = list[Finding](), cfg.DATASETS.TRAIN_DIFFICULT
    for part in parts:
        if part.role != "test" and part.objects.any():
            difficult = part.source.difficult if choice == "auto" else choice == "yes"
            found += reach_findings(reach(cfg, part.index, difficult=difficult))
    return found


def fix(diagnosis: Diagnosis, folder: Path) -> list[Fix]:
    """Writes a cleaned copy of each data set into `folder`, which is new or empty.

    Several of one format and one list of classes become splits of that folder; others have a folder each in it.
    Raises ValueError where the folder lies in that of a data set, holds something, or nothing is left to write.
    """
    from detector.data.convert import write_datasets

    check_new(folder, [part.source for part in diagnosis.parts])
    if not diagnosis.parts:
        raise UserError("--fix: no data set could be read, so there is nothing to write")
    mended = [mend.mend(part) for part in diagnosis.parts]
    sources, form = [one.source for one in mended], mended[0].source.index.kind
    names, splits = short_names(diagnosis.parts), _splits(diagnosis.parts)
    together = _united(sources)
    if together:
        written = write_datasets(dict(zip(splits, together, strict=True)), form, folder)
        entries = written.entries
        losses = [[one.removeprefix(f"{s}: ") for one in written.losses if one.startswith(f"{s}: ")] for s in splits]
        if len(splits) == 1:
            losses = [list(written.losses)]
    else:
        each = [
            write_datasets({split: source}, source.index.kind, folder / name)
            for split, source, name in zip(splits, sources, names, strict=True)
        ]
        entries, losses = [one.entry for one in each], [list(one.losses) for one in each]
    return [
        Fix(part.entry, entry, one.done, lost, one.emptied)
        for part, entry, one, lost in zip(diagnosis.parts, entries, mended, losses, strict=True)
    ]


def _united(sources: Sequence[Source]) -> list[Source]:
    """The sources as splits of one folder, under one list of classes; none where they cannot be."""
    indexes = [source.index for source in sources]
    if len({index.kind for index in indexes}) > 1:
        return []
    if len(sources) == 1:
        return [*sources]
    first = next((index for index in indexes if index.listed), None)
    if first is None:
        names = sorted({name for index in indexes for name in index.classes})
        first = in_classes(indexes[0], names, range(1, len(names) + 1))
    with suppress(UserError):
        return [replace(one, index=beside(first, one.index)) for one in sources]
    return []


def _splits(parts: Sequence[Part]) -> list[str]:
    """The splits that copies are: those of the entries, where these are named as splits are, else their names."""
    if len(parts) == 1:
        return [_split(parts[0]) or "train"]
    names = short_names(parts)
    found = [_split(part) or name for part, name in zip(parts, names, strict=True)]
    if len(set(found)) < len(found):
        found = names
    found = [re.sub(r"[^\w.-]", "_", name).lstrip(".-") for name in found]
    return found if len(set(found)) == len(found) and all(found) else [f"set_{i + 1}" for i in range(len(found))]


def check_new(folder: Path, sources: Sequence[Source] = ()) -> None:
    """Raises ValueError for a folder that is not new or empty, or lies in that of a data set."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--fix {folder}: it is there already; name a new or empty folder")
    for source in sources:
        for place in (source.folder, _home(source)):
            if folder.resolve().is_relative_to(place.resolve()):
                raise UserError(f"--fix {folder} lies in {place}, which stays as it is; name a folder elsewhere")


def _home(source: Source) -> Path:
    """The folder of VOC's or YOLO's layout that holds both pictures and annotations, where that is near."""
    pictures, annotations = source.folder.resolve(), source.index.path.resolve()
    if source.index.kind == "coco":  # an annotation file may lie anywhere
        return pictures
    home = Path(os.path.commonpath([pictures, annotations]))
    return home if len(pictures.relative_to(home).parts) <= 2 else pictures


def _split(part: Part) -> str:
    """The split that an entry names, or the folder before it; else the role in a config, or ""."""
    if part.index.kind == "coco":
        return next((one for one in (part.source.name, part.index.path.parent.name) if one in SPLITS), part.role)
    place, _, said = part.entry.rpartition(":")
    return next((one for one in (said, Path(place).name) if one in SPLITS), "")


def not_mended(diagnosis: Diagnosis) -> list[str]:
    """The kinds that were found and are in the cleaned copies too."""
    stay = set(mend.STAYS)
    for part in diagnosis.parts:
        if fractions(part.index) and not mend.are_fractions(part.index):
            stay.add(FRACTIONS)
        if corners(part.index):
            stay.add(BEYOND)
    return [kind for kind in diagnosis.counts if kind in stay or (kind.startswith("reach-") and kind not in FIGURES)]


def errors_left(diagnosis: Diagnosis) -> bool:
    """Whether an error is in the cleaned copies too."""
    return any(diagnosis.kind(kind).severity == "error" for kind in not_mended(diagnosis))


def left_out(diagnosis: Diagnosis) -> list[str]:
    """The kinds of errors of records that readers left out, and copies therefore lack."""
    kinds = {finding.kind for finding in diagnosis.findings if mend.is_left_out(finding)}
    return [kind for kind in diagnosis.counts if kind in kinds]


def document(diagnosis: Diagnosis, fixes: Sequence[Fix] | None = None) -> dict[str, Any]:
    """Everything, as plain values: what `--json` prints; docs/reference/kinds.md says what each key means."""
    sets = [
        {
            "entry": part.entry,
            "role": part.role,
            "name": part.source.name,
            "format": part.index.kind,
            "annotations": str(part.index.path),
            "pictures": str(part.source.folder),
            **numbers._asdict(),
            "resized": numbers.resized._asdict() if numbers.resized else None,
        }
        for part, numbers in zip(diagnosis.parts, diagnosis.numbers, strict=True)
    ]
    found: dict[str, Any] = {
        "version": VERSION,
        "verdict": verdict(diagnosis),
        **{f"{severity}s": diagnosis.number(severity) for severity in SEVERITIES},
        "resize": diagnosis.sides._asdict() if diagnosis.sides else None,
        "sets": sets,
        "classes": [row._asdict() for row in balance.classes_table(diagnosis.parts)],
        "kinds": [
            {"id": kind, "count": number, **diagnosis.kind(kind)._asdict()} for kind, number in diagnosis.counts.items()
        ],
        "findings": [finding._asdict() for finding in diagnosis.findings],
    }
    if fixes is not None:
        found["fix"] = {
            "copies": [one._asdict() for one in fixes],
            "left_out": left_out(diagnosis),
            "not_mended": not_mended(diagnosis),
        }
    return found


def uses(diagnosis: Diagnosis, fixes: Sequence[Fix]) -> dict[str, list[str]]:
    """What the copies are for, "train" or "test" -> their entries: by the config, else by the names of their splits."""
    found: dict[str, list[str]] = {"train": [], "test": []}
    for part, one in zip(diagnosis.parts, fixes, strict=True):
        found[part.role or ("test" if _split(part) in TESTS else "train")].append(one.written)
    return {use: entries for use, entries in found.items() if entries}


def verdict(diagnosis: Diagnosis) -> str:
    """The graver of error and warning that was found; "clean" without either, also with notes."""
    return next((severity for severity in SEVERITIES[:2] if diagnosis.number(severity)), "clean")
