"""What the tests of tools share."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def load_benchmark():
    """Loads a file of tools/benchmark by its name."""

    def load(name):
        path = Path(__file__).resolve().parents[2] / "tools" / "benchmark" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
