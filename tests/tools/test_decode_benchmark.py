"""The benchmark of decoding: both paths give the same size, and a ratio is printed."""

import re

import torch


def test_both_paths_give_pictures_of_one_size_and_alike(load_benchmark, tmp_path):
    decode = load_benchmark("decode")
    path = next(decode.draw(tmp_path, 1).iterdir())
    ours, theirs = decode.ours(96, 120)(path), decode.theirs(96, 120)(path)
    assert ours.shape == theirs.shape == (3, 90, 120)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    back = (theirs * std[:, None, None] + mean[:, None, None]) * 255
    assert (back - ours).abs().mean() < 3


def test_a_ratio_is_printed(load_benchmark, capsys):
    load_benchmark("decode").main(["--pictures", "2", "--size", "60", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ours", "torchvision", "ratio"]
    assert re.match(r"ratio +\d+\.\d\d  \(\d+\.\d\d to \d+\.\d\d\)$", lines[2])
