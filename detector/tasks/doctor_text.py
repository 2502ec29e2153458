"""A diagnosis as a person reads it."""

from collections.abc import Iterator, Sequence
from itertools import islice

from detector.data.doctor.balance import MEDIUM, SMALL, Numbers, classes_table
from detector.data.doctor.sets import UNREADABLE
from detector.data.formats.records import LAYOUT
from detector.data.problems import KINDS, SHOWN, Finding, Kind
from detector.tasks.doctor import (
    FIGURES,
    SEVERITIES,
    Diagnosis,
    Fix,
    errors_left,
    not_mended,
    short_names,
    uses,
    verdict,
)
from detector.text import counted, printable

SAYS = "| kind | severity | what is counted | remedy |\n|---|---|---|---|"

MOST_CLASSES = 20
"""Rows of the table of classes."""

VERDICTS = {
    "error": "Mend the errors before a training",
    "warning": "Can be trained on; look at the warnings first",
    "clean": "Nothing is wrong",
}


def text(diagnosis: Diagnosis, fixes: Sequence[Fix] | None = None) -> str:
    """The findings by kind with at most SHOWN examples, the numbers, what a copy was cleaned of, and the verdict."""
    if not diagnosis.parts and diagnosis.findings and {*diagnosis.counts} == {UNREADABLE}:  # wrong words, as a rule
        return "\n".join(printable(f"error: {finding.text}") for finding in diagnosis.findings)
    lines = [*_findings(diagnosis), *_entries(diagnosis), *_numbers(diagnosis), *_classes(diagnosis)]
    lines += [_verdict(diagnosis)] if fixes is None else _fixes(diagnosis, fixes)
    return "\n".join(printable(line) for line in lines)


def example(finding: Finding) -> str:
    """A finding with picture, record and box, each said once; without what the remedy of its kind says at once."""
    parts = [finding.text.removesuffix(f"; {LAYOUT}")]
    if finding.picture and finding.picture not in finding.text:
        parts.append(f"picture {finding.picture}")
    file, _, line = finding.record.rpartition(":")
    told = finding.record in finding.text or (file and f"{file}, line {line}:" in finding.text)
    if finding.record and not told:
        parts.append(finding.record)
    if finding.box is not None and "box " not in finding.text and str([*finding.box]) not in finding.text:
        parts.append(f"box {list(finding.box)}")
    return "; ".join(parts)


def kinds_table() -> str:
    """The kinds in Markdown, errors first."""
    rows = [row for severity in SEVERITIES for row in sorted_kinds(severity)]
    return "\n".join([SAYS, *(f"| `{kind}` | {' | '.join(one)} |" for kind, one in rows)])


def sorted_kinds(severity: str) -> list[tuple[str, Kind]]:
    """The kinds of a severity with their ids, by these."""
    import detector.analysis.reach_findings  # noqa: F401 - declares its kinds

    return sorted((id_, kind) for id_, kind in KINDS.items() if kind.severity == severity)


def _findings(diagnosis: Diagnosis) -> Iterator[str]:
    for kind, number in diagnosis.counts.items():
        severity, what, remedy = diagnosis.kind(kind)
        some = [finding for finding in diagnosis.findings if finding.kind == kind]
        if kind in FIGURES:
            yield from (f"{severity} {kind}: {example(finding)}" for finding in some)
            continue
        yield f"{severity} {kind} ({number}): {what}. {remedy}"
        yield from (f"    {example(finding)}" for finding in islice(some, SHOWN))
        if number > SHOWN:
            yield f"    and {number - SHOWN} more"
    if diagnosis.findings:
        yield ""


def _entries(diagnosis: Diagnosis) -> Iterator[str]:
    """The data sets as DATASETS names them: of a folder it is not otherwise known what was found in it."""
    names = short_names(diagnosis.parts)
    if diagnosis.parts:
        yield from _table([[name, part.entry] for name, part in zip(names, diagnosis.parts, strict=True)], left=True)
        yield ""


