"""The answer of a comparison in a few sentences, and how to read its intervals."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from detector.report.shown import (
    COSTS,
    LEAST,
    TIE,
    Document,
    class_names,
    fact,
    images_alone,
    in_common,
    interval,
    measured,
    named_seeds,
    parts,
    points,
    rounds,
    seeds,
)

ONE_RUN = "What another seed of a training"
"""So a note begins that says the same as a line of the reading."""

_NAMED = 5
"""Of what failed, so many are named at the top."""

_FLIP = 6
"""Seeds that the sign-flip test needs to reach p < 0.05: its least p of n pairs is 2 / 2^n."""


def warnings(document: Document) -> list[str]:
    """What was not trained to its end, which one must know before anything else."""
    said = []
    if failed := [str(one["cell"]) for one in document.get("failed") or ()]:
        names = ", ".join(failed[:_NAMED]) + f" and {len(failed) - _NAMED} more" * (len(failed) > _NAMED)
        said.append(f"{len(failed)} {'cell' if len(failed) == 1 else 'cells'} failed, as told below: {names}.")
    if rows := document.get("unfinished"):
        told = [f"{one['model']} ({one['folder']}: {one['why']})" for one in rows[:_NAMED]]
        more = f" and {len(rows) - _NAMED} more" * (len(rows) > _NAMED)
        said.append(f"Not trained to the end: {'; '.join(told)}{more}. What they say is not what they would come to.")
    return said


def headline(document: Document) -> list[str]:
    """Which model is best, which only tie, which is fastest. Nothing is claimed but what a paired difference tells."""
    models, pairs = document["models"], _pairs(document)
    first, *others = models
    values = {name: value for name in models if (value := _ap(models[name])) is not None}
    ranked = sorted(values, key=lambda name: -values[name])
    if not ranked:
        return ["There is nothing to find: no model has an AP."]
    if len(models) == 1:
        return [
            f"AP of {first}: {measured(models[first]['AP'])}.",
            *_by_seed(models[first]),
            *_fastest(document, pairs),
        ]
    if len(models) == 2 and others[0] in pairs:
        return [_two(document, pairs[others[0]]), *_fastest(document, pairs)]
    best = ranked[0]
    return [_best(document, best, pairs), *_sorted_out(first, best, pairs), *_heads(document, ranked),
            *_fastest(document, pairs)]  # fmt: skip


def _pairs(document: Document) -> dict[str, Mapping[str, Any]]:
    """The differences to the first model, by the name of the other."""
    first = next(iter(document["models"]))
    return {pair["models"][0]: pair for pair in document["differences"] if pair["models"][1] == first}


def _by_seed(model: Mapping[str, Any]) -> list[str]:
    """How far the seeds of a model lie apart; [] where there is one run."""
    spread = (model["AP"].get("seeds") or {}).get("sd")
    if spread is None:
        return []
    values = ", ".join(f"{points(run['AP'])} (SEED {run['seed']})" for run in model["runs"])
    return [f"By seed: {values}; a standard deviation of {points(spread)}."]


def _ap(model: Mapping[str, Any]) -> float | None:
    return (model.get("AP") or {}).get("value")


def _ap_of(model: Mapping[str, Any], numbers: Sequence[int]) -> float | None:
    """AP of a model's runs with these seeds, of all runs without any: as it is in a difference."""
    values = [run["AP"] for run in model.get("runs") or () if run.get("seed") in numbers]
    return statistics.fmean(values) if values and None not in values else _ap(model)


