"""The service in docs/predict.md answers with what the predictor finds; and the three lines above it run."""

import io
import re
import sys
from types import ModuleType

import numpy as np
import pytest
from helpers import ROOT
from PIL import Image

import detector


def examples(word):
    """The Python blocks of the page that hold a word."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "predict.md").read_text(encoding="utf-8"), re.DOTALL)
    return [block for block in blocks if word in block]


def test_the_three_lines_run(predictor, write_greys, tmp_path, monkeypatch):
    write_greys("a.png", "b.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(detector, "load", lambda run: predictor)
    (code,) = examples("result.save")
    exec(code.replace("0.4", "0.05"), {})
    assert sorted(path.name for path in (tmp_path / "seen").iterdir()) == ["a.png", "b.png"]


def test_the_service_answers(predictor, monkeypatch):
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from fastapi.testclient import TestClient

    (code,) = examples("FastAPI()")
    lines = [line for line in code.splitlines() if line and not line.startswith("#")]
    assert len(lines) <= 12
    monkeypatch.setattr(detector, "load", lambda run: predictor)
    monkeypatch.setitem(sys.modules, "service", service := ModuleType("service"))
    exec(code, service.__dict__)
    encoded = io.BytesIO()
    Image.fromarray(np.full((30, 40, 3), 200, np.uint8)).save(encoded, "PNG")
    client = TestClient(service.app)
    answer = client.post("/detect", content=encoded.getvalue(), headers={"Content-Type": "image/png"})
    assert answer.status_code == 200
    assert answer.json() == next(predictor(np.full((30, 40, 3), 200, np.uint8))).to_dict()
    again = client.post("/detect?threshold=0.9", content=encoded.getvalue(), headers={"Content-Type": "image/png"})
    assert again.json()["detections"] == []
