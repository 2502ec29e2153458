"""Where the reference data lies, and tiny models that every test can afford."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of a process, also of those that tests start: several run side by side

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for the package of helpers
pytest.register_assert_rewrite("helpers")

from helpers.golden import reference  # noqa: E402 - its folder and its assertions come first
from helpers.planted import Sets  # noqa: E402


@pytest.fixture(scope="session")
def golden_heads() -> Path:
    return reference("golden/heads")


@pytest.fixture(scope="session")
def coco_tiny() -> Path:
    return reference("data/coco_tiny")


@pytest.fixture(scope="session")
def bccd() -> Path:
    return reference("data/bccd")


@pytest.fixture
def sets(tmp_path: Path) -> Sets:
    """Two data sets without any defect, to plant one."""
    return Sets(tmp_path)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is kept of pictures and downloads, also by processes that tests start, stays out of the user's folder."""
    os.environ["DETECTOR_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """The logger untouched, also by a command that a fixture of a module ran before: caplog needs it to propagate."""
    _reset_log()
    yield
    _reset_log()


def _reset_log() -> None:
    log = logging.getLogger("detector")
    log.handlers.clear()
    log.propagate = True
    log.setLevel(logging.NOTSET)  # not the attribute: which levels are enabled is remembered


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose tensors were read, in order."""
    load, names = torch.load, list[str]()

    def noted(file, **options):
        if not options.get("mmap"):
            names.append(Path(file if isinstance(file, (str, Path)) else file.name).name)
        return load(file, **options)

    monkeypatch.setattr(torch, "load", noted)
    return names
