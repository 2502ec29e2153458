"""docs/first_steps.ipynb runs from top to bottom."""

import pytest
from helpers import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")


@pytest.mark.slow
def test_every_cell_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path / "cache"))
    notebook = nbformat.read(ROOT / "docs/first_steps.ipynb", as_version=4)
    assert not [cell for cell in notebook.cells if cell.cell_type == "code" and cell.outputs]  # they would grow old
    (training,) = [cell for cell in notebook.cells if '"SOLVER.MAX_ITER": 60,' in cell.source]
    training.source = training.source.replace('"SOLVER.MAX_ITER": 60,', '"SOLVER.MAX_ITER": 4,')
    nbclient.NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = {index: cell.outputs for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"}
    (shown,) = [out for outputs in said.values() for out in outputs if "image/png" in out.get("data", {})]
    assert len(shown["data"]["image/png"]) > 1000
    assert "'AP50'" in str(said)
    assert (tmp_path / "output/first_steps/model_final.pth").is_file()
