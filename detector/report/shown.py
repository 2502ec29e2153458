"""How a report says what report.json holds: values in points, verdicts, costs, sentences. For the page and Markdown."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from detector.console import duration
from detector.evaluation.report import PER_CLASS
from detector.evaluation.significance import ALPHA
from detector.text import agreeing

Document = Mapping[str, Any]
"""report.json as it is read: plain values, null where there is nothing."""

LEAST = ALPHA
"""The p value below which a class is said to differ, after Holm's correction for their number."""

TIE, NOTHING = "a tie", "nothing to find"


class Cost(NamedTuple):
    """What a model costs, one number of its facts. title: of its column; text: how the number is written."""

    key: str
    title: str
    text: Callable[[float], str]


def _count(value: float) -> str:
    for factor, sign in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{sign}"
    return f"{value:.0f}"


def _milliseconds(value: float) -> str:
    return f"{1000 * value:.3g} ms" if value < 1 else f"{value:.3g} s"


def _memory(value: float) -> str:
    return f"{value / 1024:.3g} GiB" if value >= 1024 else f"{value:.0f} MiB"


COSTS = (
    Cost("params", "parameters", _count),
    Cost("macs", "MACs", _count),
    Cost("macs_backbone", "backbone's MACs", _count),
    Cost("image_s", "image", _milliseconds),
    Cost("step_s", "step", _milliseconds),
    Cost("memory_mb", "memory", _memory),
    Cost("train_s", "training", duration),
    Cost("steps", "steps", lambda value: f"{value:,.0f}"),
    Cost("images_seen", "images seen", lambda value: f"{value:,.0f}"),
    Cost("correlation", "correlation", lambda value: f"{value:.3f}"),
)
"""In the order of their columns."""

_BUDGET = {"steps": "steps", "images_seen": "images"}


def fact(model: Mapping[str, Any], key: str) -> float | None:
    """A number of a model's facts, None where it is unknown."""
    return (model.get("facts") or {}).get(key)


def rounds(model: Mapping[str, Any], key: str) -> list[float]:
    """What each round of measuring a time of the facts gave; [] where there were none, or one."""
    values = (model.get("facts") or {}).get(f"{key}_rounds") or []
    return values if len(values) > 1 else []


def rounds_text(model: Mapping[str, Any], cost: Cost) -> str:
    """The least and the most of the rounds; "" without them."""
    values = rounds(model, cost.key)
    return f"{cost.text(min(values))} .. {cost.text(max(values))}" if values else ""


def explained(document: Document) -> list[str]:
    """What the columns of the costs are."""
    titles = {cost.key for cost in known_costs(document)}
    models = document["models"]
    sizes = {name: tuple(size) for name, model in models.items() if (size := (model.get("facts") or {}).get("size"))}
    said = []
    if "macs" in titles and sizes:
        distinct = {*sizes.values()}
        each = "; ".join(f"{name}: {size[0]} x {size[1]}" for name, size in sizes.items())
        pixels = "{} x {}".format(*distinct.pop()) if len(distinct) == 1 else f"the largest test size ({each})"
        said.append(f"MACs are the multiply-adds of one image of {pixels} pixels, height x width.")
    if {"image_s", "step_s"} & titles:
        named = {"image": "a test image", "step": "a training step"}
        shown = [cost.title for cost in known_costs(document) if cost.title in named]
        brackets = any(rounds(model, key) for model in models.values() for key in ("image_s", "step_s"))
        said.append(
            f"{' and '.join(shown).capitalize()} {'are the times' if len(shown) > 1 else 'is the time'} of "
            f"{' and of '.join(named[title] for title in shown)}"
            f"{'; beside them the least and the most of the rounds' * brackets}."
        )
    if "train_s" in titles:
        said.append(
            "Training is the time of all steps as the training ran, perhaps beside others, without tests and "
            "checkpoints: it need not be the steps times the time of one."
        )
    if "correlation" in titles:
        said.append(
            "Correlation is the mean of the absolute correlations between a convolution's filters, in the backbone."
        )
    return said


def sizes_text(document: Document) -> str:
    """How many objects are small, medium and large; "" where the document does not say."""
    sizes = document.get("sizes") or {}
    told = ", ".join(f"{number:,} {name}" for name, number in sizes.items())
    return f"Objects: {told} (below 32 x 32 pixels, between, from 96 x 96 on)." if told else ""


def known_costs(document: Document) -> list[Cost]:
    """Those that are known of any model; without the budget where that is one for all, see `budget`."""
    values = {cost: {fact(model, cost.key) for model in document["models"].values()} for cost in COSTS}
    alike = {cost for cost in COSTS if cost.key in _BUDGET and len(values[cost]) == 1}
    return [cost for cost in COSTS if values[cost] != {None} and cost not in alike]


def budget(document: Document) -> str:
    """What every model was trained with, where it is the same: "All were trained with 600 steps."."""
    values = {key: {fact(model, key) for model in document["models"].values()} for key in _BUDGET}
    said = [
        f"{value:,.0f} {word}"
        for key, word in _BUDGET.items()
        if len(values[key]) == 1 and (value := next(iter(values[key]))) is not None
    ]
    return f"All were trained with {', '.join(said)}." if said else ""


def points(value: float | None, sign: bool = False) -> str:
    """A fraction in points of a hundred: 41.2, or +1.2."""
    if value is None:
        return "-"
    rounded = round(100 * value, 1) or 0.0  # -0.04 has no sign
    return f"{rounded:{'+.1f' if sign else '.1f'}}"


def interval(row: Mapping[str, Any] | None, key: str = "interval95") -> tuple[float, float] | None:
    """Both bounds, None without them."""
    low, high = (row or {}).get(key) or (None, None)
    return None if low is None or high is None else (low, high)