def _two(document: Document, pair: Mapping[str, Any]) -> str:
    other, first = pair["models"]
    row, models = pair["AP"], document["models"]
    if row.get("value") is None:
        return f"{other} and {first} cannot be compared: one of them has nothing to find."
    one, two = other, first
    if row["value"] < 0 and not row["tie"]:
        one, two, row = first, other, _turned(row)
    words = f"{one} and {two} are {TIE}" if row["tie"] else f"{one} is better than {two}"
    common = in_common(document, pair)
    of = f"of {named_seeds(common)}, which both have, " if common else ""
    each = [_ap_of(models[name], common) for name in (one, two)]
    values = f"{of}AP {points(each[0])} against {points(each[1])}"
    scope = f", {said}" if (said := _scope(document, row)) else ""
    return f"{words}: {values}, a difference of {measured(row, sign=True)}{scope}."


def _scope(document: Document, row: Mapping[str, Any]) -> str:
    """What a difference does not count; "" where it counts the seeds."""
    if row.get("seeds"):
        return ""
    return "seeds not counted" if seeds(document) else "of one run each; seeds not counted"


def _turned(row: Mapping[str, Any]) -> dict[str, Any]:
    """A difference of two, the other way round."""
    low, high = interval(row) or (None, None)
    bounds = None if low is None or high is None else [-high, -low]
    return {**row, "value": -row["value"], "interval95": bounds}


def _best(document: Document, best: str, pairs: Mapping[str, Mapping[str, Any]]) -> str:
    first = next(iter(document["models"]))
    more = parts(document, best)
    line = f"Highest AP: {best}{f' ({more})' if more else ''} with {measured(document['models'][best]['AP'])}"
    if best == first:
        line += "; it is the model that the others are compared with"
    else:
        line += f"; {_against(document, pairs.get(best), first)}"
    rows = [pairs[best]["AP"]] if best in pairs else [pair["AP"] for pair in pairs.values()]
    scopes = {_scope(document, row) for row in rows}
    return "; ".join([line, *(said for said in scopes if said and len(scopes) == 1)]) + "."


def _against(document: Document, pair: Mapping[str, Any] | None, first: str) -> str:
    if pair is None or pair["AP"].get("value") is None:
        return f"not compared with {first}"
    row = pair["AP"]
    words = f"{TIE} with" if row["tie"] else "better than" if row["value"] > 0 else "worse than"
    common = in_common(document, pair)
    of = f", of {named_seeds(common)}" if common else ""
    return f"{words} {first}, the difference being {measured(row, sign=True)}{of}"