def _numbers(diagnosis: Diagnosis) -> Iterator[str]:
    if not diagnosis.parts:
        return
    numbers = diagnosis.numbers
    rows = {
        "": short_names(diagnosis.parts),
        "images": [str(one.images) for one in numbers],
        "  without an object": [str(one.empty) for one in numbers],
        "objects": [str(one.objects) for one in numbers],
        f"  small, below {SMALL**0.5:g}^2": [_share(one.small, one.objects) for one in numbers],
        f"  medium, below {MEDIUM**0.5:g}^2": [_share(one.medium, one.objects) for one in numbers],
        "  large": [_share(one.large, one.objects) for one in numbers],
        **_resized(numbers),
        "  difficult": [str(one.difficult) for one in numbers],
        "crowd regions": [str(one.crowds) for one in numbers],
        "objects an image": [f"{one.mean:.1f}, at most {one.most}" for one in numbers],
        "classes": [str(len(part.index.classes)) for part in diagnosis.parts],
    }
    yield from _table([[name, *cells] for name, cells in rows.items()])
    yield "Small, medium and large are areas in the pictures as they are, in pixels, as APs, APm and APl count them."
    if diagnosis.sides:
        yield f"After the resize: of a test by the config's INPUT, {diagnosis.sides}."
    yield ""


def _resized(numbers: Sequence[Numbers]) -> dict[str, list[str]]:
    """The rows of sizes as the network sees them; none where nothing says how pictures are resized."""
    pairs = [(one.resized, one.objects) for one in numbers if one.resized]
    if not pairs:
        return {}
    return {
        f"  after the resize below {SMALL**0.5:g}^2": [_share(sizes.small, whole) for sizes, whole in pairs],
        f"  after the resize {SMALL**0.5:g}^2 to {MEDIUM**0.5:g}^2": [
            _share(sizes.medium, whole) for sizes, whole in pairs
        ],
        f"  after the resize above {MEDIUM**0.5:g}^2": [_share(sizes.large, whole) for sizes, whole in pairs],
    }


def _classes(diagnosis: Diagnosis) -> Iterator[str]:
    rows = classes_table(diagnosis.parts)
    if not rows:
        return
    shown = [
        [
            row.name if row.name == row.name.strip() else repr(row.name),
            *(f"{objects} in {images}" for objects, images in zip(row.objects, row.images, strict=True)),
        ]
        for row in rows[:MOST_CLASSES]
    ]
    yield from _table([["class: objects in images", *short_names(diagnosis.parts)], *shown])
    if len(rows) > MOST_CLASSES:
        more = counted(len(rows) - MOST_CLASSES, "class|classes")
        yield f"and {more} with fewer objects; --json and --charts have all"
    yield ""


def _fixes(diagnosis: Diagnosis, fixes: Sequence[Fix]) -> Iterator[str]:
    for one in fixes:
        yield f"{one.entry} is written as {one.written}"
        yield from (f"    {line}" for line in [*one.done, *one.lost] or ["nothing had to be mended"])
    yield ""
    left = not_mended(diagnosis)
    if left:
        yield f"Not mended: {', '.join(f'{kind} ({diagnosis.counts[kind]})' for kind in left)}."
    use = ", ".join(f"{use} with {' and '.join(entries)}" for use, entries in uses(diagnosis, fixes).items())
    if errors_left(diagnosis):
        yield f"Mend the errors among these, then {use}."
    else:
        blind = "; their pictures were not looked at" * any(part.seen is None for part in diagnosis.parts)
        yield f"{use[:1].upper()}{use[1:]}{'; what is not mended is left for you' if left else ''}{blind}."


def _verdict(diagnosis: Diagnosis) -> str:
    found = diagnosis._replace(findings=[finding for finding in diagnosis.findings if finding.kind not in FIGURES])
    said = [counted(number, f"{name}|{name}s") for name in SEVERITIES if (number := found.number(name))]
    return f"{VERDICTS[verdict(diagnosis)]}: {', '.join(said) or 'no findings'}."


def _share(number: int, whole: int) -> str:
    return f"{number} ({number / whole:.0%})" if whole else "0"


def _table(rows: Sequence[Sequence[str]], left: bool = False) -> Iterator[str]:
    """Cells under each other, the first column to the left, the others to the right. left: these too."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for name, *cells in shown:
        aligned = [f"{cell:{'<' if left else '>'}{width}}" for cell, width in zip(cells, widths[1:], strict=True)]
        yield "  ".join([f"{name:<{widths[0]}}", *aligned]).rstrip()
