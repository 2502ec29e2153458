"""`detector compare` of what exists: runs, grouped by their settings, or results files."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from detector.commands.base import show
from detector.commands.studies.networks import table
from detector.errors import UserError
from detector.plugins import load_plugins


def begin_runs(args: argparse.Namespace) -> None:
    """Load plugins, read the runs, compare, print and write."""
    load_plugins(args.imports)
    folder = new_folder(args.output)
    from detector.report.runs import runs_document

    deliver(runs_document(None, args.runs, args.replicates or 1000), folder)


def begin_results(args: argparse.Namespace) -> None:
    """Load plugins, read the files, compare, print and write."""
    load_plugins(args.imports)
    folder = new_folder(args.output)
    from detector.report.results import results_document
    from detector.tasks.examined import load_truth

    truth = load_truth(args.truth, args.root)
    deliver(results_document(args.results, truth, args.replicates or 10_000), folder)


def new_folder(output: str) -> Path:
    """The folder of --output, which need not be there. Raises ValueError where a file is."""
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder} is a file; name a folder")
    return folder


def deliver(document: Mapping[str, Any], folder: Path) -> None:
    """Write the report, print its answer and a table, and say where the whole of it is."""
    from detector.report.terminal import closing, opening, rows
    from detector.report.write import write_report

    written = write_report(document, folder)
    plain = msgspec.json.decode((folder / "report.json").read_bytes())  # as the pages have it
    show(f"{opening(plain)}\n\n{table(rows(plain))}\n\n{closing(plain)}\n\n")
    page, text = folder / "report.html", folder / "report.md"
    show(f"every measure, class and setting, and how to read them: {page}, or as text {text}")
    show(f"written to {folder}: {', '.join(path.name for path in written)}")
