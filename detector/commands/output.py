"""Where what a command writes goes: one text may go to standard output, which is called -, and nothing else may."""

import argparse
import sys
from pathlib import Path

from detector.commands.base import expanded, show
from detector.files import user_path, write_atomic

STANDARD = "-"
"""Standard output, where one text is written; ./- is a file of this name."""

REFUSED = f"{STANDARD} is standard output, which takes a text and nothing else: write another path"


def place(text: str) -> str:
    """The type of a flag that names a folder, or a file that is no text."""
    if text == STANDARD:
        raise argparse.ArgumentTypeError(REFUSED)
    return expanded(text)


def folder(text: str) -> Path:
    """The same, as a path."""
    return Path(place(text))


def text_place(text: str) -> str:
    """The type of a flag that names a file of one text, which `write_text` writes."""
    return expanded(text)


def write_text(output: str, text: str) -> None:
    """Write a text in UTF-8, to a file or to standard output. Raises OSError for a file that cannot be written."""
    if output != STANDARD:
        write_atomic(user_path(output), text.encode())
        return
    if hasattr(sys.stdout, "reconfigure"):  # it may go into a file, which is read as UTF-8 everywhere
        sys.stdout.reconfigure(encoding="utf-8")
    show(text)
