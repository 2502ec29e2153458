"""What there is by name, and the merged config, as printed."""

import sys

import pytest
from helpers.fresh import fresh

from detector.commands import config, lists
from detector.config import load_config
from detector.data.catalog import DATASETS
from detector.models.backbones import BACKBONES
from detector.models.heads import HEADS
from detector.models.necks import NECKS

PLUGIN = '''
from functools import partial
from detector.data.catalog import Location, DATASETS
from detector.models.backbones import BACKBONES, Weights, register_backbone
from detector.models.heads.base import Standard, register_head
from detector.models.necks import register_neck

def build(norm):
    """A net of this plugin."""
register_backbone("listed_net", Weights(licence="Unlicense", top1=12.345))(partial(partial(build)))

@register_neck("listed_neck")
def neck(cfg, levels):
    """A neck of this plugin.

    With more to say.
    """
register_head("listed_head", Standard("listed_neck"))(lambda cfg, levels: None)
DATASETS.register("listed_data")(lambda root: Location(root / "a", root / "a.json"))
'''


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    (tmp_path / "listed_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield ["--import", "listed_plugin"]
    for table, name in (
        (BACKBONES, "listed_net"), (NECKS, "listed_neck"), (HEADS, "listed_head"), (DATASETS, "listed_data")
    ):  # fmt: skip
        table.pop(name, None)
    sys.modules.pop("listed_plugin", None)


def printed(capsys, command, *argv):
    command([*map(str, argv)])
    return capsys.readouterr().out


def test_backbones_with_family_accuracy_and_licence(plugin, capsys):
    head, *lines = printed(capsys, lists.backbones, *plugin).splitlines()
    assert head.split() == "backbone family top-1 licence of weights".split()
    assert [line.split()[0] for line in lines] == sorted(BACKBONES)
    rows = {line.split()[0]: line.split(maxsplit=3)[1:] for line in lines}
    assert rows["resnet50"] == ["resnet", "76.13", "BSD-3-Clause"]
    assert rows["iresnet1001"] == ["iresnet", "-", "-"]
    assert rows["res2net50_26w_4s"] == ["res2net", "77.99", "CC BY-NC-SA 4.0 (non-commercial)"]
    assert rows["listed_net"] == ["listed_plugin", f"{12.345:.2f}", "Unlicense"]
    starts = {line.rindex(line.split(maxsplit=3)[3]) for line in (head, *lines)}
    assert len(starts) == 1


def test_necks_say_what_they_are(plugin, capsys):
    head, *lines = printed(capsys, lists.necks, *plugin).splitlines()
    rows = dict(line.split(maxsplit=1) for line in lines)
    assert head.split() == "neck what it is".split()
    assert list(rows) == sorted(NECKS)
    assert rows.pop("listed_neck") == "A neck of this plugin."
    assert rows["fpn"].startswith("Feature pyramid network")
    assert rows["refinedet_sources"].startswith("RefineDet's source levels")


def test_heads_say_what_they_are_and_which_neck_is_theirs(plugin, capsys):
    head, *lines = printed(capsys, lists.heads, *plugin).splitlines()
    rows = {name: (neck, text) for name, neck, text in (line.split(maxsplit=2) for line in lines)}
    assert head.split() == "head its neck what it is, and its keys".split()
    assert list(rows) == sorted(HEADS)
    assert rows.pop("listed_head") == ("listed_neck", "-")
    assert {name: neck for name, (neck, _) in rows.items()} == {
        "faster_rcnn": "fpn", "fcos": "fpn", "refinedet": "refinedet_sources"
    }  # fmt: skip
    assert all("MODEL." in text for _, text in rows.values())
    assert {name: text.partition(":")[0] for name, (_, text) in rows.items()} == {
        "faster_rcnn": "Two stages", "fcos": "One stage without anchors", "refinedet": "One stage in two steps"
    }  # fmt: skip


def test_data_sets_and_whether_they_are_there(plugin, capsys, tmp_path):
    root = tmp_path / "data"
    (root / "VOC2007").mkdir(parents=True)
    (root / "coco" / "val2017").mkdir(parents=True)
    (root / "coco" / "annotations").mkdir()
    (root / "coco" / "annotations" / "instances_val2017.json").write_text("{}")
    (root / "coco" / "annotations" / "instances_train2017.json").write_text("{}")
    head, *lines, last = printed(capsys, lists.datasets, *plugin, "--root", root).splitlines()
    rows = {line.split()[0]: (" ".join(line.split()[1:-1]), line.split()[-1]) for line in lines}
    assert list(rows) == sorted(DATASETS)
    assert rows["coco_2017_val"] == ("there", str(root / "coco/annotations/instances_val2017.json"))
    assert rows["coco_2017_train"][0] == "missing"  # its pictures are
    assert rows["voc_2007_test"] == ("there", str(root / "VOC2007"))
    assert rows["voc_2012_train"] == ("missing", str(root / "VOCdevkit/VOC2012"))
    assert rows["shapes_val"] == ("made when first used", str(root / "shapes/annotations/val.json"))
    assert rows["listed_data"] == ("missing", str(root / "a.json"))
    assert not (root / "shapes").exists()
    assert head.startswith("data set")
    assert "voc:FOLDER:SPLIT" in last


def test_the_root_is_the_config_s(capsys, monkeypatch, tmp_path):
    cfg = load_config(None, ["DATASETS.ROOT", str(tmp_path)])
    monkeypatch.setattr(lists, "get_defaults", lambda: cfg)
    assert str(tmp_path / "coco") in printed(capsys, lists.datasets)


@pytest.mark.parametrize("named", [[], ["--root=~/data"]])
def test_the_root_may_begin_with_the_home_folder(named, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    cfg = load_config(None).clone()
    cfg.defrost()
    cfg.DATASETS.ROOT = "~/data"  # as DETECTOR_DATASETS may have it
    monkeypatch.setattr(lists, "get_defaults", lambda: cfg)
    assert str(tmp_path / "data" / "coco") in printed(capsys, lists.datasets, *named)


def test_a_plugin_that_is_not_there_is_one_line():
    for command in (lists.backbones, lists.necks, lists.heads, lists.datasets):
        with pytest.raises(SystemExit, match=r"^error: --import no_such_plugin: ModuleNotFoundError"):
            command(["--import", "no_such_plugin"])


def test_a_reader_that_stops_early_gets_no_traceback():
    code = "import os; read, write = os.pipe(); os.close(read); os.dup2(write, 1)\n"  # which nobody reads any more
    run = fresh("-c", code + "from detector.__main__ import main; main(['backbones'])")
    assert (run.returncode, run.stderr) == (1, "")


# ---------------------------------------------------------------------------- configs


@pytest.mark.parametrize("command", [lists.configs, config.main])
def test_shipped_configs_are_listed_and_load_by_name(capsys, command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = printed(capsys, command).splitlines()
    assert names == sorted(names)
    assert {"quickstart", "base/fcos", "fcos/sreresnet50_1080", "bccd/fcos_resnet18"} < {*names}
    assert len(names) > 80
    assert load_config(names[0]).is_frozen()


def test_the_merged_config_loads_again_and_says_where_values_come_from(capsys, tmp_path):
    (tmp_path / "base.yaml").write_text("SOLVER: {MAX_ITER: 60000, STEPS: [40000]}\nSEED: 7\n")
    (tmp_path / "mine.yaml").write_text("_BASE_: base.yaml\nMODEL: {BACKBONE: {NAME: sreresnet50}}\nSEED: 8\n")
    opts = ["SOLVER.STEPS", "[30000]"]
    text = printed(capsys, config.main, tmp_path / "mine.yaml", *opts)
    (tmp_path / "printed.yaml").write_text(text)
    assert load_config(tmp_path / "printed.yaml") == load_config(tmp_path / "mine.yaml", opts)
    lines = {line.split(":")[0].strip(): line for line in text.splitlines()}
    for key, value, origin in (
        ("SEED", "8", "mine.yaml"), ("SOLVER.MAX_ITER", "60000", "base.yaml"),
        ("SOLVER.STEPS", "[30000]", "command line"), ("MODEL.NUM_CLASSES", "80", "default"),
    ):  # fmt: skip
        assert lines[key].split()[1] == value
        assert origin in lines[key].partition("#")[2]


def test_what_is_printed_is_a_config_even_where_there_is_a_warning(tmp_path):
    words = ["config", "quickstart", "SOLVER.STEPS", "[3]"]
    run = fresh("-m", "detector", *words, cwd=tmp_path)
    assert run.returncode == 0
    assert "SOLVER.STEPS (command line) with SOLVER.SCHEDULE cosine" in run.stderr
    (tmp_path / "printed.yaml").write_text(run.stdout)
    assert load_config(tmp_path / "printed.yaml") == load_config("quickstart", words[2:])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["no_such"], "no_such: no such"),
        (["FILE", "SEED"], "'SEED' has no value"),
        (["FILE", "MODEL.BACKBONE.NAME", "resnet51"], "MODEL.BACKBONE.NAME: unknown backbone 'resnet51'; close: res"),
        (["FILE", "MODEL.NECK.NAME", "fpm"], "MODEL.NECK.NAME: unknown neck 'fpm'; close: fpn; all: fpn, refinedet"),
        (["FILE", "MODEL.HEAD.NAME", "fcoss"], "MODEL.HEAD.NAME: unknown head 'fcoss'; close: fcos"),
    ],
)
def test_errors_of_config_are_one_line(tmp_path, words, text):
    (tmp_path / "mine.yaml").write_text("SEED: 8\n")
    with pytest.raises(SystemExit) as stop:
        config.main([str(tmp_path / "mine.yaml") if word == "FILE" else word for word in words])
    assert stop.value.code.startswith("error: ")
    assert text in stop.value.code
    assert "\n" not in stop.value.code
    assert len(stop.value.code) < 300


def test_a_plugin_s_parts_are_known_once_it_is_imported(plugin, capsys):
    words = ["quickstart", "MODEL.BACKBONE.NAME", "listed_net", "MODEL.HEAD.NAME", "listed_head"]
    assert "MODEL.BACKBONE.NAME: listed_net" in printed(capsys, config.main, *words, *plugin)
