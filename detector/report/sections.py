"""The sections of a comparison's page: each is HTML from report.json, or nothing where that says nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from detector.analysis.charts import COLORS
from detector.console import duration
from detector.evaluation.report import MEASURES, PER_CLASS
from detector.report.charts import Chart
from detector.report.headline import headline, reading, warnings
from detector.report.html import Cell, amount, clipped, drawn, heading, prose, table, text, words
from detector.report.shown import (
    LEAST,
    TIE,
    Document,
    budget,
    chance,
    class_names,
    explained,
    fact,
    interval,
    known_costs,
    made_with,
    parts,
    points,
    rounds_text,
    scale,
    setting,
    sizes_text,
    span,
    subject,
    told,
    verdict,
)
from detector.text import agreeing, counted

_SIZES = {"small": "APs", "medium": "APm", "large": "APl"}
_SIGNS = "●■◆▲▼✚✖★"
"""The markers of the charts, in their order."""

_FEW = 15
"""Classes that stand in one table; of more, those that differ stand first and the others scroll."""

Charts = Sequence[Chart]


def opening(document: Document) -> str:
    """The answer, what was compared on what, and what one must know about it."""
    first, *others = headline(document)
    notes = list(document.get("notes") or ())
    return (
        f"<h1>Comparison of {text(subject(document))}</h1>\n"
        + "".join(f'<p class="more"><strong>{prose(line)}</strong></p>\n' for line in warnings(document))
        + f'<p class="answer">{prose(first)}</p>\n'
        + "".join(f'<p class="more">{prose(line)}</p>\n' for line in others)
        + (f'<ul class="soft">{"".join(f"<li>{text(note)}</li>" for note in notes)}</ul>' if notes else "")
    )


def quality(document: Document, charts: Charts) -> str:
    """AP and AR of each model with their intervals."""
    names = [name for name in MEASURES if name not in {*_SIZES.values(), "ARs", "ARm", "ARl"}]
    rows = [
        [_name(document, name, charts), *(_measure(model.get(measure)) for measure in names)]
        for name, model in document["models"].items()
    ]
    return _section("How good", table(["model", *names], rows, label="Measures of each model"))


def costs(document: Document, charts: Charts) -> str:
    """Parameters, MACs, times and memory, those that are known; AP over time and MACs."""
    known = known_costs(document)
    if not known:
        return ""
    rows = []
    for name, model in document["models"].items():
        values = [(cost, fact(model, cost.key)) for cost in known]
        cells = [
            amount("-" if value is None else cost.text(value), value, below=rounds_text(model, cost))
            for cost, value in values
        ]
        rows.append([_name(document, name, charts), *cells])
    made = table(["model", *(text(cost.title) for cost in known)], rows, label="Costs of each model")
    more = [budget(document), *explained(document)]
    return _section("How fast, how large", made + _said(" ".join(more).strip()) + _figures(document, charts, "speed"))


def differences(document: Document, charts: Charts) -> str:
    """Each model minus the first: AP at a glance, then every measure."""
    pairs = document["differences"]
    if not pairs:
        return ""
    first = next(iter(document["models"]))
    several = any(pair["AP"].get("seeds") for pair in pairs)
    head = ["minus the first", "AP", "95 % interval", *(["s.e. images", "s.e. seeds"] * several), "p"]
    head += [*(["p, sign-flip"] * several), "verdict"]
    rows = []
    for pair in pairs:
        row = pair["AP"]
        seeds = row.get("seeds") or {}
        both = [amount(points(of.get("se")), of.get("se")) for of in (row.get("images") or {}, seeds)] * several
        rows.append([
            _name(document, pair["models"][0], charts),
            amount(points(row.get("value"), True), row.get("value"), _kind(row)),
            amount(span(row, True) or "-", (interval(row) or (None,))[0]),
            *both,
            amount(chance(row.get("p")), row.get("p")),
            *([amount(chance(seeds.get("p")), seeds.get("p"))] * several),
            Cell(text(verdict(row, pair["models"])), kind=f"text {_kind(row)}"),
        ])  # fmt: skip
    made = table(head, rows, label="Differences of AP", left=(0, len(head) - 1))
    if len(pairs) == 1 and not several:
        made = ""  # every measure stands in a table, AP first
    picture = _figures(document, charts, "differences")
    return _section(f"Differences to {clipped(first)}", picture + made + _every_measure(document))


def _every_measure(document: Document) -> str:
    pairs = document["differences"]
    names = [name for name in MEASURES if name in pairs[0]]
    if len(pairs) > 1:
        rows = [
            [
                Cell(name, heads=True),
                *(_measure(pair.get(name), sign=True, kind=_kind(pair.get(name) or {})) for pair in pairs),
            ]
            for name in names
        ]
        made = table(
            ["measure", *(clipped(pair["models"][0]) for pair in pairs)], rows, label="Differences of every measure"
        )
        return f"<details><summary>Every measure</summary>{made}</details>"
    (pair,) = pairs
    ends = scale([pair[name] for name in names])
    rows = [
        [
            Cell(name, heads=True),
            _measure(pair[name], sign=True, kind=_kind(pair[name])),
            _drawn(pair[name], ends),
            amount(chance(pair[name].get("p")), pair[name].get("p")),
            Cell(text(verdict(pair[name], pair["models"])), kind=f"text {_kind(pair[name])}"),
        ]
        for name in names
    ]
    made = table(["measure", "difference", "", "p", "verdict"], rows, label="Differences of every measure", left=(0, 4))
    return f"<h3>Every measure</h3>{made}{_cut_off([pair[name] for name in names], ends)}"


def _cut_off(rows: Sequence[Mapping[str, Any]], ends: tuple[float, float]) -> str:
    """That lines are cut off, where some are."""
    bounds = [bound for row in rows for bound in interval(row) or ()]
    beyond = bool(bounds) and (min(bounds) < ends[0] or max(bounds) > ends[1])
    return _said("A line that reaches the edge goes on beyond it.") if beyond else ""


def sizes(document: Document, charts: Charts) -> str:
    """AP of small, medium and large objects, and the differences to the first."""
    values = [
        (model.get(measure) or {}).get("value") for model in document["models"].values() for measure in _SIZES.values()
    ]
    if values.count(None) == len(values):
        return ""
    first = next(iter(document["models"]))
    pairs = {pair["models"][0]: pair for pair in document["differences"] if pair["models"][1] == first}
    rows = []
    for name, model in document["models"].items():
        cells = [_name(document, name, charts)]
        for measure in _SIZES.values():
            cells.append(_measure(model.get(measure)))
            if pairs:
                row = pairs.get(name, {}).get(measure) or {}
                shown = Cell("", "") if name == first else _measure(row, sign=True, kind=_kind(row))
                cells.append(shown)
        rows.append(cells)
    head = [title for size in _SIZES for title in (size, *(["difference"] * bool(pairs)))]
    made = table(["model", *head], rows, label="AP by object size")
    said = sizes_text(document) or "Small: below 32 x 32 pixels; large: 96 x 96 and more."
    return _section("By object size", made + _said(said))


def curves(document: Document, charts: Charts) -> str:
    """How AP and loss went during training."""
    drawn_ones = _figures(document, charts, "curves")
    if not drawn_ones:
        return ""
    return _section(
        "Learning curves",
        drawn_ones + _said("A line is the mean over the seeds, its band reaches from the lowest to the highest."),
    )


def classes(document: Document, charts: Charts) -> str:
    """Differences of each class, those that remain after Holm's correction first."""
    names, pairs = class_names(document), document["differences"]
    if not pairs or not names:
        return ""
    ends = scale([pair.get(PER_CLASS + name) for pair in pairs for name in names])
    made = [_classes_of(document, pair, names, ends, place == 0) for place, pair in enumerate(pairs)]
    how = "P values are corrected for the number of classes by Holm's method; a class differs where p is below 0.05."
    all_rows = [pair.get(PER_CLASS + name) or {} for pair in pairs for name in names]
    return _section("By class", _said(how) + "".join(made) + _cut_off(all_rows, ends))


