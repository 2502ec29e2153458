"""The benchmark of evaluators compares equal numbers."""

import re


def test_both_give_the_same_numbers_and_have_a_cost(load_benchmark, capsys):
    load_benchmark("evaluate").main(["--images", "30", "--detections", "900", "--rounds", "1"])
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == "30 images, 900 detections; 92 numbers are equal"
    assert [line.split()[0] for line in rest] == ["pycocotools", "ours"]
    assert all(re.search(r"\d+\.\d\d s processor +\d+\.\d\d MiB more   \d\.\d{3}, \d\.\d{3}$", line) for line in rest)
