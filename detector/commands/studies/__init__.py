"""What `detector analyze` can do, one file for each kind of study; each has `add`, which declares its commands."""

import argparse
from typing import Protocol


class Adder(Protocol):
    """Declares a command, and returns its parser; `study` of its defaults is the function that its arguments go to."""

    def __call__(self, name: str, text: str, example: str) -> argparse.ArgumentParser:
        """text: what the command does, in one line; example: ends its help."""
