"""The picture of a confusion matrix."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detector.analysis.charts import new_figure, plain, save_figure
from detector.text import printable

_LETTERS = 24  # of a name, beyond which it is cut


def save_confusion_chart(
    path: Path, title: str, rows: Sequence[str], columns: Sequence[str], shares: np.ndarray, counts: np.ndarray
) -> None:
    """Shares [rows, columns] in 0..1 as colours and as numbers, nan and counts of 0 left empty.

    rows: classes of the objects, columns: what was detected, the background last in both, which is set apart.
    counts [rows, columns]: written below the shares where there is room. Errors as `charts.save_layer_chart`.
    """
    number = max(len(rows), len(columns))
    cell = 0.8 if number <= 8 else 0.55
    names = [*map(_short, rows)], [*map(_short, columns)]
    side = 0.085 * max(map(len, (*names[0], *names[1])))
    width, height = cell * len(columns) + side + 2.0, cell * len(rows) + side + 1.1
    figure = new_figure(max(width, 5.0, 0.1 * max(map(len, title.splitlines()))), max(height, 3.6), "constrained")
    axes = figure.subplots()
    shown = axes.imshow(np.nan_to_num(shares), cmap="Blues", vmin=0, vmax=1, aspect="equal")
    for i, j in zip(*np.nonzero(counts), strict=True):
        text = f"{shares[i, j]:.2f}".replace("0.", ".", 1) if number > 8 else f"{shares[i, j]:.2f}\n{counts[i, j]}"
        color = "white" if shares[i, j] > 0.6 else "black"
        axes.text(j, i, text, ha="center", va="center", color=color, fontsize="small" if number <= 8 else "medium")
    axes.set_xticks(range(len(columns)), [plain(name) for name in names[1]], rotation=90)
    axes.set_yticks(range(len(rows)), [plain(name) for name in names[0]])
    axes.axhline(len(rows) - 1.5, color="black", linewidth=1)
    axes.axvline(len(columns) - 1.5, color="black", linewidth=1)
    axes.set_xlabel("detected")
    axes.set_ylabel("truth")
    figure.colorbar(shown, ax=axes, label="share of the objects of a class;\nlast row: share of its detections")
    figure.suptitle(plain(printable(title, keep="\n")))
    save_figure(figure, path)


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= _LETTERS else f"{shown[: _LETTERS - 2]}.."
