"""What tests of several folders share; tests/conftest.py makes it importable."""

from pathlib import Path

import detector

ROOT = Path(detector.__file__).resolve().parents[1]
"""The repository, wherever these tests lie."""
