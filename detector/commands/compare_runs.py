"""`detector compare --runs`: runs that exist, grouped by their settings."""

import argparse
from pathlib import Path

from detector.commands.base import show
from detector.errors import UserError
from detector.plugins import load_plugins


def begin_runs(args: argparse.Namespace) -> None:
    """Load plugins, read the runs, compare, print and write."""
    load_plugins(args.imports)
    from detector.report.runs import read_speed, runs_document
    from detector.report.write import write_report

    folder = Path(args.output)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder} is a file; name a folder")
    document = runs_document(None, args.runs, args.replicates or 1000, read_speed(args.runs))
    written = write_report(document, folder)
    show((folder / "report.md").read_text(encoding="utf-8"))
    show(f"written to {folder}: {', '.join(path.name for path in written)}")
