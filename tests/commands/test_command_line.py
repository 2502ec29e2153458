"""`detector` and its verbs as typed: what is listed, what helps, what is refused; and the doors in tools/."""

import inspect
import re
import subprocess
import sys

import pytest
from helpers import ROOT, environment
from helpers.fresh import fresh

import detector
from detector.__main__ import command, main
from detector.commands import VERBS, convert
from detector.commands.base import plain_parser, run
from detector.conversion import SOURCES
from detector.errors import MissingFileError, UnknownNameError, UserError

DOORS = {
    "train_net": "train", "test_net": "test", "predict": "predict", "convert_checkpoint": "convert",
    "model_info": "info", "analyze": "analyze", "train_classifier": "pretrain", "test_classifier": "classify",
}  # fmt: skip
HEAVY = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    {}
finally:
    print("imported", *{{"torch", "torchvision", "cv2"}} & {{*sys.modules}})
"""


def helped(how, *words):
    """What `--help` prints in a process of its own, whose last line names the heavy packages that it imported."""
    run = fresh("-c", HEAVY.format(how), *words, "--help", env={**environment(), "COLUMNS": "100"}, torch=False)
    assert run.returncode == 0, run.stderr[-3000:]
    text, _, imported = run.stdout.rpartition("imported")
    return text.rstrip("\n"), imported.strip()


def test_the_verbs_are_those_that_users_know():
    assert list(VERBS) == [
        *(
            "train",
            "check",
            "plan",
            "test",
            "predict",
            "export",
            "compare",
            "card",
            "convert",
            "convert-data",
            "info",
            "analyze",
            "pretrain",
        ),
        "classify",
        *("config", "configs", "backbones", "necks", "heads", "datasets"),
    ]


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_every_verb_has_a_line(argv, capsys):
    main(argv)
    listed = dict(re.findall(r"^  ([\w-]+) +(\S.*)$", capsys.readouterr().out, re.MULTILINE))
    assert [verb for verb in listed if verb in VERBS] == list(VERBS)
    for verb in VERBS:
        assert listed[verb].endswith(".")
        assert len(listed[verb]) > 30
    assert len({listed[verb] for verb in VERBS}) == len(VERBS)


def test_the_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"detector {detector.__version__}\n"
    assert re.fullmatch(r"\d+\.\d+\.\d+", detector.__version__)


@pytest.mark.parametrize(
    ("word", "near"), [("trian", "train"), ("tests", "test"), ("backbone", "backbones"), ("--resume", "none")]
)
def test_an_unknown_verb_names_near_ones(word, near):
    with pytest.raises(SystemExit) as stop:
        main([word, "--config-file", "x"])
    assert re.match(rf"error: unknown verb '{word}'; near: {near}\b", stop.value.code)
    assert "\n" not in stop.value.code


def test_the_words_behind_a_verb_are_its_own(monkeypatch):
    seen = []
    monkeypatch.setattr("detector.commands.train.main", seen.append)
    monkeypatch.setattr("detector.commands.lists.heads", seen.append)
    main(["train", "--config-file", "x", "KEY", "VALUE"])
    main(["heads"])
    monkeypatch.setattr(sys, "argv", ["detector", "train", "--help"])
    main()
    assert seen == [["--config-file", "x", "KEY", "VALUE"], [], ["--help"]]


STUDIES = ("errors", "pr", "confusion", "worst", "curves", "correlation", "channels")


@pytest.mark.parametrize("verb", [*VERBS, *(f"analyze {study}" for study in STUDIES)])
def test_help_needs_no_torch_and_ends_with_an_example(verb):
    text, imported = helped("runpy.run_module('detector', run_name='__main__')", "detector", *verb.split())
    assert imported == ""
    assert text.startswith(f"usage: detector {verb}")
    _, found, examples = text.partition("\n\nexample:\n")
    assert found
    assert all(line.startswith(f"  detector {verb}") for line in examples.splitlines())
    assert len(examples.splitlines()) in (1, 2) or verb == "analyze"  # which has one of each study


def test_the_doors_are_all_of_tools():
    assert {path.stem for path in (ROOT / "tools").glob("*.py")} == set(DOORS)


@pytest.mark.parametrize("door", DOORS)
def test_a_door_leads_to_its_verb(door):
    path = ROOT / "tools" / f"{door}.py"
    text, imported = helped("runpy.run_path(sys.argv[0], run_name='__main__')", str(path))
    assert imported == ""
    assert text.startswith(f"usage: detector {DOORS[door]} ")
    assert path.read_text().endswith('\n\nif __name__ == "__main__":\n    main()\n')


def test_a_door_is_a_script_of_its_own():
    run = subprocess.run(
        [sys.executable, "tools/test_net.py", "nowhere", "MODEL.DEVICE", "cpu"],
        cwd=ROOT, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("error: RUN nowhere: there is no such folder or checkpoint")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_called_alike(verb):
    signature = inspect.signature(command(verb)[0], eval_str=True)
    assert str(signature) == "(argv: collections.abc.Sequence[str] | None = None) -> None"


def test_the_sources_of_conversion_are_those_registered():
    assert tuple(sorted(SOURCES)) == convert.SOURCES


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("K: 1; write 2"), "--k: 1; write 2"),
        (MissingFileError("K: no file"), "--k: no file"),
        (UnknownNameError("unknown 'K'"), "unknown '--k'"),
        (PermissionError(13, "no", "K"), "--k: no"),
        (PermissionError(13, "no", b"K"), "--k: no"),
        (OSError(18, "no", "aside", None, "K"), "--k: no"),
    ],
)
def test_a_mistake_is_one_line_and_a_bug_keeps_its_traceback(error, said):
    def fail():
        raise error

    with pytest.raises(SystemExit) as ended:
        run(fail, {"K": "--k"})
    assert ended.value.code == f"error: {said}"
    for bug in (ValueError("K"), KeyError("K"), OSError("K"), ImportError("K"), TypeError("K")):
        error = bug
        with pytest.raises(type(bug)):
            run(fail)


@pytest.mark.parametrize(
    ("code", "set_before", "spins"),
    [
        ("import detector", {}, None),
        ("from detector.commands.base import run; run(list)", {}, "3000"),
        ("from detector.commands.base import run; run(list)", {"GOMP_SPINCOUNT": "7"}, "7"),
        ("from detector.commands.base import run; run(list)", {"OMP_WAIT_POLICY": "active"}, None),
        ("import torch; from detector.commands.base import run; run(list)", {}, None),
    ],
)
def test_a_command_lets_threads_sleep_while_they_wait(code, set_before, spins):
    ours = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    known = {key: value for key, value in environment().items() if key not in ours}
    code += "; import os; print(os.environ.get('GOMP_SPINCOUNT'))"
    told = fresh("-c", code, env=known | set_before, torch="torch" in code)
    assert told.returncode == 0, told.stderr
    assert told.stdout.strip() == str(spins)


def test_ctrl_c_of_a_command_that_trains_nothing_says_no_more_than_that(capsys):
    def action():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        run(action)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_help_names_no_default_of_none():
    parser = plain_parser("What it does.")
    parser.add_argument("--which", help="which; None: the newest")
    parser.add_argument("--number", default=3, help="how many")
    said = parser.format_help()
    assert "which; None: the newest\n" in said
    assert "how many (default: 3)" in said
