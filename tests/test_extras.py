"""What is missing is named with all that has to be written."""

import ast
import re
import sys

import pytest
from helpers import ROOT

from detector.errors import MissingPackageError
from detector.extras import EXTRAS, needed, to_install


def test_one_command_for_the_index_and_one_for_a_clone():
    both = 'in a clone pip install -e ".[export,int8]", else pip install "residet[export,int8]"'
    assert to_install("export", "int8") == both


def test_all_that_is_missing_is_named_at_once(monkeypatch):
    for package in ("openvino", "nncf"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError) as error:
        needed("openvino", "nncf")
    assert str(error.value) == (
        "the Python packages openvino, nncf are needed and cannot be imported (import of openvino halted; None in "
        f"sys.modules; import of nncf halted; None in sys.modules): {to_install('export', 'int8')}"
    )
    with pytest.raises(MissingPackageError, match=rf"the Python package nncf is .*{re.escape(to_install('int8'))}$"):
        needed("nncf")


def test_what_is_there_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", re)
    assert needed("nncf") is re


def test_the_extras_are_those_of_the_metadata():
    (call,) = [node for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())) if isinstance(node, ast.Call)
               and getattr(node.func, "id", "") == "setup"]  # fmt: skip
    (node,) = (word.value for word in call.keywords if word.arg == "extras_require")
    declared = eval(compile(ast.Expression(node), "setup.py", "eval"))
    assert all(package in {re.split("[<>=]", one)[0] for one in declared[extra]} for package, extra in EXTRAS.items())
