"""What tests of several folders share; tests/conftest.py makes it importable."""

import os
from pathlib import Path

import detector

ROOT = Path(detector.__file__).resolve().parents[1]
"""The repository, wherever these tests lie."""

SHARED = Path(os.environ.get("DETECTOR_SHARED", ROOT.parent / "shared"))
"""The reference data, which may be absent."""
