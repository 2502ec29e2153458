"""Tensors into modules, strictly: any module, a backbone by its record, a detector with classes of its own."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from detector.errors import UserError
from detector.structures import ClassRows
from detector.text import counted, printable
from detector.weights.offsets import is_offset, new_offsets, with_own_offsets
from detector.weights.read import State, WeightFile
from detector.weights.record import Weights
from detector.weights.rename import translate, unwrapped

log = logging.getLogger("detector")

COUNTER = ".num_batches_tracked"
LISTED = 8  # names, of which a message counts the rest


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(map(printable, names[:LISTED])) + (
        f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    )


@dataclass
class Report:
    """Key names by what became of them, without the counters of batch norms. Prints as a line or a table."""

    loaded: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    wrong_shape: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        """Whether nothing is missing, left over or of another shape."""
        return not (self.missing or self.unexpected or self.wrong_shape)

    def __str__(self) -> str:
        """The number of tensors; where not all are loaded, a row for each fate: count and first names."""
        if not self.dropped and self.fits:
            return f"{counted(len(self.loaded), 'tensor|tensors')} loaded, all that the file holds"
        rows = []
        for what, keys in vars(self).items():
            names = "" if what == "loaded" else listed(keys)
            rows.append(f"{what.replace('_', ' '):<12}{len(keys):>6}  {names}".rstrip())
        return "\n".join(rows)


def say_report(path: Path, report: Report) -> None:
    """Log what became of a file's tensors."""
    log.info("%s:%s%s", path, "\n" if report.dropped else " ", report)


def load_state(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    drop: tuple[str, ...] = (),
    optional: tuple[str, ...] = (),
    source: str = "",
    exact: bool = False,
) -> Report:
    """Loads tensors by name; every one must fit.

    drop: prefixes of keys to leave out, in the file (they are not read) and in the module (they keep their values).
    optional: prefixes of keys that the file may lack; so may it `num_batches_tracked`. source: the file, for messages.
    exact: every tensor has the very type of the module's, as in a checkpoint of it; without, real numbers of another
    precision are taken, and the log says so.
    Raises ValueError that lists all keys that are missing, left over or of another shape, or that hold a value which is
    infinite or no number, or numbers of another kind; then nothing is loaded.
    """
    own, report = module.state_dict(), Report()
    dropped = {key for key in {*own, *state} if drop and key.startswith(drop)}
    report.dropped = sorted(dropped)
    for key in [key for key in own if key not in dropped]:
        if key in state and state[key].shape != own[key].shape:
            report.wrong_shape.append(f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}")
        elif key in state and not key.endswith(COUNTER):
            report.loaded.append(key)
        elif key not in state and not key.startswith(optional) and not key.endswith(COUNTER):
            report.missing.append(key)
    left = [key for key in state if key not in own and key not in dropped]
    report.unexpected = [key for key in left if not key.endswith(COUNTER)]
    if not report.fits:
        what = f"{source} does" if source else "these weights do"
        raise UserError(f"{what} not fit the model:\n{report}\n{_remedy(module, report)}")
    check_types(state, own, report.loaded, source or "these weights", exact=exact)
    broken = [key for key in report.loaded if not torch.isfinite(state[key]).all()]
    if broken:
        raise UserError(
            f"{source or 'these weights'}: {counted(len(broken), 'tensor|tensors holds|hold')} values that are "
            "infinite or "
            f"no number, {broken[0]} first: the training that wrote them diverged; take an earlier checkpoint"
        )
    module.load_state_dict({key: state[key] for key in own if key in state and key not in dropped}, strict=False)
    return report


def check_types(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], keys: Iterable[str], source: str, *, exact: bool
) -> None:
    """Raise ValueError for whole numbers or truth values in the place of real numbers, or the other way round.

    exact: and for reals of another precision, which are else named in the log.
    """
    other = [key for key in keys if state[key].dtype != own[key].dtype]
    wrong = [key for key in other if exact or state[key].is_floating_point() != own[key].is_floating_point()]
    if wrong:
        there, here = (str(some[wrong[0]].dtype).removeprefix("torch.") for some in (state, own))
        raise UserError(
            f"{source}: {counted(len(wrong), 'tensor|tensors is|are')} of another type than the model's, {wrong[0]} "
            f"first, which is {there} and has to be {here}; take the file as it was saved"
        )
    if other:
        kinds = sorted({str(state[key].dtype).removeprefix("torch.") for key in other})
        tensors = counted(len(other), "tensor|tensors is|are")
        log.info("%s: %s stored as %s and converted", source, tensors, " and ".join(kinds))


