"""The benchmark of memory: prediction beside measurement."""

import pytest


@pytest.fixture(scope="module")
def memory(load_benchmark):
    return load_benchmark("memory")


def test_a_cell_measures_what_was_predicted(memory):
    row = memory.measured("fcos", "resnet10", (128, 160), 4, "cpu", "off", 0, (1, 2), 2)
    assert abs(row["error"]) < 0.1
    assert 0 < row["standing"] < row["measured"] < row["process"] * 2**20


def test_rows_and_shares_are_printed(memory, monkeypatch, capsys):
    pairs = [(100, 110, 50), *[(100, 100, 50)] * 9, (100, 80, 50), (100, 100, 50)]
    rows = iter([*pairs, (100, 100, 50), (80, 85, 60), (70, 70, 50)])
    asked = []

    def cell(head, *given, **named):
        asked.append((head, named))
        predicted, measured, standing = (number * 2**20 for number in next(rows))
        error = predicted / measured - 1
        return {"predicted": predicted, "measured": measured, "standing": standing, "error": error, "process": 500.0}

    monkeypatch.setattr(memory, "cell", cell)
    memory.main(["--smoke", "--device", "cpu"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["fcos", "resnet10", "2", "-", "100.0", "110.0", "-9.1%", "500"]
    assert lines[5].split()[:4] == ["fcos", "resnet10", "0", "1,2,3,4"]
    assert [named["stages"] for head, named in asked[:12] if head == "refinedet" and named["at"] == 0] == [
        (1,),
        (1, 2),
        (1, 2, 3, 4),
    ]
    assert "largest error 25.0%" in lines
    assert [line.split("MiB")[1].split()[0] for line in lines[-3:]] == ["1.000", "0.500", "0.400"]


@pytest.mark.slow
def test_every_cell_is_a_process_of_its_own(memory, capsys):
    memory.main(["--smoke", "--device", "cpu", "--heads", "fcos"])
    assert "largest error" in capsys.readouterr().out
