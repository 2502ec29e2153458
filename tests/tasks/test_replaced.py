"""What lies beside an exported file when another one takes its place."""

import json
import logging
from types import SimpleNamespace

import msgspec
import pytest

from detector.errors import UserError
from detector.inference.export.facts import Int8, second_path
from detector.inference.export.write import file_digest
from detector.tasks import replaced
from detector.tasks.int8 import beside
from detector.tasks.replaced import Replaced

SAID = Int8(pictures=3, layers=["head"], left_out=[], error=0.1, losses=[], seconds=0.5, bytes=0.3)


@pytest.fixture
def export(tmp_path, monkeypatch):
    """export(form): a file with a second stage and a measurement of int8, which belong to it; and what it says."""

    def write(form="onnx"):
        path = tmp_path / f"a.{form}"
        for one in (path, second_path(path)):
            one.write_bytes(one.name.encode())
            if form == "xml":
                one.with_suffix(".bin").write_bytes(b"weights")
        beside(path).write_text(json.dumps(msgspec.to_builtins(SAID)))
        facts = SimpleNamespace(second=SimpleNamespace(digest=file_digest(second_path(path))), int8=SAID)
        monkeypatch.setattr(replaced, "facts_of_file", lambda path: facts)
        return path

    return write


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("form", ["onnx", "xml", "pt2"])
def test_what_belonged_to_a_file_goes_with_it(export, form, tmp_path, caplog):
    path = export(form)
    caplog.set_level(logging.INFO, "detector")
    Replaced(path).clear(second=False, measured=False)
    assert names(tmp_path) == (["a.bin", "a.xml"] if form == "xml" else [f"a.{form}"])
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]
    assert f"{second_path(path)}, which belonged to the file that was there, is deleted" in caplog.messages


def test_what_was_written_anew_stays(export, tmp_path, caplog):
    path = export()
    Replaced(path).clear(second=True, measured=True)
    assert names(tmp_path) == ["a.onnx", "a.onnx.int8.json", "a.roi_heads.onnx"]
    Replaced(path).clear(second=True, measured=False)
    assert names(tmp_path) == ["a.onnx", "a.roi_heads.onnx"]
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_what_is_of_neither_is_named_and_stays(export, tmp_path, caplog, monkeypatch):
    path = export()
    second_path(path).write_bytes(b"of another export")
    beside(path).write_text("{}")
    before = Replaced(path)
    before.clear(second=False, measured=False)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert f"{second_path(path)} does not belong to a.onnx: delete it if nothing needs it" in caplog.messages
    path.write_bytes(b"no file of ours")

    def refuse(path):
        raise UserError("it is none")

    monkeypatch.setattr(replaced, "facts_of_file", refuse)
    Replaced(path).clear(second=False, measured=False)
    path.unlink()
    Replaced(path).clear(second=False, measured=False)
    assert len(caplog.records) == 6
    assert names(tmp_path) == ["a.onnx.int8.json", "a.roi_heads.onnx"]


def test_a_file_with_nothing_beside_is_not_opened(tmp_path, monkeypatch):
    (tmp_path / "a.onnx").write_bytes(b"a graph")
    monkeypatch.setattr(replaced, "facts_of_file", None)
    Replaced(tmp_path / "a.onnx").clear(second=False, measured=False)
    assert names(tmp_path) == ["a.onnx"]
