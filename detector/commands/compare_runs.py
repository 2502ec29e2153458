"""`detector compare --runs`: runs that exist, grouped by their settings."""

import argparse
from pathlib import Path

from detector.commands.base import show
from detector.errors import UserError
from detector.files import write_atomic, write_json
from detector.plugins import load_plugins


def begin_runs(args: argparse.Namespace) -> None:
    """Load plugins, read the runs, compare, print and write."""
    load_plugins(args.imports)
    from detector.report.results import markdown
    from detector.report.runs import read_speed, runs_document

    folder = Path(args.output)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder} is a file; name a folder")
    document = runs_document(None, args.runs, args.replicates or 1000, read_speed(args.runs))
    page = markdown(document)
    show(page)
    write_json(folder / "report.json", document)
    write_atomic(folder / "report.md", page.encode())
    show(f"written to {folder}: report.md, report.json")