def span(row: Mapping[str, Any] | None, sign: bool = False) -> str:
    """The interval alone, "39.0 .. 43.1"; nothing without one."""
    bounds = interval(row)
    return "" if bounds is None else " .. ".join(points(bound, sign) for bound in bounds)


def measured(row: Mapping[str, Any] | None, sign: bool = False) -> str:
    """Value and interval: "41.2 (39.0 .. 43.1)"."""
    value, bounds = points((row or {}).get("value"), sign), span(row, sign)
    return f"{value} ({bounds})" if bounds else value


def chance(p: float | None) -> str:
    """A p value."""
    if p is None:
        return "-"
    if p < 0.0001:
        return "< 0.0001"
    shown = f"{p:.4f}" if p < 0.01 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
    return f"< {LEAST}" if p < LEAST <= float(shown) else shown


def verdict(row: Mapping[str, Any], models: Sequence[str]) -> str:
    """Which of the two is better, a tie, or that there is nothing to find."""
    if row.get("value") is None:
        return NOTHING
    return TIE if row["tie"] else f"{models[0] if row['value'] > 0 else models[1]} is better"


def class_names(document: Document) -> list[str]:
    """Of the test set, in its order."""
    names = document.get("classes")
    first = next(iter(document["models"].values()))
    return list(names) if names else [key.removeprefix(PER_CLASS) for key in first if key.startswith(PER_CLASS)]


def told(pair: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The classes that differ after Holm's correction, in the order given."""
    values = {name: pair.get(PER_CLASS + name, {}).get("p_holm") for name in names}
    return [name for name, p in values.items() if p is not None and p < LEAST]


def parts(document: Document, name: str) -> str:
    """Backbone and head of a model, where they differ between the models and its name does not say them."""
    model = document["models"].get(name) or {}
    return ", ".join(
        model[key]
        for key in ("backbone", "head")
        if model.get(key) and model[key] not in name and len(_values(document, key)) > 1
    )


def _values(document: Document, key: str) -> set[str | None]:
    return {model.get(key) for model in document["models"].values()}


def seeds(document: Document) -> list[int]:
    """The numbers of seeds that the models have, ascending; empty where none has several."""
    rows = [model.get("AP") or {} for model in document["models"].values()]
    numbers = {(row.get("seeds") or {}).get("n") or 1 for row in rows}
    return [] if numbers == {1} else sorted(numbers)


def in_common(document: Document, pair: Mapping[str, Any]) -> list[int]:
    """The seeds that a difference is of, where one of its two models has others besides; else []."""
    ours, theirs = ({run.get("seed") for run in document["models"][name].get("runs") or ()} for name in pair["models"])
    return sorted((ours & theirs) - {None}) if ours != theirs else []


def named_seeds(numbers: Sequence[int]) -> str:
    """As a sentence has them: "seed 1 alone", "seeds 0 and 2"."""
    if len(numbers) == 1:
        return f"seed {numbers[0]} alone"
    return f"seeds {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


_MOST = 5
"""So many are named of what has no seeds in its interval."""


def images_alone(document: Document) -> str:
    """Whose AP and which differences have intervals of the images alone, where others hold seeds too; "" if none."""
    models = document["models"]
    rows = [(f"AP of {name}", model.get("AP")) for name, model in models.items()]
    rows += [(f"{pair['models'][0]} minus {pair['models'][1]}", pair["AP"]) for pair in document["differences"]]
    names = [name for name, row in rows if row and interval(row) and not row.get("seeds")]
    if not seeds(document) or not names:
        return ""
    return ", ".join(names[:_MOST]) + f" and {len(names) - _MOST} more" * (len(names) > _MOST)


def subject(document: Document) -> str:
    """What was compared on what: "5 models under fcos, 3 seeds each, on t.json: 72 images with 1,021 objects"."""
    kind = "detectors" if document.get("kind", "results") == "results" else "models"
    backbones, heads = _values(document, "backbone"), _values(document, "head")
    same = [f" with {name}" for name in backbones if name and len(backbones) == 1]
    same += [f" under {name}" for name in heads if name and len(heads) == 1]
    numbers = seeds(document)
    number = len(document["models"])
    each = " each" * (number > 1)
    several = f", {' to '.join(map(str, dict.fromkeys((numbers[0], numbers[-1]))))} seeds{each}," if numbers else ""
    what = kind if number > 1 else kind.removesuffix("s")
    return (
        f"{number} {what}{''.join(same)}{several} on {document['truth']}: {document['images']:,} "
        f"{agreeing(document['images'], 'image|images')} with {document['objects']:,} "
        f"{agreeing(document['objects'], 'object|objects')}"
    )


def setting(value: object) -> str:
    """The value of a config key: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def made_with(document: Document) -> list[str]:
    """Versions and device, those that are known."""
    versions = [f"{name} {value}" for name, value in (document.get("versions") or {}).items()]
    device = document.get("device")
    return [*versions, device] if device else versions


WIDE = 4.0
"""An interval of so many times the width of the middle one leaves the axis of all: it would squeeze the others."""


def scale(rows: Sequence[Mapping[str, Any] | None]) -> tuple[float, float]:
    """The ends of an axis that holds 0, and all values and intervals but the very wide ones."""
    widths = {place: ends[1] - ends[0] for place, row in enumerate(rows) if (ends := interval(row))}
    most = WIDE * statistics.median_high(widths.values()) if widths else 0.0
    kept = [row for place, row in enumerate(rows) if not most or widths.get(place, 0.0) <= most]
    values = [row["value"] for row in kept if row and row.get("value") is not None]
    bounds = [bound for row in kept for bound in interval(row) or ()]
    return min([0.0, *values, *bounds]), max([0.0, *values, *bounds])
