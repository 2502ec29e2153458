"""The benchmark of the predictor: it prints both speeds, memory and cores."""

import logging
import re


def test_speeds_memory_and_cores_are_printed(load_benchmark, capsys):
    load_benchmark("predictor").main(["--smoke", "--turns", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert re.search(r"turn 1: predictor \d+\.\d images/s, plain loop \d+\.\d: its time is \d+\.\d\d of", lines[1])
    assert re.search(r"; the network alone \d+\.\d, of which the predictor has \d+%$", lines[1])
    assert re.fullmatch(r"40 images; MiB resident after each tenth:( \d+){10}", lines[2])
    assert re.match(r"from the first tenth to the last [+-]\d+\.\d MiB; peak \d+ MiB", lines[3])
    assert re.match(r"\d+\.\d images/s, \d\.\d\d cores busy", lines[4])
    assert logging.getLogger("detector").manager.disable == 0  # the log is as it was
