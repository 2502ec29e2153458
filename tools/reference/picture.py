"""Draw the picture of the README from the report.json of a comparison: AP against time, and the paired differences."""

import argparse
import json
import re
from html import escape
from pathlib import Path

from detector.files import write_atomic
from detector.report.charts import Chart, draw

COLOURS = (
    "--ink: #1b1d21; --soft: #5c6169; --rule: #e2e4e8; --k0: #0072B2; --k1: #D55E00; --k2: #009E73; --k3: #CC79A7; "
    "--k4: #56B4E9; --k5: #E69F00; --k6: #1b1d21"
)
GAP, TITLE, EDGE, INDENT = 24, 22, 14, 82


def main() -> None:
    """`REPORT.json OUTPUT.svg`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, help="report.json of detector compare")
    parser.add_argument("output", type=Path, help="FILE.svg")
    args = parser.parse_args()
    document = json.loads(args.report.read_text(encoding="utf-8"))
    charts = draw(document)
    chosen = [next(chart for chart in charts if chart.part == part) for part in ("speed", "differences")]
    write_atomic(args.output, join(chosen, list(document["models"])).encode())


def join(charts: list[Chart], models: list[str]) -> str:
    """Charts side by side under their titles, as a file of its own on white; below the last one the models' colours."""
    sizes = [size_of(chart.svg) for chart in charts]
    height = max(h for _, h in sizes) + TITLE + 2 * EDGE
    width = sum(w for w, _ in sizes) + GAP * (len(sizes) - 1) + 2 * EDGE
    parts, x = [], float(EDGE)
    for chart, (w, h) in zip(charts, sizes, strict=True):
        parts.append(f'<text x="{x}" y="{EDGE + 12}" font-size="12" font-weight="600">{chart.title}</text>')
        inner = re.sub(r"^<svg ", f'<svg x="{x}" y="{EDGE + TITLE}" width="{w}" height="{h}" ', chart.svg)
        parts.append(inner)
        x += w + GAP
    left, top = x - GAP - sizes[-1][0] + INDENT, EDGE + TITLE + sizes[-1][1] + 22
    for i, name in enumerate(models):
        y = top + 15 * i
        parts.append(f'<rect x="{left}" y="{y}" width="8" height="8" style="fill: var(--k{i % 7})"/>')
        parts.append(f'<text x="{left + 14}" y="{y + 8}" font-size="9">{escape(name)}</text>')
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" '
        f'color="#1b1d21" fill="#1b1d21" style="{COLOURS}">\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'
    )


def size_of(svg: str) -> tuple[float, float]:
    """Width and height of a chart, in its units."""
    match = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    if not match:
        raise ValueError("a chart without viewBox")
    return float(match[1]), float(match[2])


if __name__ == "__main__":
    main()
