"""`detector check` as a person calls it."""

import json
import re
import sys

import pytest
from helpers import ROOT
from helpers.fresh import fresh

from detector.commands import check
from detector.data.problems import KINDS, clause
from detector.tasks import doctor


def call(*words):
    """The status with which the command ends."""
    try:
        check.main([*map(str, words)])
    except SystemExit as stop:
        return stop.code
    return 0


def test_the_status_says_whether_there_are_errors(sets, capsys):
    assert call(*sets.write()) == 0
    assert capsys.readouterr().out.endswith("Nothing is wrong: no findings.\n")
    sets.box("train", [60, 70, 1, 5])
    assert call(*sets.write()) == 0
    assert capsys.readouterr().out.endswith("Can be trained on; look at the warnings first: 1 warning.\n")
    sets.box("train", [60, 70, 0, 5])  # which a training leaves out
    assert call(*sets.write()) == 0
    assert capsys.readouterr().out.endswith("Can be trained on; look at the warnings first: 2 warnings.\n")
    sets.picture("train").unlink()
    assert call(*sets.write()) == 1
    assert capsys.readouterr().out.endswith("Mend the errors before a training: 1 error, 2 warnings.\n")
    (sets.folder / "train.json").write_text("{")
    assert call(sets.entries[0]) == 1


def test_json_is_one_document_and_nothing_else(sets, capsys):
    sets.content["train"]["images"][0]["file_name"] = "\x1b\udce9ü.jpg"
    text = json.dumps(sets.content["train"]).encode("utf-8", "surrogatepass")
    sets.content["train"] = text.decode()
    assert call("--json", *sets.write()) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert out.isascii()
    assert json.loads(out)["version"] == 2
    (sets.folder / "empty").mkdir()
    assert call(sets.folder / "empty", "--json") == 1
    assert json.loads(capsys.readouterr().out)["findings"][0]["record"] == str(sets.folder / "empty")
    assert call(sets.folder, "--json") == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "error"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name data sets, or give --config-file FILE"),
        (["a:b.json", "INPUT.MIN_SIZE_TEST", "96"], "INPUT.MIN_SIZE_TEST is for a config: give --config-file FILE"),
        (["--config-file", "quickstart", "SEED"], "'SEED' has no value"),
        (["a:b.json", "--pictures", "some"], "invalid choice"),
    ],
)
def test_wrong_use(words, said, capsys):
    assert call(*words) == 2
    assert said in capsys.readouterr().err


def test_words_are_entries_up_to_the_first_key(sets, monkeypatch):
    seen = []
    monkeypatch.setattr(doctor, "examine", lambda *args: seen.append(args) or doctor.Diagnosis([], []))
    monkeypatch.setattr("detector.tasks.doctor_text.text", lambda *_: "")
    words = ["--config-file", "quickstart", "shapes_val", "A:b.json", "DATASETS.ROOT", "elsewhere", "SEED", "3"]
    assert call(*words, "--pictures", "headers") == 0
    ((entries, root, pictures, cfg),) = seen
    assert (entries, root, pictures) == (["shapes_val", "A:b.json"], "elsewhere", "headers")
    assert cfg.SEED == 3
    assert call("shapes_val", "--root", "data") == 0
    assert str(seen[1][1]) == "data"
    assert seen[1][3] is None


def test_mistakes_of_flags_are_one_line_before_the_work(sets, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda *_: pytest.fail("it should not begin"))
    assert "it is there already" in call(sets.entries[0], "--fix", sets.folder)
    assert "ends in .png" in call(sets.entries[0], "--charts", "a.pdf")


def test_charts_without_matplotlib_are_refused_before_the_work(sets, monkeypatch):
    for module in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(doctor, "examine", lambda *_: pytest.fail("it should not begin"))
    told = call(sets.entries[0], "--charts", "a.png")
    assert told.startswith("error: --charts: ")
    assert told.endswith('pip install "residet[plots]"')


def test_charts_are_a_picture(sets, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert call(*sets.write(), "--charts", tmp_path / "out" / "page.png") == 0
    assert capsys.readouterr().out.endswith(f"\nThe charts are in {tmp_path / 'out' / 'page.png'}.\n")
    assert (tmp_path / "out" / "page.png").read_bytes().startswith(b"\x89PNG")


def test_no_torch_is_loaded_without_a_config(sets):
    code = (
        f"from detector.commands import check; check.main({sets.write()!r}); import sys; print('torch' in sys.modules)"
    )
    told = fresh("-c", code, torch=False)
    assert told.stdout.splitlines()[-1] == "False", told.stderr


def test_what_a_kind_is_agrees_with_its_number():
    assert clause("voc-measured", 1) == "picture has no size in its annotation file and was measured"
    assert clause("voc-measured", 2) == KINDS["voc-measured"].what
    assert not [kind for kind in KINDS.values() if "|" in kind.what]


def test_every_kind_is_in_the_table():
    """Of a process of its own, as tests declare kinds too."""
    told = fresh("-m", "detector", "check", "--kinds")
    assert told.returncode == 0, told.stderr
    rows = {line.split("`")[1] for line in told.stdout.splitlines() if line.startswith("| `")}
    files = [path.read_text() for path in (ROOT / "detector").rglob("*.py")]
    declared = {id_ for text in files for id_ in re.findall(r'= declare\(\s*"([a-z-]+)"', text)}
    assert len(declared) > 100
    assert rows == declared
    assert "| `flat-box` | warning | boxes have a width or height of zero or less |" in told.stdout