def _remedy(module: nn.Module, report: Report) -> str:
    groups = {name for name, child in module.named_modules() if isinstance(child, nn.GroupNorm)}
    if any(key.endswith(".running_var") and key.rpartition(".")[0] in groups for key in report.unexpected):
        return (
            "The file holds batch norm statistics and the model group norms, which cannot use them: "
            "set MODEL.BACKBONE.NORM to frozen_bn, bn or sync_bn, or MODEL.WEIGHT to ''."
        )
    keys = [*report.missing, *report.unexpected, *report.wrong_shape]
    if all(is_offset(key.partition(" ")[0]) for key in keys):
        return (
            "All but the offsets fits: set MODEL.BACKBONE.DEFORM_STAGES, DEFORM_MODULATED and DEFORM_GROUPS to what "
            "the file was trained with."
        )
    if hasattr(module, "head") and not any(key.startswith("backbone.") for key in keys):
        return "The backbone fits, neck or head do not: take MODEL.NECK and the head's keys of the file's own config."
    return "Set MODEL.BACKBONE.NAME to the network that the file was made for, or MODEL.WEIGHT to a file of this one."


def load_backbone(backbone: nn.Module, weights: Weights, file: WeightFile) -> Report:
    """Loads a weight file into a backbone (or its Classifier) by the rules of its weight record.

    Accepts the published file, a file of our own, and detector checkpoints, ours or maskrcnn-benchmark's, whose other
    keys are reported as dropped; also what wrappers named, and the log says so. Offsets of deformable stages may have
    mmdetection's names; they stay new where the file has none, and the log says so. Raises ValueError as `unwrapped`,
    `translate` and `load_state` do.
    """
    own = backbone.state_dict()
    state, aside, off = _own_names(file, weights, own)
    _say_prefixes(file, off)
    drop = tuple(prefix for prefix in weights.drop if not any(key.startswith(prefix) for key in own))
    state = with_own_offsets(state, own)
    optional = weights.optional + _left_new(file, state, own)
    report = load_state(backbone, state, drop=drop, optional=optional, source=str(file.path))
    report.dropped = sorted([*aside, *report.dropped])
    return report


def count_outputs(classifier: nn.Module, weights: Weights, file: WeightFile) -> int | None:
    """How many classes the classifier in a weight file tells apart; None if it holds none. Errors as `load_backbone`.

    classifier: a backbone's Classifier, whose last tensor is the bias of its outputs.
    """
    own = list(classifier.state_dict())
    state = _own_names(file, weights, own)[0]
    return len(state[own[-1]]) if own[-1] in state else None


def _own_names(file: WeightFile, weights: Weights, own: Iterable[str]) -> tuple[State, list[str], list[str]]:
    """The tensors under a backbone's names, the keys put aside, and the wrappers' prefixes taken off."""
    own = list(own)
    try:
        state, beside, off = unwrapped(file.state, own)
        state, aside = translate(state, weights, own)
    except UserError as error:
        raise UserError(f"{file.path}: {error}") from error
    return state, [*beside, *aside], off


def _say_prefixes(file: WeightFile, off: Sequence[str]) -> None:
    if off:
        log.info("%s: its keys are taken without the prefix %s that a wrapper left", file.path, " and ".join(off))


def _left_new(file: WeightFile, state: State, own: Iterable[str]) -> tuple[str, ...]:
    """The offsets that a file of a plain network does not have, which the log says."""
    new = new_offsets(state, own)
    if new:
        log.info(
            "%s is of a network without deformable stages: the offsets of %d convolutions start at zero, where "
            "MODEL.BACKBONE.DEFORM_MASK_DOUBLED says what a mask is", file.path, len(new) // 2,
        )  # fmt: skip
    return new


# ---------------------------------------------------------------------------- detectors


def is_detector(file: WeightFile) -> bool:
    """Whether a file holds a whole detector of ours: a backbone and a head, whatever wrapper is around them."""
    try:
        state = unwrapped(file.state, ("backbone.", "neck.", "head."))[0]
    except UserError:
        return False
    return {"backbone", "head"} <= {key.partition(".")[0] for key in state}


