"""Where what a command writes goes: `-` is standard output for one text, and refused for anything else."""

import argparse
import ast
from pathlib import Path

import pytest
from helpers import ROOT

from detector.__main__ import main
from detector.commands.output import folder, place, text_place, write_text


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_flag_of_a_place_to_write_to_has_one_of_the_types():
    types = {}
    for path in (ROOT / "detector" / "commands").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                if node.args[0].value == "--output" or (path.name, node.args[0].value) in (
                    ("check.py", "--fix"),
                    ("classify.py", "--json"),
                ):
                    (kind,) = [word.value.id for word in node.keywords if word.arg == "type"]
                    types[f"{path.stem} {node.args[0].value}"] = kind
    assert len(types) > 9
    assert {name for name, kind in types.items() if kind == "text_place"} == {
        "card --output",
        "classify --json",
        "info --output",
    }
    assert {*types.values()} == {"text_place", "place", "folder"}


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "run", "photos", "--output"],
        ["export", "run", "--output"],
        ["convert", "--from", "fcos", "--input", "a.pth", "--output"],
        ["compare", "--runs", "a", "--output"],
        ["pretrain", "--backbone", "resnet18", "--data", "a", "--output"],
        ["analyze", "errors", "run", "--output"],
        ["analyze", "correlation", "resnet18", "--output"],
        ["analyze", "curves", "run", "--output"],
        ["check", "voc:a:b", "--fix"],
        ["convert-data", "voc:a:b", "coco"],
    ],
)
def test_a_folder_is_not_standard_output(words, here, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*words, "-"])
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert "- is standard output, which takes a text and nothing else: write another path" in said.err
    assert not said.out
    assert not [*here.iterdir()]


def test_a_card_goes_to_standard_output_alone(here, capsys, monkeypatch):
    monkeypatch.setattr("detector.report.card.card", lambda *_: "# dämmrig\n")
    (here / "birds").mkdir()
    main(["card", "birds", "--output", "-"])
    assert capsys.readouterr().out == "# dämmrig\n"
    assert not [*here.rglob("*.*"), *here.glob("-")]
    main(["card", "birds"])
    assert capsys.readouterr().out == "written to birds/README.md\n"
    assert (here / "birds" / "README.md").read_text(encoding="utf-8") == "# dämmrig\n"


def test_a_table_is_not_printed_twice(here, capsys):
    main(["info", "resnet10", "--format", "csv", "--output", "-"])
    assert capsys.readouterr().out.count("resnet10") == 1
    assert not [*here.iterdir()]


def test_numbers_of_a_classifier_are_printed_alone(capsys, here, monkeypatch):
    monkeypatch.setattr("detector.tasks.accuracy.measure_accuracy", lambda **args: {"top1": 1.0, "data": args["data"]})
    main(["classify", "--backbone", "resnet10", "--data", "photos", "--json", "-"])
    assert capsys.readouterr().out == '{\n  "top1": 1.0,\n  "data": "photos"\n}\n'
    assert not [*here.iterdir()]


def test_a_file_of_this_name_has_a_folder_in_front(here):
    assert (text_place("./-"), place("./-"), folder("./-")) == ("./-", "./-", Path("-"))
    write_text("./-", "words\n")
    assert (here / "-").read_text() == "words\n"
    for kind in (place, folder):
        with pytest.raises(argparse.ArgumentTypeError):
            kind("-")
