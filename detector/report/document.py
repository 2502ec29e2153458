"""The document of a comparison, report.json: what all pages and charts are drawn from, and nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from detector.data.packed import PackedIndex
from detector.errors import UserError
from detector.evaluation.base import Found, class_names
from detector.evaluation.evidence import FEWEST
from detector.evaluation.matching import AREAS
from detector.evaluation.report import MEASURES, PER_CLASS
from detector.evaluation.seeds import LEAST, Pairing, Seeds, Training, Verdict, of_arm, of_pair, pair
from detector.evaluation.significance import holm, judge, resample
from detector.files import json_bytes

VERSION = 2

FEW = "Fewer than six images hold"
"""So the note on classes of few images begins."""

_NAMED = 3
"""Of them, so many are named."""

FACTS = (
    *("params", "macs", "macs_backbone", "size", "step_s", "image_s", "memory_mb", "train_s", "correlation"),
    *("steps", "images_seen", "step_s_rounds", "image_s_rounds"),
)
"""Of a model, beside its measures: null where they are not known."""


class Truth(NamedTuple):
    """The test set that all models have in common. name: as people know it; replicates: of the bootstrap."""

    name: str
    annotations: PackedIndex
    replicates: int


class Model(NamedTuple):
    """One of those that are compared. trainings: one, or several seeds; said: what else the document says of it."""

    trainings: Sequence[Training]
    said: Mapping[str, Any]


class Measurer:
    """Measures detections, with those of the images drawn again; all must be of the same images and objects."""

    def __init__(self, replicates: int) -> None:
        """replicates: of the bootstrap."""
        self.replicates = replicates
        self._first: tuple[str, PackedIndex] | None = None

    def measure(self, name: str, index: PackedIndex, found: Found, seed: int | None = None) -> Training:
        """A training's measures; seed: its own; name: in the ValueError for another test set than that of the first."""
        self._first = self._first or (name, index)
        if what := _difference_of(self._first[1], index):
            raise UserError(
                f"{self._first[0]} and {name} were tested on different {what} ({self._first[1].path}, {index.path}); "
                "only the same can be compared"
            )
        return Training(seed, resample(judge(index, found), self.replicates))


def _difference_of(first: PackedIndex, second: PackedIndex) -> str:
    """In what the truth of two tests differs, "" if in nothing. Crowds are a matter of settings too."""
    if first is second:
        return ""
    if first.image_ids.tolist() != second.image_ids.tolist():
        return "images"
    if class_names(first) != class_names(second):
        return "classes"
    same = np.array_equal(first.image_of(), second.image_of()) and np.array_equal(first.labels, second.labels)
    if not same or not np.allclose(first.boxes_xywh, second.boxes_xywh):
        return "objects"
    ignored = np.array_equal(first.crowd | first.difficult, second.crowd | second.difficult)
    return "" if ignored else "objects: some are crowds, or difficult, in one of them alone"


