"""What tests of several folders share; tests/conftest.py makes it importable."""

import os
from pathlib import Path

import detector

ROOT = Path(detector.__file__).resolve().parents[1]
"""The repository, wherever these tests lie."""

SHARED = Path(os.environ.get("DETECTOR_SHARED", ROOT.parent / "shared"))
"""The reference data, which may be absent."""


def environment(*folders):
    """The variables of a process that imports the package, and what lies in further folders."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *folders)))}