def _classes_of(
    document: Document, pair: Mapping[str, Any], names: Sequence[str], ends: tuple[float, float], opened: bool
) -> str:
    other, first = pair["models"]
    rows = {name: pair.get(PER_CLASS + name) or {} for name in names}
    differ = sorted(told(pair, names), key=lambda name: -rows[name]["value"])
    # the others by how near they come to differing; those without values last
    rest = [name for name in names if name not in {*differ}]
    rest.sort(
        key=lambda name: (rows[name].get("p_holm") is None, rows[name].get("p_holm") or 0, rows[name].get("p") or 0)
    )

    def made(chosen: Sequence[str], box: str, what: str) -> str:
        return table(
            ["class", "difference", "", "p (Holm)", clipped(first), clipped(other)],
            [_class(document, pair, name, rows[name], ends) for name in chosen],
            label=f"{what}, {text(other)} minus {text(first)}", kind="sorts filtered", box=box,
        )  # fmt: skip

    verb = agreeing(len(differ), "differs|differ")
    count = f"{len(differ) or 'none'} of {len(names):,} {agreeing(len(names), 'class|classes')} {verb}"
    if len(names) <= _FEW:
        body = made([*differ, *rest], "box", "Classes")
    else:
        body = (
            '<label class="filter" hidden>Filter<input type="search" autocomplete="off"><output></output></label>'
            + (made(differ, "box" if len(differ) <= 4 * _FEW else "box rest", "Classes that differ") if differ else "")
            + f"<h3>{len(rest):,} {'other ' * bool(differ)}classes are not told apart</h3>"
            + made(rest, "box rest", "The other classes")
            + '<p class="only-paper">They are in report.json.</p>'
        )
    title = f"<summary>{clipped(other)} minus {clipped(first)} <span>{count}</span></summary>"
    return f"<details{' open' * (opened or len(names) <= _FEW)}>{title}{body}</details>"


