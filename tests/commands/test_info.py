"""The table of counts as a user calls for it: formats, footnotes, selections, errors."""

import csv
import io

import pytest
from helpers import ROOT, environment
from helpers.fresh import fresh

from detector.commands import info
from detector.models.backbones import BACKBONES

FCOS = str(ROOT / "configs/fcos/resnet50_1x.yaml")
PLUGIN = """
from torch import nn
from detector.models.backbones import Backbone, Weights, register_backbone
from detector.structures import Level

class Plain(Backbone):
    def __init__(self):
        super().__init__()
        self.c5 = nn.Conv2d(3, 10, 32, 32, bias=False)
        self.levels["c5"] = Level(10, 32)
    def parts(self):
        return [[], [], [], [], [self.c5]]
    def forward(self, images):
        return {"c5": self.c5(images)}

@register_backbone("plain", Weights(licence="non-commercial", top1=12.5))
def plain(norm):
    return Plain()
"""


@pytest.fixture
def printed(capsys):
    """Arguments of the tool -> what it prints."""

    def call(*args):
        info.main(list(map(str, args)))
        return capsys.readouterr().out

    return call


@pytest.fixture
def refused(capsys):
    """Arguments of the tool -> status and message of its refusal."""

    def call(*args):
        with pytest.raises(SystemExit) as stop:
            info.main(list(map(str, args)))
        err = capsys.readouterr().err
        return (2, err) if stop.value.code == 2 else (1, stop.value.code)

    return call