def _sorted_out(first: str, best: str, pairs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The other models as better, worse and ties, in a line; of the best it is said already."""
    groups: dict[str, list[str]] = {"Better than": [], "Worse than": [], "Ties with": []}
    for name, pair in pairs.items():
        row = pair["AP"]
        if row.get("value") is not None:
            groups["Ties with" if row["tie"] else "Better than" if row["value"] > 0 else "Worse than"].append(name)
    if len(groups["Ties with"]) == len(pairs):
        return [f"No model is told from {first}: all {len(pairs)} are ties with it."]
    groups = {word: [name for name in names if name != best] for word, names in groups.items()}
    if not any(groups.values()):
        return []
    also = "Also better than" if best in pairs and _told(pairs[best]["AP"]) > 0 else "Better than"
    words = {"Better than": also, "Worse than": "Worse than", "Ties with": "Ties with"}
    return [" ".join(f"{words[word]} {first}: {', '.join(names)}." for word, names in groups.items() if names)]


def _told(row: Mapping[str, Any]) -> int:
    """1 for better, -1 for worse, 0 for a tie or nothing to find."""
    if row.get("value") is None or row["tie"]:
        return 0
    return 1 if row["value"] > 0 else -1


def _heads(document: Document, ranked: list[str]) -> list[str]:
    """The highest of each head, where several heads and backbones were crossed."""
    models = document["models"]
    heads = dict.fromkeys(models[name].get("head") for name in ranked)
    backbones = {models[name].get("backbone") for name in ranked}
    if len(heads) < 2 or len(backbones) < 2 or None in heads:
        return []
    tops = [next(name for name in ranked if models[name]["head"] == head) for head in heads]
    told = [f"{models[name]['backbone']} under {models[name]['head']}, {points(_ap(models[name]))}" for name in tops]
    return [f"Highest of each head: {'; '.join(told)}."]


def _fastest(document: Document, pairs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The fastest model and what it loses: by the time of an image, else of a step of training.

    It is called so where each of its rounds took less than any of the others'.
    """
    models = document["models"]
    first = next(iter(models))
    for key, what in (("image_s", "an image"), ("step_s", "a step of training")):
        times = {name: value for name in models if (value := fact(models[name], key)) is not None}
        if len(times) < 2:
            continue
        text = next(cost.text for cost in COSTS if cost.key == key)
        if len({text(value) for value in times.values()}) == 1:
            return []  # none is faster as far as the page can tell
        fastest = min(times, key=times.__getitem__)
        measured_in = {name: rounds(models[name], key) for name in times}
        known = all(measured_in.values())
        alike = [
            name for name, values in measured_in.items()
            if known and name != fastest and min(values) <= max(measured_in[fastest])
        ]  # fmt: skip
        if known and len(alike) == len(times) - 1:
            slowest = max(times, key=times.__getitem__)
            return [
                f"Which is fastest is not certain: {fastest} took the least, {text(times[fastest])} {what} against "
                f"{'up to ' * (len(times) > 2)}{text(times[slowest])} of {slowest}, but its slowest round "
                f"({text(max(measured_in[fastest]))}) was no faster than the fastest round of any other; was the "
                "machine busy while timing?"
            ]
        beside = f" against {text(times[first])} of {first}" if first in times and fastest != first else ""
        word = "Fastest" if known else "Least time (how far it varies is not known)"
        line = f"{word}: {fastest}, {text(times[fastest])} {what}{beside}"
        if alike:
            line += f", not told from {', '.join(alike)}, whose rounds overlap with its own"
        return [f"{line}." if fastest == first else f"{line}; in AP {_against(document, pairs.get(fastest), first)}."]
    return []


def reading(document: Document) -> list[str]:
    """How the intervals, ties and p values of this document are to be read."""
    numbers = seeds(document)
    pairs, notes = document["differences"], document.get("notes") or ()
    paired = "paired " * bool(pairs)
    images = (
        f"a {paired}bootstrap over the test images ({document['replicates']:,} replicates): what another choice of "
        "test images would change"
    )
    lines = ["Values are points of a hundred; what stands behind them in brackets is a 95 % interval."]
    if numbers:
        lines += [
            f"The intervals hold two sources of chance together: the images, by {images}; and the seeds of the "
            f"trainings, by Student's t over {paired}seeds: what training again would change.",
        ]
        if alone := images_alone(document):
            lines.append(f"Of the images alone are the intervals of {alone}: one seed tells nothing of others.")
        most = numbers[-1]
        if most < _FLIP and not any("sign-flip" in note for note in notes):
            lines.append(
                f"Of {most} seeds the exact sign-flip test has no p below {2 / 2**most:.3g}: fewer than six seeds "
                "cannot reach p < 0.05 by it, whatever they say."
            )
    else:
        lines.append(f"The intervals are those of {images}.")
        if not any(note.startswith(ONE_RUN) for note in notes):
            lines.append(f"{ONE_RUN} would change is not in them.")
    if not pairs:
        return lines
    lines.append(
        f"A difference counts where p is below {LEAST} and the interval, as it is shown, does not hold 0. Else it is a "
        "tie: these data do not tell the two apart, which is not to say that they are equal."
    )
    lines.append(
        "Verdicts on the twelve measures are not corrected for their number, in which about one in 20 would seem to "
        "differ by chance; AP is the one to go by."
    )
    if len(pairs) > 1:
        lines.append(
            "Each model is compared with the first alone and by itself: of 20 equal models about one would seem to "
            "differ."
        )
    if len(class_names(document)) > 1:
        lines.append(
            f"P values of classes are corrected for their number, {len(class_names(document)):,}, by Holm's method."
        )
    return lines