def _class(
    document: Document, pair: Mapping[str, Any], name: str, row: Mapping[str, Any], ends: tuple[float, float]
) -> list[Cell]:
    models = document["models"]
    values = [(models[which].get(PER_CLASS + name) or {}).get("value") for which in reversed(pair["models"])]
    p = row.get("p_holm")
    return [
        heading(name),
        _measure(row, sign=True, kind="" if p is not None and p < LEAST else "tie"),
        _drawn(row, ends),
        amount(chance(p), p),
        *(amount(points(value), value) for value in values),
    ]


def compared(document: Document, charts: Charts) -> str:
    """Settings that differ, those that are the same, runs, versions and device."""
    models, found = document["models"], document.get("compared") or {}
    body = ""
    if found.get("differ"):
        rows = [
            [Cell(text(key), heads=True), *(words(setting(values[name]) if name in values else "-") for name in models)]
            for key, values in found["differ"].items()
        ]
        made = table(
            ["setting", *map(clipped, models)], rows, label="Settings that differ", left=range(1 + len(models))
        )
        body += f"<h3>Settings that differ</h3>{made}"
    if found.get("same"):
        rows = [[Cell(text(key), heads=True), words(setting(value))] for key, value in found["same"].items()]
        made = table(["setting", "value"], rows, label="Settings that are the same", left=(0, 1))
        body += f"<details><summary>{len(rows)} settings are the same</summary>{made}</details>"
    runs = [(name, run) for name, model in models.items() for run in model.get("runs") or ()]
    if runs:
        made = table(["model", "seed", "AP", "AP50", "AP75", "training", "steps", "folder"], [
            [heading(name), *_run(run)] for name, run in runs
        ], label="Runs", left=(0, 7))  # fmt: skip
        body += f"<details><summary>{counted(len(runs), 'run|runs')}</summary>{made}</details>"
    files = [(name, model["file"]) for name, model in models.items() if model.get("file")]
    if files:
        rows = [[heading(name), words(file)] for name, file in files]
        body += table(["model", "file"], rows, label="Files", left=(0, 1))
    body += _said(f"Test set: {document['truth']}.")
    if made_with(document):
        body += _said(f"Made with {', '.join(made_with(document))}.")
    return _section("What was compared", body)


