"""What a model's card says of its costs: parameters, the file, time of an image, memory; what is recorded of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detector.report.origin import times_of
from detector.report.shown import COSTS, fact
from detector.text import counted, printable

WHOLE = 1.2
"""By how much a file may be larger than its weights and hold, as far as a reader cares, nothing else."""

_TEXT = {cost.key: cost.text for cost in COSTS}


def cost_rows(
    home: Path, said: Mapping[str, Any], document: Mapping[str, Any], model: Mapping[str, Any], batch: int
) -> list[tuple[str, str]]:
    """What costs what, as rows of two texts; what is neither recorded nor counted in a moment is left out.

    home: of the run; said: what metrics.json says of the test; document, model: of `runs_document`; batch: images of a
    training step.
    """
    params, macs, memory = (fact(model, key) for key in ("params", "macs", "memory_mb"))
    rows = []
    if params:
        rows.append(("parameters", f"{params:,.0f}"))
    if macs:
        rows.append(("multiply-adds of an image of the largest test size", f"{macs / 1e9:.3g} billion"))
    rows += [row for row in (_file(home, said, params), _time(home, said, model)) if row]
    if memory:
        where = document["device"] or "a device that is not recorded"
        kind = "of the tensors" if where.startswith("cuda") else "of the whole process"
        rows.append(
            (
                "memory of the training",
                f"{_TEXT['memory_mb'](memory)} at most, {kind}; {counted(batch, 'image|images')} a step on "
                f"{printable(where)}",
            )
        )
    return rows


def _file(home: Path, said: Mapping[str, Any], params: float | None) -> tuple[str, str] | None:
    """The size of the weights' file, and of what in it is no optimiser's, where it is still there."""
    weight = str(said.get("weight") or "")
    found = next((path for path in (home / Path(weight).name, Path(weight)) if weight and path.is_file()), None)
    if found is None:
        return None
    size, bare = found.stat().st_size, 4 * (params or 0)  # float32
    rest = f", of which {bare / 1e6:.1f} MB are weights, the rest a training's state" if 0 < WHOLE * bare < size else ""
    return f"file `{printable(found.name)}`", f"{size / 1e6:.1f} MB{rest}"


def _time(home: Path, said: Mapping[str, Any], model: Mapping[str, Any]) -> tuple[str, str] | None:
    """Of an image: as it was measured in turns with others of a comparison, else as the test's whole time says."""
    if image := fact(model, "image_s"):
        devices = times_of({"": [home]}, None).devices
        where = f" on {printable(', '.join(devices))}" * bool(devices)
        return "time of an image", f"{_TEXT['image_s'](image)}{where}, without reading the picture"
    seconds, images = said.get("seconds"), said["data"].get("images")
    if not isinstance(seconds, int | float) or not seconds > 0 or not isinstance(images, int) or images < 1:
        return None
    where = printable(str(said.get("device") or "a device that is not recorded"))
    if where.startswith("cpu") and isinstance(threads := said.get("threads"), int):
        where += f", {threads} thread{'s' * (threads != 1)}"
    if isinstance(number := said.get("processes"), int) and number > 1:
        where += f", {number} processes"
    if (precision := said["config"].get("TEST.AMP", "off")) != "off":
        where += f", {printable(str(precision))}"
    return "time of an image", f"{_TEXT['image_s'](seconds / images)} on {where}: the whole test, with reading pictures"
