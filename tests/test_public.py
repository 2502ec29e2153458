"""The face of the package: public names at once, torch when it is needed."""

import ast
import importlib
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.fresh import fresh

import detector

PUBLIC = {"__version__", "build_detector", "evaluate", "list_backbones", "load_config", "train"}
PUBLIC |= {"Predictor", "Result", "load"}
NO_TORCH = (
    "import sys; {}; sys.exit(f'{{found}}' if (found := {{'torch', 'cv2', 'torchvision'}} & {{*sys.modules}}) else 0)"
)


def without_torch(code):
    """What a fresh process that runs `code` exits with: 0, or the heavy packages that it imported."""
    run = fresh("-c", NO_TORCH.format(code), env={"PYTHONPATH": str(ROOT)}, torch=False)
    return run.returncode, run.stderr


def test_importing_the_package_and_listing_its_names_takes_no_torch():
    assert without_torch("import detector; dir(detector); detector.__version__; detector.load_config") == (0, "")
    assert without_torch("import cv2") == (1, "{'cv2'}\n")


def test_the_public_names_are_shown_and_are_the_functions_themselves():
    assert set(detector.__all__) == PUBLIC <= set(dir(detector))
    for name, (module, attribute) in detector._HOMES.items():
        value = getattr(detector, name)
        assert value is getattr(importlib.import_module(module), attribute)
        assert (value.__module__.startswith("detector."), value.__name__) == (True, attribute)
    assert detector.list_backbones() == sorted(detector.list_backbones())
    assert "sreresnet50" in detector.list_backbones()


def test_names_can_be_imported_and_a_wrong_one_is_refused():
    from detector import build_detector, load_config

    assert build_detector(load_config(None, ["MODEL.BACKBONE.NAME", "resnet10"])).backbone.levels
    with pytest.raises(AttributeError, match="module 'detector' has no attribute 'buidl_detector'"):
        detector.buidl_detector  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'trian'"):
        from detector import trian  # noqa: F401


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(detector.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {alias.asname or alias.name: (one.module, alias.name) for one in block.body for alias in one.names}
    assert seen == detector._HOMES