def load_detector(
    model: nn.Module, file: WeightFile, classes: Sequence[str] | None = None, *, fine_tune: bool = False
) -> None:
    """Fill a detector strictly.

    fine_tune: it is trained further, on `classes`. Where the file names its classes, only the outputs whose names agree
    are kept, at the places they have now; where it does not and has another number of them, the classifier is dropped.
    Offsets of deformable stages stay new where the file has none.
    The log says what became of which class. Without fine_tune, classes are those of the data that it is to detect.
    Raises ValueError naming the file and what does not fit; without fine_tune so is another number of classes.
    """
    own = model.state_dict()
    try:
        state, aside, off = unwrapped(file.state, own)
    except UserError as error:
        raise UserError(f"{file.path}: {error}") from error
    _say_prefixes(file, off)
    layers = cast("Mapping[str, ClassRows]", model.get_submodule("head").classifier)
    rows = {key: row for name, row in layers.items() for key in own if key.startswith(f"head.{name}.") and key in state}
    other = [key for key in rows if state[key].shape != own[key].shape]
    dropped = False
    unlike = [key for key in other if _count(state[key], rows[key]) != _count(own[key], rows[key])]
    if unlike and not fine_tune:
        remedy = "set MODEL.NUM_CLASSES to what it was trained with; only training may drop a classifier"
        if classes:  # then MODEL.NUM_CLASSES is theirs
            lists = counted(len(classes), "class|classes")
            remedy = f"the data lists {lists}; evaluate on data with those that it was trained on"
        raise UserError(f"{file.path} has {_numbers(state, own, rows, unlike[0])} ({unlike[0]}): {remedy}")
    names = list(file.content.get("classes") or [])
    if fine_tune and classes and names != list(classes) and _fit(state, own, rows, names, classes):
        pairs = agreeing(names, classes)
        dropped = not pairs
        if pairs:
            state |= {key: _keep(state[key], own[key], row, pairs) for key, row in rows.items()}
        _say_classes(file, names, classes, pairs)
    elif other and fine_tune:
        dropped = True
        what = _numbers(state, own, rows, unlike[0]) if unlike else "class outputs of another width"
        log.warning("%s has %s: its classifier is dropped and starts anew", file.path, what)
    drop = tuple(f"head.{name}." for name in layers) if dropped else ()
    optional = _left_new(file, state, own) if fine_tune else ()
    report = load_state(model, state, drop=drop, optional=optional, source=str(file.path))
    report.dropped = sorted([*aside, *report.dropped])
    say_report(file.path, report)


def load_without_head(model: nn.Module, file: WeightFile) -> None:
    """Fill what a detector has in common with one of another head: the backbone, and the neck where all of it fits.

    The head keeps its values, and so does a neck that is another one; the log says so. Raises ValueError as
    `load_state` does for a backbone that does not fit.
    """
    own = model.state_dict()
    state, aside, off = unwrapped(file.state, own)
    _say_prefixes(file, off)
    shapes = [{key: value.shape for key, value in some.items() if key.startswith("neck.")} for some in (state, own)]
    drop = ("head.",) if shapes[0] == shapes[1] else ("neck.", "head.")
    report = load_state(model, state, drop=drop, optional=_left_new(file, state, own), source=str(file.path))
    report.dropped = sorted([*aside, *report.dropped])
    say_report(file.path, report)
    new = "the head starts" if drop == ("head.",) else "neck and head start"
    log.warning("%s is a detector with another head: %s anew", file.path, new)


def agreeing(names: Sequence[str], classes: Sequence[str]) -> dict[int, int]:
    """Index into `classes` -> index into `names`, of every name that stands once in both."""
    there, here = Counter(names), Counter(classes)
    return {i: names.index(name) for i, name in enumerate(classes) if there[name] == here[name] == 1}


def _fit(
    state: State, own: Mapping[str, Tensor], rows: Mapping[str, ClassRows], names: Sequence[str], classes: Sequence[str]
) -> bool:
    """Whether the class layers of file and model have an output for each name, and are else of the same shape."""
    numbers = {(_count(state[key], row), _count(own[key], row)) for key, row in rows.items()}
    return numbers == {(len(names), len(classes))} and all(state[key].shape[1:] == own[key].shape[1:] for key in rows)


def _count(tensor: Tensor, rows: ClassRows) -> int:
    """The number of classes in the weight or bias of a class layer."""
    return len(tensor) // (rows.before * rows.after) - rows.background


def _numbers(state: State, own: Mapping[str, Tensor], rows: Mapping[str, ClassRows], key: str) -> str:
    return f"{_count(state[key], rows[key])} class outputs, the config {_count(own[key], rows[key])}"


def _keep(theirs: Tensor, own: Tensor, rows: ClassRows, pairs: Mapping[int, int]) -> Tensor:
    """A copy of `own` with the rows of the classes that agree from `theirs`, and with its background."""
    kept = own.detach().to("cpu", copy=True)
    to, source = (x.view(rows.before, -1, rows.after, *x.shape[1:]) for x in (kept, theirs.contiguous()))
    to[:, list(pairs)] = source[:, list(pairs.values())].to(kept.dtype)
    if rows.background:
        to[:, -1] = source[:, -1].to(kept.dtype)
    return kept


def _say_classes(file: WeightFile, names: Sequence[str], classes: Sequence[str], pairs: Mapping[int, int]) -> None:
    if not pairs:
        numbers = f"has {len(names)} class outputs, the config {len(classes)}"
        what = numbers if len(names) != len(classes) else f"was trained on other classes ({listed(names)})"
        log.warning("%s %s: its classifier is dropped and starts anew", file.path, what)
        return
    kept = [classes[i] for i in pairs]
    gone = [name for i, name in enumerate(names) if i not in pairs.values()]
    new = [name for i, name in enumerate(classes) if i not in pairs]
    log.warning(
        "%s was trained on other classes: its outputs for %s are kept%s%s",
        file.path,
        listed(kept),
        f", those for {listed(gone)} dropped" if gone else "",
        f"; {listed(new)} start anew" if new else "",
    )