def _run(run: Mapping[str, Any]) -> list[Cell]:
    train, steps, seed = run.get("train_s"), run.get("steps"), run.get("seed")
    return [
        amount("-" if seed is None else str(seed), seed),
        *(amount(points(run.get(key)), run.get(key)) for key in ("AP", "AP50", "AP75")),
        amount("-" if train is None else duration(train), train),
        amount("-" if steps is None else f"{steps:,}", steps),
        words(run.get("folder", "-")),
    ]


def failed(document: Document, charts: Charts) -> str:
    """Cells without a result, and why."""
    cells = document.get("failed")
    if not cells:
        return ""
    rows = [[heading(str(one["cell"])), Cell(text(one["why"], keep="\n"), kind="text lines")] for one in cells]
    return _section("Failed", table(["cell", "why"], rows, label="Failed cells", left=(0, 1)))


def how_to_read(document: Document, charts: Charts) -> str:
    """What the intervals hold and what they do not."""
    return _section("How to read it", f"<ul>{''.join(f'<li>{text(line)}</li>' for line in reading(document))}</ul>")


SECTIONS = (quality, differences, costs, sizes, curves, classes, failed, compared, how_to_read)
"""In the order of the page."""


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{body}\n</section>\n"


def _said(line: str) -> str:
    return f'<p class="soft">{text(line)}</p>'


def _key(document: Document, name: str, charts: Charts) -> str:
    """The sign of a model in the charts, where charts have such signs."""
    if not any(chart.part in ("speed", "curves") for chart in charts):
        return ""
    place = list(document["models"]).index(name)
    return f'<span class="key k{place % len(COLORS)}" aria-hidden="true">{_SIGNS[place % len(_SIGNS)]}</span>&nbsp;'


def _name(document: Document, name: str, charts: Charts) -> Cell:
    return heading(name, _key(document, name, charts), text(parts(document, name)))


def _measure(row: Mapping[str, Any] | None, sign: bool = False, kind: str = "") -> Cell:
    value = (row or {}).get("value")
    return amount(points(value, sign), value, kind, below=span(row, sign))


def _drawn(row: Mapping[str, Any], ends: tuple[float, float]) -> Cell:
    return drawn(row.get("value"), interval(row), ends)


def _kind(row: Mapping[str, Any]) -> str:
    """How a difference is coloured."""
    value = row.get("value")
    return "tie" if value is None or row["tie"] else "better" if value > 0 else "worse"


def _figures(document: Document, charts: Charts, part: str) -> str:
    chosen = [chart for chart in charts if chart.part == part]
    if not chosen:
        return ""
    titled = part != "differences"  # whose title is that of its section
    made = "".join(
        f"<figure>{f'<h3>{text(chart.title)}</h3>' * titled}"
        f'<div role="img" aria-label="{text(chart.alt)}">{chart.svg}</div></figure>\n'
        for chart in chosen
    )
    if part == "differences":
        thick = " The thick part is what the images alone account for, 1.96 of their standard errors." * bool(
            any(pair["AP"].get("seeds") for pair in document["differences"])
        )
        return f'<div class="wide">{made}</div>' + _said(
            f"A line is a 95 % interval; grey: it holds 0 or there is none, {TIE}.{thick}"
        )
    keys = "".join(f"<li>{_key(document, name, charts)}{clipped(name)}</li>" for name in document["models"])
    return f'<ul class="keys">{keys}</ul>\n<div class="pair">{made}</div>'