def read_csv(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_the_table_is_aligned_and_defines_its_units(printed):
    text = printed("resnet50", "sreresnet50_caffe")
    head, first, second, empty, *notes = text.splitlines()
    assert (
        head.split()
        == (
            "backbone input params (M) MACs (G) FLOPs (G) activations (M) top-1 (%) top-5 (%) crop licence of weights"
        ).split()
    )
    assert first.split() == "resnet50 224x224 25.557 4.0892 8.178 11.115 76.13 92.862 224 BSD-3-Clause".split()
    assert second.split()[:6] == "sreresnet50_caffe 224x224 25.557 6.4784 12.957 16.609".split()
    assert second.split()[6:8] == ["-", "-"]
    for heading in ("params (M)", "MACs (G)", "FLOPs (G)", "activations (M)", "top-5 (%)"):
        end = head.index(heading) + len(heading)
        for line in (first, second):
            assert line[end - 1] != " "
            assert line[end : end + 2] == "  "
    assert empty == ""
    assert "FLOPs = 2 x MACs" in " ".join(notes)
    assert "frozen_bn" not in text
    assert "iResNet" not in text
    assert max(map(len, notes)) <= 120


def test_csv_holds_every_digit_and_no_footnote(printed):
    rows = read_csv(printed("resnet18", "resnet50", "--format", "csv"))
    assert [row["backbone"] for row in rows] == ["resnet18", "resnet50"]
    assert [row["params (M)"] for row in rows] == ["11.689512", "25.557032"]
    assert rows[1]["MACs (G)"] == "4.089184256"
    assert rows[1]["FLOPs (G)"] == "8.178368512"
    assert (rows[0]["top-1 (%)"], rows[0]["top-5 (%)"], rows[0]["crop"]) == ("69.758", "89.078", "224")
    # The stem; four convolutions in each stage, and the shortcut of all but the first; the classifier.
    activations = 64 * 112**2 + 4 * 64 * 56**2 + 5 * (128 * 28**2 + 256 * 14**2 + 512 * 7**2) + 1000
    assert float(rows[0]["activations (M)"]) * 1e6 == pytest.approx(activations, abs=0.1)


def test_markdown_is_ready_for_a_readme(printed):
    lines = printed("resnet50", "resnet10", "--format", "markdown").splitlines()
    table, notes = lines[: lines.index("")], lines[lines.index("") + 1 :]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert {len(line) for line in cells} == {10}
    for heading, rule in zip(cells[0], cells[1]):
        assert set(rule) <= {"-", ":"}
        assert rule.endswith(":") == (heading not in ("backbone", "licence of weights"))
    assert [line[0] for line in cells[2:]] == ["`resnet50`", "`resnet10`"]
    assert cells[3][6:] == ["-", "-", "-", "-"]
    assert all(note.startswith("- ") for note in notes)
    assert "2 x MACs" in notes[0]


def test_other_passes_and_norms_are_shown_without_the_accuracy_of_others(printed):
    (row,) = read_csv(printed("resnet50", "--passes", 2, "--norm", "frozen_bn", "--format", "csv"))
    assert (row["passes"], row["norm"], row["top-1 (%)"], row["crop"]) == ("2", "frozen_bn", "", "")
    assert row["params (M)"] == "25.503912"  # 23,454,912 of the golden body and 2,049,000 of the classifier
    assert row["MACs (G)"] == f"{(6707527680 + 2048000) / 1e9:.9f}"
    assert "buffers, not parameters" in printed("resnet18", "--norm", "frozen_bn")
    accuracies = {
        norm: read_csv(printed("resnet18", "--norm", norm, "--format", "csv"))[0]["top-1 (%)"]
        for norm in ("frozen_bn", "sync_bn", "gn")
    }
    assert accuracies == {"frozen_bn": "69.758", "sync_bn": "69.758", "gn": ""}


def test_a_size_is_a_side_or_height_and_width(printed):
    rows = [read_csv(printed("resnet10", "--size", size, "--format", "csv"))[0] for size in ("64", "64x64", "64x96")]
    assert [row["input"] for row in rows] == ["64x64", "64x64", "64x96"]
    body = [float(row["MACs (G)"]) - 0.000512 for row in rows]
    assert body[0] == body[1] == pytest.approx(body[2] / 1.5)


def test_all_means_the_registry(printed, monkeypatch):
    for name in reversed(list(BACKBONES)):  # they come back in their order, the last one first
        if name not in ("resnet10", "resnet18"):
            monkeypatch.delitem(BACKBONES, name)
    assert [row["backbone"] for row in read_csv(printed("--all", "--format", "csv"))] == ["resnet10", "resnet18"]


def test_the_iresnet_footnote(printed):
    assert "x 20/9" in printed("resnet50", "iresnet50")


def test_the_footnote_of_big_little_nets(printed):
    text = " ".join(printed("resnet10", "blres2net50_26w_4s").split())
    assert "blres2net50_26w_4s takes 26, 2 and 4" in text
    assert "For blresnext101_64x4d at 224x224 their authors publish 7.97 G" in text
    assert "alpha" not in printed("resnet10")


def test_a_detector_by_part(printed):
    rows = read_csv(printed("--config-file", FCOS, "--format", "csv", "MODEL.BACKBONE.NAME", "resnet18"))
    assert [(row["part"], row["name"]) for row in rows] == [
        ("backbone", "resnet18"), ("neck", "fpn"), ("head", "fcos"), ("total", "resnet18 + fpn + fcos")
    ]  # fmt: skip
    assert {row["input"] for row in rows} == {"800x1344"}
    for heading in ("params (M)", "MACs (G)", "FLOPs (G)", "activations (M)"):
        *parts, total = (float(row[heading]) for row in rows)
        assert sum(parts) == pytest.approx(total, abs=1e-9)
        assert min(parts) > 0
    for row in rows:
        assert float(row["FLOPs (G)"]) == pytest.approx(2 * float(row["MACs (G)"]), abs=1e-9)


def test_the_backbone_of_a_detector_has_the_licence_of_its_weights(printed):
    opts = ("--size", "64", "MODEL.BACKBONE.NAME", "res2net50_26w_4s")
    rows = read_csv(printed("--config-file", FCOS, "--format", "csv", *opts))
    licence = BACKBONES["res2net50_26w_4s"].weights.licence
    assert licence
    assert [row["licence of weights"] for row in rows] == [licence, "", "", ""]
    lines = printed("--config-file", FCOS, "--format", "markdown", *opts).splitlines()
    assert [line.strip("| ").split("|")[-1].strip() for line in lines[:6]] == [
        "licence of weights", "-" * max(len(licence), 18), licence, "-", "-", "-"
    ]  # fmt: skip
    assert any(line.startswith("- Licence of weights: of those that are published for the backbone") for line in lines)


def test_a_network_of_salient_objects_by_part(printed):
    rows = read_csv(printed("--config-file", "saliency/resnet50", "--size", "64x96", "--format", "csv"))
    assert [(row["part"], row["name"]) for row in rows] == [
        ("backbone", "resnet50"), ("head", "dss"), ("total", "resnet50 + dss")
    ]  # fmt: skip
    assert [row["licence of weights"] for row in rows] == ["BSD-3-Clause", "", ""]
    for heading in ("params (M)", "MACs (G)", "activations (M)"):
        backbone, head, total = (float(row[heading]) for row in rows)
        assert min(backbone, head) > 0
        assert backbone + head == pytest.approx(total, abs=1e-9)
    plain = read_csv(printed("--config-file", FCOS, "--size", "64x96", "--format", "csv"))
    assert rows[0]["MACs (G)"] == plain[0]["MACs (G)"]
    both = printed("--config-file", "saliency/resnet50", "--config-file", FCOS, "--size", "64")
    assert [line.split()[1] for line in both.splitlines()[1:8]] == [*("backbone", "head", "total"),
        *("backbone", "neck", "head", "total")]  # fmt: skip
    assert "leaves MODEL.NUM_CLASSES" not in both


def test_several_detectors_and_a_glob(printed):
    pattern = str(ROOT / "configs/fcos/resnet18_*.yaml")
    text = printed("--config-file", pattern, "--config-file", FCOS, "--size", "64x96")
    assert text.count("resnet18 + fpn + fcos") == len(list(ROOT.glob("configs/fcos/resnet18_*.yaml"))) > 0
    assert text.count("resnet50 + fpn + fcos") == 1
    assert "800x1344" not in text
    assert "buffers, not parameters" in text


def test_classes_that_a_config_leaves_to_the_data_are_cocos(printed):
    tail = ("MODEL.BACKBONE.NAME", "resnet10", "--size", "64", "--format", "markdown")
    text = printed("--config-file", "own/fcos_resnet50", *tail)
    assert "- Where a config leaves MODEL.NUM_CLASSES to the data, 80 classes are counted." in text
    rows = [line.split("|")[4:6] for line in text.splitlines() if line.startswith("| `own/fcos")]
    same = printed("--config-file", "own/fcos_resnet50", *tail, "MODEL.NUM_CLASSES", "80")
    assert rows == [line.split("|")[4:6] for line in same.splitlines() if line.startswith("| `own/fcos")]
    assert len(rows) == 4
    assert "leaves MODEL.NUM_CLASSES" not in same


def test_output_holds_what_is_printed(printed, tmp_path):
    path = tmp_path / "new" / "table.md"
    assert printed("resnet10", "--format", "markdown", "--output", path) == path.read_text()


def test_a_place_that_cannot_be_written_is_named(refused, tmp_path):
    (tmp_path / "file").write_text("")
    status, text = refused("resnet10", "--output", tmp_path / "file" / "table.md")
    assert status == 1
    assert text.startswith(f"error: --output {tmp_path}/file/table.md cannot be written: ")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["resnet5O"], ["unknown backbone 'resnet5O'", "close: resnet50"]),
        (["resnet10", "--size", "31"], ["31x31", "32 pixels or more"]),
        (["resnet10", "--size", "64x0"], ["64x0", "32 pixels or more"]),
        (["resnet10", "--norm", "batch"], ["--norm is 'batch'", "frozen_bn"]),
        (["resnet10", "--passes", "-1"], ["--passes is -1"]),
        (["--config-file", "no.yaml"], ["no.yaml: no such config file"]),
        (["--config-file", FCOS, "resnet50"], ["'resnet50' has no value", "KEY VALUE"]),
        (["resnet10", "--import", "no_such_package"], ["no_such_package"]),
    ],
)
def test_errors_are_one_line(refused, args, words):
    status, text = refused(*args)
    assert status == 1
    assert text.startswith("error: ")
    assert "\n" not in text
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("args", "word"),
    [
        ([], "--all"),
        (["--size", "64"], "--all"),
        (["--all", "resnet50"], "leave out resnet50"),
        (["--all", "--config-file", FCOS], "--all"),
        (["--norm", "gn", "--config-file", FCOS], "MODEL.BACKBONE.NORM"),
        (["resnet10", "--size", "-5"], "no size"),
        (["resnet10", "--size", "64x"], "no size"),
        (["resnet10", "--size", "64x64x64"], "no size"),
    ],
)
def test_wrong_words_are_answered_in_one_line(refused, args, word):
    status, text = refused(*args)
    assert status == 2
    assert text.endswith(" (all flags: `detector info --help`)\n")
    assert text.count("\n") == 1
    assert word in text


def test_a_plugin_in_a_process_of_its_own(tmp_path):
    (tmp_path / "my_nets.py").write_text(PLUGIN)
    words = ["info", "plain", "--import", "my_nets", "--format", "csv"]
    run = fresh("-m", "detector", *words, env=environment(tmp_path))
    assert run.returncode == 0, run.stderr[-3000:]
    (row,) = read_csv(run.stdout)
    assert (row["top-1 (%)"], row["licence of weights"]) == ("12.5", "non-commercial")
    macs = 49 * 10 * 3 * 1024 + 10 * 1000
    assert (row["params (M)"], row["MACs (G)"]) == (f"{(30720 + 11000) / 1e6:.6f}", f"{macs / 1e9:.9f}")
    assert run.stderr == ""  # a progress bar is for terminals
