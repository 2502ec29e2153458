"""What the tests of tools share."""

import importlib.util

import pytest
from helpers import ROOT


@pytest.fixture(scope="session")
def load_benchmark():
    """Loads a file of tools/benchmark by its name."""

    def load(name):
        path = ROOT / "tools" / "benchmark" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
