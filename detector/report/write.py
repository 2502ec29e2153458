"""The files of a comparison: report.json, and the two pages that are drawn from it and nothing else."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from detector.errors import MissingPackageError
from detector.files import json_bytes, write_atomic
from detector.report.charts import Chart, draw
from detector.report.markdown import markdown
from detector.report.page import page

log = logging.getLogger("detector")


def write_report(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """report.json, report.md and report.html of a comparison, in a folder; returns their paths.

    Without matplotlib the page has no charts, and a log line says how to get them.
    """
    data = json_bytes(document)
    plain = msgspec.json.decode(data)  # as a reader of the file has it: nan is null, bytes that are no text are escaped
    files = {
        "report.json": msgspec.json.format(data, indent=2) + b"\n",
        "report.md": markdown(plain).encode(),
        "report.html": page(plain, _charts(plain)).encode(),
    }
    for name, content in files.items():
        write_atomic(folder / name, content)
    return [folder / name for name in files]


def _charts(document: Mapping[str, Any]) -> list[Chart]:
    try:
        return draw(document)
    except MissingPackageError as error:
        log.warning("report.html is without charts: %s", error)
        return []
