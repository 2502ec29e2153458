"""The package as it is installed: a command and the configs, from any folder."""

import json
import os
import shutil
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers import ROOT

import detector

SHORT = [
    *("MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "4", "SOLVER.IMS_PER_BATCH", "2"),
    *("DATALOADER.NUM_WORKERS", "0", "INPUT.MIN_SIZE_TRAIN", "64", "INPUT.MIN_SIZE_TEST", "64"),
]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """Runs a program of a fresh environment, which has the package and sees the dependencies, in an empty folder."""
    if not (find_spec("pip") and find_spec("setuptools")):  # importing both makes them disagree about distutils
        pytest.skip("there is nothing to install with")
    home = tmp_path_factory.mktemp("install")
    source = home / "source"  # a build leaves folders beside setup.py
    for name in ("detector", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    venv.create(home / "venv")  # without pip, with which an old setuptools would come
    scripts = home / "venv" / ("Scripts" if os.name == "nt" else "bin")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DETECTOR_DATASETS")}
    (home / "empty").mkdir()

    def call(program, *args, cwd=home / "empty"):
        run = subprocess.run(
            [scripts / program, *map(str, args)], cwd=cwd, env=environment, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
        return run.stdout

    folder = Path(call("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (folder / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    flags = ["--no-deps", "--no-build-isolation", "--ignore-installed", "--no-index"]
    call("python", "-m", "pip", "install", *flags, ".", cwd=source)
    shutil.rmtree(source)
    return call


def test_the_package_brings_its_configs_and_its_version(call):
    shipped = sorted(
        path.relative_to(ROOT / "configs").with_suffix("").as_posix() for path in ROOT.glob("configs/**/*.yaml")
    )
    assert call("detector", "configs").split() == shipped
    assert call("detector", "--version") == f"detector {detector.__version__}\n"
    code = "import detector, importlib.metadata as m; print(detector.__file__, m.version('residet'))"
    file, version = call("python", "-c", code).split()
    assert version == detector.__version__
    assert "site-packages" in file
    assert (Path(file).parent / "py.typed").is_file()
    assert {path.suffix for path in (Path(file).parent / "report").glob("page.*")} == {".py", ".css", ".js"}


def test_a_shipped_config_trains_tests_and_predicts_from_an_empty_folder(call):
    call("detector", "train", "--config-file", "quickstart", *SHORT)
    folder = Path(call("python", "-c", "import os; print(os.getcwd())").strip())
    assert {path.name for path in folder.iterdir()} == {"datasets", "output"}
    call("python", "-m", "detector", "test", "output/quickstart", "--which", "newest")
    assert "AP" in json.loads((folder / "output/quickstart/metrics.json").read_text())
    call("detector", "predict", "output/quickstart", "datasets/shapes/val", "--output", "pictures")
    pictures = {path.stem for path in (folder / "datasets/shapes/val").glob("*.jpg")}
    assert {path.stem for path in (folder / "pictures").glob("*.jpg")} == pictures
    assert len(json.loads((folder / "pictures" / "detections.json").read_text())) == len(pictures) > 0
