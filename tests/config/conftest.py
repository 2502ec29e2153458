"""Where the tests of configs run."""

import pytest


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path_factory):
    """In a folder of its own: messages shorten names below the current folder, which may hold the temporary files."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
