"""The benchmark of the bootstrap measures what it says."""

import re

from helpers import ROOT


def test_it_ends_with_equal_numbers_and_a_cost(load_benchmark, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools/benchmark"))  # for its neighbour
    load_benchmark("bootstrap").main(["--images", "30", "--detections", "900", "--replicates", "20"])
    first, costs, difference = capsys.readouterr().out.splitlines()
    assert first == "2 models, 30 images, 900 detections each, 20 replicates"
    assert re.fullmatch(
        r"\d+\.\d s to read and match  \d+\.\d s of bootstrap  \d+\.\d s of processor for both  \d+\.\d MiB at most",
        costs,
    )
    assert re.fullmatch(r"difference of AP [+-]\d\.\d{4} \+- 0\.\d{4}", difference)
    assert not difference.endswith("0.0000")