def build(
    kind: str,
    truth: Truth,
    models: Mapping[str, Model],
    *,
    compared: Mapping[str, Any] | None = None,
    versions: Mapping[str, str],
    device: str | None = None,
    failed: Iterable[Mapping[str, str]] = (),
    unfinished: Iterable[Mapping[str, str]] = (),
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Everything under the names of metrics.json, exactly as report.json holds it: what is not known is None.

    kind: "results" or "runs". A difference is the value of the first model named minus that of the second, which is
    the first of all.
    """
    index, names = truth.annotations, [*models]
    classes = class_names(index)
    differences, more = [], list[str]()
    for other in names[1:]:
        chosen = pair(models[other].trainings, models[names[0]].trainings)
        more += _pair_notes((other, names[0]), chosen, (models[other].trainings, models[names[0]].trainings))
        differences.append({"models": [other, names[0]], **_difference(of_pair(chosen, len(index)), classes)})
    content = {
        "version": VERSION,
        "kind": kind,
        "truth": truth.name,
        "images": len(index),
        "objects": int((~(index.crowd | index.difficult)).sum()),
        "sizes": _sizes(index),
        "replicates": truth.replicates,
        "classes": classes,
        "models": {
            name: {**_measures(of_arm(one.trainings, len(index)), classes), **one.said} for name, one in models.items()
        },
        "differences": differences,
        "compared": dict(compared or {"same": {}, "differ": {}}),
        "versions": dict(versions),
        "device": device,
        "failed": [dict(one) for one in failed],
        "unfinished": [dict(one) for one in unfinished],
        "notes": [*notes, *more, *_notes([one.trainings for one in models.values()]), *few_images(models, classes)],
    }
    return msgspec.json.decode(json_bytes(content))


def _sizes(index: PackedIndex) -> dict[str, int]:
    """Objects of each range of areas, those on a boundary in both, as the measures count them."""
    areas = index.areas[~(index.crowd | index.difficult)]
    return {name: int(((areas >= low) & (areas <= high)).sum()) for name, (low, high) in AREAS.items() if name != "all"}


def facts(**known: object) -> dict[str, Any]:
    """All of `FACTS`, in their order; None for those that are not given."""
    return {name: known.get(name) for name in FACTS}


def _named(columns: Sequence[Verdict], classes: Sequence[str]) -> dict[str, Verdict]:
    return dict(zip((*MEASURES, *(PER_CLASS + name for name in classes)), columns, strict=True))


def _measures(columns: Sequence[Verdict], classes: Sequence[str]) -> dict[str, Any]:
    rows = {}
    for name, one in _named(columns, classes).items():
        rows[name] = {
            **{"value": one.value, "se": one.se, "interval95": _cut(one, 0.0), "bca95": _several(one)},
            "images": {"se": one.images.se, "interval95": list(one.images.interval)},
            "seeds": _without(_seeds(one.seeds), "mean", "p"),
        }
    return rows


def _difference(columns: Sequence[Verdict], classes: Sequence[str]) -> dict[str, Any]:
    rows = {}
    for name, one in _named(columns, classes).items():
        images = one.images
        rows[name] = {
            **{"value": one.value, "se": one.se, "interval95": _cut(one, -1.0), "bca95": _several(one)},
            **{"p": one.p, "tie": one.tie},
            "images": {"se": images.se, "interval95": [*images.interval], "bca95": [*images.bca], "p": images.p},
            "seeds": _seeds(one.seeds),
        }
    adjusted = holm([one.p for one in columns[len(MEASURES) :]])
    for name, p in zip(classes, adjusted, strict=True):
        rows[PER_CLASS + name]["p_holm"] = p
    return rows


def _cut(one: Verdict, lowest: float) -> list[float]:
    """The interval within what is possible, `lowest` to 1, whatever the seeds say of their spread; nan stays."""
    return [min(max(bound, lowest), 1.0) if bound == bound else bound for bound in one.interval]


def _several(one: Verdict) -> list[float] | None:
    return list(one.bca) if one.seeds is None else None


def _seeds(seeds: Seeds | None) -> dict[str, Any] | None:
    if seeds is None:
        return None
    return {
        **{"n": seeds.number, "mean": seeds.mean, "sd": seeds.sd, "se": seeds.se},
        **{"interval95": list(seeds.interval), "p": seeds.p},
    }


def _without(row: dict[str, Any] | None, *keys: str) -> dict[str, Any] | None:
    return row and {key: value for key, value in row.items() if key not in keys}


def _pair_notes(names: tuple[str, str], chosen: Pairing, arms: Sequence[Sequence[Training]]) -> list[str]:
    """How a difference came about, where that is not plain."""
    both = " and ".join(names)
    if max(map(len, arms)) == 1:
        return []
    if not chosen.paired:
        if min(map(len, arms)) == 1:
            return [f"{both} have no seed in common, and one of them has one run: their intervals know no seeds."]
        return [f"{both} have no seed in common: their differences are not paired (Welch's t)."]
    out = [
        f"seed {one.seed} of {name}"
        for name, arm in zip(names, arms, strict=True)
        for one in arm
        if one.seed not in {used.seed for used in chosen.first}
    ]
    said = []
    if out:
        seeds = f"seed{'s' * (len(chosen.first) > 1)} {', '.join(str(one.seed) for one in chosen.first)}"
        said.append(f"{both} are paired by {seeds}; not in their differences: {', '.join(out)}.")
    if len(chosen.first) == 1:
        said.append(f"{both} have one seed in common: the intervals of their differences know no other seeds.")
    return said


def few_images(models: Mapping[str, Model], classes: Sequence[str]) -> list[str]:
    """Which classes too few images hold, in which range of areas, and which measures hang on them."""
    basis = next(iter(models.values())).trainings[0].measures.basis
    if basis is None:
        return []
    counts = {
        name: np.bincount(basis.object[held] // basis.images, minlength=len(classes)).tolist()
        for name, held in zip(AREAS, basis.held, strict=True)
    }
    rare = {name: [c for c, number in enumerate(each) if 0 < number < FEWEST] for name, each in counts.items()}
    told, measures = [], []
    for name, found in rare.items():
        new = [c for c in found if name == "all" or c not in rare["all"]]
        if not new:
            continue
        one = ", ".join(f"{classes[c]} ({counts[name][c]})" for c in new[:_NAMED])
        more = f" and {len(new) - _NAMED:,} more classes" * (len(new) > _NAMED)
        told.append(f"{f'{name} ' * (name != 'all')}objects of {one}{more}")
        measures += [title for title, measure in MEASURES.items() if measure.area == name]
    if not told:
        return []
    which = "All measures" if rare["all"] else ", ".join(measures)
    return [
        f"{FEW} {'; '.join(told)}. {which}: one such image moves them far, so that intervals are wide, lopsided or "
        "missing, and such classes alone make no verdict."
    ]


def _notes(arms: Sequence[Sequence[Training]]) -> list[str]:
    """What the number of seeds means for the intervals."""
    most = max(map(len, arms))
    if most == 1:
        return ["What another seed of a training would change is not in the intervals: there is one run of each."]
    said = []
    if most < LEAST:
        said.append("Fewer than six seeds cannot reach p < 0.05 by the sign-flip test.")
    if min(len(arm) for arm in arms if len(arm) > 1) == 2:
        said.append("Two seeds tell little of their spread: 95 % intervals with both sources may hold 88 of 100.")
    return said
