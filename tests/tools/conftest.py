"""What the tests of tools share."""

import importlib.util
import sys

import pytest
from helpers import ROOT


@pytest.fixture(scope="session")
def load_benchmark():
    """Loads a file of tools/benchmark by its name."""

    folder = ROOT / "tools" / "benchmark"
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))  # files there import their neighbours

    def load(name):
        path = folder / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
