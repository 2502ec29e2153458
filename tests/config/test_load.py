"""YAML, bases and overrides become one config, or one exact message."""

import re

import pytest
from helpers import environment
from helpers.fresh import fresh
from yacs.config import CfgNode

from detector.config import (
    config_from_text,
    config_text,
    get_defaults,
    load_config,
    load_config_with_origins,
    origins_text,
    reading,
    save_config,
)
from detector.config.defaults import FROM_ENVIRONMENT, flat
from detector.errors import UserError


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def message(path, opts=()):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        load_config(path, opts)
    return str(error.value)


def test_without_file_and_overrides_are_the_defaults():
    cfg = load_config(None)
    assert cfg == get_defaults()
    assert cfg.is_frozen()


@pytest.mark.parametrize("text", ["", "# only a comment\n", "SOLVER:\n", "SOLVER: {}\nMODEL: {BACKBONE: }\n", "---\n"])
def test_empty_files_and_sections_change_nothing(write, text):
    assert load_config(write("a.yaml", text), ["OUTPUT_DIR", "output"]) == get_defaults()


def test_values_become_the_type_of_their_key(write):
    cfg = load_config(
        write(
            "a.yaml",
            "OUTPUT_DIR: 2024\n"
            "MODEL: {CHANNELS_LAST: no, BACKBONE: {NAME: resnet18}}\n"
            "INPUT:\n  MIN_SIZE_TRAIN: (640, 672)\n  MIN_SIZE_RANGE_TRAIN: [600, 800]\n"
            "SOLVER:\n  BASE_LR: 1e-4\n  MOMENTUM: 0\n  STEPS: 100\n  AMP: off\n"
            "DATASETS:\n  TRAIN: (\"a\", 'b')\n  TEST: images:val.json\n",
        )
    )
    assert cfg.OUTPUT_DIR == "2024"
    assert cfg.MODEL.CHANNELS_LAST is False
    assert cfg.INPUT.MIN_SIZE_TRAIN == (640, 672)
    assert cfg.INPUT.MIN_SIZE_RANGE_TRAIN == (600, 800)
    assert cfg.SOLVER.BASE_LR == 1e-4
    assert type(cfg.SOLVER.MOMENTUM) is float
    assert cfg.SOLVER.STEPS == (100,)
    assert cfg.SOLVER.AMP == "off"
    assert cfg.DATASETS.TRAIN == ("a", "b")
    assert cfg.DATASETS.TEST == ("images:val.json",)
    assert cfg.MODEL.HEAD.NAME == "fcos"


@pytest.mark.parametrize(
    ("text", "value"),
    [("(100, 200)", (100, 200)), ("[100, 200]", (100, 200)), ("100,200", (100, 200)), ("100", (100,)), ("()", ())],
)
def test_lists_on_the_command_line(text, value):
    assert load_config(None, ["SOLVER.STEPS", text]).SOLVER.STEPS == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("images:train.json", ("images:train.json",)),
        ("C:\\images:D:\\a.json", ("C:\\images:D:\\a.json",)),
        ("[a, b:c.json]", ("a", "b:c.json")),
        ('("a", "b")', ("a", "b")),
    ],
)
def test_names_on_the_command_line(text, value):
    assert load_config(None, ["DATASETS.TRAIN", text]).DATASETS.TRAIN == value


def test_bases_are_relative_and_overrides_win(write):
    write("base/all.yaml", "SOLVER: {MAX_ITER: 1, IMS_PER_BATCH: 1, BASE_LR: 1, MOMENTUM: 0.1}\n")
    write("base/some.yaml", "_BASE_: all.yaml\nSOLVER: {IMS_PER_BATCH: 2, BASE_LR: 2, MOMENTUM: 0.2}\n")
    path = write("fcos/mine.yaml", "SOLVER: {BASE_LR: 3, MOMENTUM: 0.3}\n_BASE_: ../base/some.yaml\n")
    solver = load_config(path, ["SOLVER.MOMENTUM", "0.4"]).SOLVER
    assert (solver.MAX_ITER, solver.IMS_PER_BATCH, solver.BASE_LR, solver.MOMENTUM) == (1, 2, 3.0, 0.4)


def test_dotted_keys_are_the_same_as_nested_ones(write):
    assert load_config(write("a.yaml", "MODEL.BACKBONE.NAME: resnet18\n")).MODEL.BACKBONE.NAME == "resnet18"


def test_missing_file_and_missing_base(write):
    with pytest.raises(FileNotFoundError, match=r"nowhere.yaml: no such config file"):
        load_config("nowhere.yaml")
    with pytest.raises(FileNotFoundError, match=r"gone.yaml: no such config file; _BASE_ of .*a.yaml"):
        load_config(write("a.yaml", "_BASE_: gone.yaml\n"))


def test_bases_in_a_circle(write):
    write("b.yaml", "_BASE_: sub/../a.yaml\n")
    assert "_BASE_ goes round in a circle: " in message(write("a.yaml", "_BASE_: b.yaml\n"))
    write("c.yaml", "SEED: 1\n")
    assert "_BASE_ goes round in a circle: " in message(write("d.yaml", "_BASE_: [c.yaml, d.yaml]\n"))


@pytest.mark.parametrize("base", ["", "{a: b}", "[]", "[a.yaml, '']", "[[a.yaml]]"])
def test_a_base_is_a_path_or_a_list_of_them(write, base):
    problem = "_BASE_: expected the path of one YAML file, or a list of them, got"
    assert problem in message(write("a.yaml", f"_BASE_: {base}\n"))


def test_of_several_bases_the_later_ones_win_and_the_file_itself_last(write):
    write("a.yaml", "SOLVER: {MAX_ITER: 1, IMS_PER_BATCH: 1, MOMENTUM: 0.1}\n")
    write("b.yaml", "SOLVER: {IMS_PER_BATCH: 2, MOMENTUM: 0.2}\n")
    solver = load_config(write("c.yaml", "_BASE_: [a.yaml, b.yaml]\nSOLVER: {MOMENTUM: 0.3}\n")).SOLVER
    assert (solver.MAX_ITER, solver.IMS_PER_BATCH, solver.MOMENTUM) == (1, 2, 0.3)


def test_a_file_that_is_reached_twice_counts_once_and_first(write):
    write("c.yaml", "SOLVER: {MOMENTUM: 0.1, GAMMA: 0.1, BASE_LR: 0.1}\n")
    write("a.yaml", "_BASE_: c.yaml\nSOLVER: {MOMENTUM: 0.2, GAMMA: 0.2}\n")
    write("b.yaml", "_BASE_: [./sub/../c.yaml]\nSOLVER: {GAMMA: 0.3}\n")
    (write("sub/d.yaml", "_BASE_: [../a.yaml, ../b.yaml, ../a.yaml]\n"))
    solver = load_config(write("e.yaml", "_BASE_: sub/d.yaml\n")).SOLVER  # c, a, b: as b alone would not have it
    assert (solver.MOMENTUM, solver.GAMMA, solver.BASE_LR) == (0.2, 0.3, 0.1)


def test_a_base_may_be_a_shipped_file_and_one_beside_it_wins(write):
    path = write("a.yaml", "_BASE_: [base/faster_rcnn, base/refinedet_320.yaml]\n")
    cfg = load_config(path)
    assert (cfg.MODEL.HEAD.NAME, cfg.SOLVER.BASE_LR, cfg.INPUT.SQUARE_SIZE) == ("refinedet", 0.02, 320)
    write("base/refinedet_320.yaml", "INPUT: {SQUARE_SIZE: 96}\n")
    assert (load_config(path).MODEL.HEAD.NAME, load_config(path).INPUT.SQUARE_SIZE) == ("faster_rcnn", 96)
    with pytest.raises(FileNotFoundError, match=r"base/fcoss: no such config file; _BASE_ of .*a.yaml; .*base/fcos"):
        load_config(write("a.yaml", "_BASE_: base/fcoss\n"))


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("A: [1,\nB: {\n", 3, ""),
        ("OUTPUT_DIR: a\n\tSEED: 1\n", 2, ""),
        ("SOLVER:\n  MAX_ITER: 1\nSOLVER:\n  GAMMA: 1\n", 3, "key 'SOLVER' stands twice"),
        ("? [a]\n: 1\n", 1, "a key must be text"),
        (
            'A: 1\nDATASETS: {TRAIN: ("a",), TEST: ("b",)}\n',
            2,
            "in braces a comma ends a value: write a tuple as a list",
        ),
        ("SOLVER: {STEPS: (1, 2)}\n", 1, "in braces a comma ends a value: write a tuple as a list"),
    ],
)
def test_yaml_errors_name_file_and_line(write, text, line, problem):
    path = write("a.yaml", text)
    assert message(path).startswith(f"{path}, line {line}: not valid YAML: {problem}")


def test_keys_of_a_shipped_neck_give_way_to_another_head_alone(write):
    name, swap = "base/refinedet_bottleneck", ["MODEL.HEAD.NAME", "fcos"]

    def neck(path, opts=()):
        cfg, origins = load_config_with_origins(path, opts)
        node = cfg.MODEL.NECK
        return (node.EXTRA_LEVELS, node.L2NORM_SCALES, node.NORM), origins["MODEL.NECK.NORM"]

    kept, source = neck(name)
    assert kept == ("c6_bottleneck", (), "bn")
    assert neck(name, ["MODEL.HEAD.NAME", "refinedet"]) == (kept, source)
    assert neck(name, swap) == (("auto", (-1,), "auto"), "default")
    assert neck(name, [*swap, "MODEL.NECK.NORM", "gn"]) == (("auto", (-1,), "gn"), "command line")
    assert neck(name, [*swap, "MODEL.NECK.NAME", "refinedet_sources"]) == (kept, source)
    mine = write("mine.yaml", f"_BASE_: {name}\nMODEL: {{HEAD: {{NAME: fcos}}, NECK: {{NORM: bn}}}}\n")
    assert neck(mine)[0] == ("auto", (-1,), "bn")
    assert neck(mine, ["MODEL.HEAD.NAME", "refinedet"])[0] == kept  # back to what the shipped file describes


def test_files_that_hold_no_keys(write, tmp_path):
    assert "expected KEY: VALUE lines, got ['a']" in message(write("a.yaml", "- a\n"))
    (tmp_path / "b.yaml").write_bytes(b"OUTPUT_DIR: \xff\n")
    assert "b.yaml: not valid YAML" in message(tmp_path / "b.yaml")


def test_python_tags_build_nothing(write, tmp_path):
    path = write("a.yaml", f"OUTPUT_DIR: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    assert "OUTPUT_DIR: expected text" in message(path)
    assert not (tmp_path / "made").exists()


def test_unknown_key_names_file_and_nearest(write):
    path = write("a.yaml", "MODEL: {BAKBONE: {NAME: resnet18}}\n")
    assert message(path).startswith(f"{path}: MODEL.BAKBONE.NAME: unknown key; near: MODEL.BACKBONE.NAME")
    assert "SOLVER.MAX_ITERS: unknown key; near: SOLVER.MAX_ITER" in message(None, ["SOLVER.MAX_ITERS", "1"])
    assert "solver.max_iter: unknown key; near: SOLVER.MAX_ITER" in message(None, ["solver.max_iter", "1"])
    assert "MAX_ITER: unknown key; near: SOLVER.MAX_ITER" in message(None, ["MAX_ITER", "1"])
    assert message(None, ["XYZ", "1"]) == "command line: XYZ: unknown key; near: none"
    assert "near: INPUT.MIN_SIZE_TRAIN" in message(None, ["INPUT.SIZE", "1"])  # a word of it, of the same section first
    assert "near: MODEL.BACKBONE.FREEZE_CONV_BODY_AT" in message(None, ["MODEL.BACKBONE.FREEZE", "1"])
    assert "_BASE_: unknown key" in message(None, ["_BASE_", "a.yaml"])


@pytest.mark.parametrize(
    ("key", "text", "problem"),
    [
        ("SOLVER.MAX_ITER", "many", "expected an integer, got 'many'"),
        ("SOLVER.MAX_ITER", "1.5", "expected an integer, got '1.5'"),
        ("SOLVER.MAX_ITER", "true", "expected an integer, got 'true'"),
        ("SOLVER.MAX_ITER", "[1]", "expected an integer, got ['1']"),
        ("SOLVER.MAX_ITER", "{A: 1}", "expected an integer, got {'A': '1'}"),
        ("SOLVER.MAX_ITER", "", "expected an integer, got nothing"),
        ("SOLVER.BASE_LR", "True", "expected a number, got 'True'"),
        ("SOLVER.BASE_LR", "nan", "expected a number, got 'nan'"),
        ("SOLVER.BASE_LR", "1e999", "expected a number, got '1e999'"),
        ("MODEL.CHANNELS_LAST", "1", "expected True or False, got '1'"),
        ("OUTPUT_DIR", "[a]", "expected text, got ['a']"),
        ("OUTPUT_DIR", "null", "expected text, got 'null'"),
        ("SOLVER.STEPS", "[1, b]", "expected a list of integers, got ['1', 'b']"),
        ("SOLVER.STEPS", "[[1]]", "expected a list of integers, got [['1']]"),
        ("SOLVER.STEPS", "(1, 2.5)", "expected a list of integers, got '(1, 2.5)'"),
        ("SOLVER.STEPS", "(1, True)", "expected a list of integers, got '(1, True)'"),
        ("SOLVER.STEPS", "", "expected a list of integers, got nothing"),
        ("DATASETS.TRAIN", "[1, 2]", "expected a list of names, got ['1', '2']"),
        ("DATASETS.TRAIN", "", "expected a list of names, got nothing"),
        ("DATASETS.TRAIN", "(a, b)", "expected a list of names, got '(a, b)'"),
        ("DATASETS.TRAIN", "{A: 1}", "expected a list of names, got {'A': '1'}"),
        ("MODEL.BACKBONE", "resnet18", "expected a section of keys, got 'resnet18'"),
    ],
)
def test_wrong_types_name_file_key_and_value(write, key, text, problem):
    path = write("a.yaml", f"{key}: {text}\n")
    assert message(path) == f"{path}: {key}: {problem}"


@pytest.mark.parametrize("text", ["[a", "(a", "[a]]"])
def test_broken_lists_on_the_command_line(text):
    assert (
        message(None, ["DATASETS.TRAIN", text])
        == f"command line: DATASETS.TRAIN: expected a list of names, got {text!r}"
    )


def test_all_problems_come_in_one_message(write):
    base = write("base.yaml", "SEED: one\n")
    path = write("a.yaml", "_BASE_: base.yaml\nSOLVER: {MAX_ITER: x, STEP: 1}\n")
    lines = message(path, ["FOO", "1"]).splitlines()
    assert lines[0] == "4 problems in the config"
    assert [line for line in lines[1:] if not line.startswith(" ")] == [f"{base}:", f"{path}:", "command line:"]


def test_an_override_needs_a_value():
    assert message(None, ["SEED"]) == "command line: 'SEED' has no value: write SEED VALUE"
    assert message(None, ["3"]) == "command line: '3' has no value: write KEY VALUE"


@pytest.mark.parametrize("more", [[], ["SOLVER.MAX_ITER=3"]])
def test_an_equals_sign_is_no_value(more):
    wanted = ["'SOLVER.BASE_LR=0.001': write SOLVER.BASE_LR 0.001, with a space"]
    wanted += [f"{word!r}: write {word.replace('=', ' ')}, with a space" for word in more]
    text = message(None, ["SOLVER.BASE_LR=0.001", *more])
    assert any(line in text for line in wanted)
    assert "near" not in text
    assert "'imgsz=320': write imgsz 320, with a space" in message(None, ["imgsz=320"])


def test_save_and_load_agree(tmp_path):
    cfg = load_config(
        None,
        [
            *("OUTPUT_DIR", "off: # [ä] 1e-4"),
            *("SOLVER.BASE_LR", "1.2345678901234567e-5"),
            *("SOLVER.STEPS", "()"),
            *("DATASETS.TRAIN", "['yes', 'a, b', '(c)', 'd:e']"),
            *("MODEL.WEIGHT", ""),
        ],
    )
    save_config(cfg, tmp_path / "new" / "config.yaml")
    again = load_config(tmp_path / "new" / "config.yaml")
    assert again == cfg
    assert again.OUTPUT_DIR == "off: # [ä] 1e-4"
    assert again.DATASETS.TRAIN == ("yes", "a, b", "(c)", "d:e")


def test_a_checkpoints_config_reads_back_strictly():
    cfg = load_config(None, ["SEED", "3"])
    assert config_from_text(config_text(cfg)) == cfg
    assert isinstance(config_from_text("SEED: 3\n"), CfgNode)
    with pytest.raises(
        ValueError,
        match=r"^checkpoint: SOLVER.OLD_KEY: unknown key; near: .*; if a plugin declares it, add --import PACKAGE",
    ):
        config_from_text(config_text(cfg) + "SOLVER.OLD_KEY: 1\n")
    with pytest.raises(ValueError, match=r"^last.pth: _BASE_: unknown key"):
        config_from_text("_BASE_: a.yaml\n", "last.pth")


def test_overrides_go_over_a_checkpoints_config():
    text = config_text(load_config(None, ["SEED", "3", "SOLVER.MOMENTUM", "0.8"]))
    cfg = config_from_text(text, opts=["SEED", "4"])
    assert (cfg.SEED, cfg.SOLVER.MOMENTUM) == (4, 0.8)
    with pytest.raises(ValueError, match=r"^command line: SED: unknown key; near: SEED"):
        config_from_text(text, opts=["SED", "4"])


def test_a_checkpoints_unknown_key_may_be_a_plugins():
    with pytest.raises(ValueError, match=r"MODEL.THEIRS.WIDTH: unknown key; .*; if a plugin .* add --import PACKAGE"):
        config_from_text(config_text(load_config(None)) + "MODEL.THEIRS.WIDTH: 64\n")
    assert "add --import PACKAGE" in message(None, ["MODEL.THEIRS.WIDTH", "64"])
    assert "--import" not in message(None, ["MODEL.WIDTH", "64"])


LENGTHS = {"epochs": "SOLVER: {EPOCHS: 20}\n", "steps": "SOLVER: {MAX_ITER: 500}\n", "no epochs": "SOLVER.EPOCHS: 0\n"}


@pytest.mark.parametrize(
    ("layers", "epochs", "steps"),
    [
        (["epochs"], 20, 90000),
        (["steps", "epochs"], 20, 500),
        (["epochs", "steps"], 0, 500),
        (["epochs", "no epochs"], 0, 90000),
        (["steps", "no epochs"], 0, 500),
    ],
)
def test_of_epochs_and_steps_the_later_layer_counts(write, layers, epochs, steps):
    files = [write(f"{i}.yaml", LENGTHS[layer]).name for i, layer in enumerate(layers)]
    path = write("all.yaml", f"_BASE_: [{', '.join(files)}]\nSEED: 1\n")
    solver = load_config(path).SOLVER
    assert (solver.EPOCHS, solver.MAX_ITER) == (epochs, steps)
    solver = load_config(path, ["SOLVER.MAX_ITER", "7"]).SOLVER
    assert (solver.EPOCHS, solver.MAX_ITER) == (0, 7)
    assert load_config(path, ["SOLVER.EPOCHS", "3"]).SOLVER.EPOCHS == 3


def test_epochs_and_steps_in_one_layer_contradict(write):
    problem = "SOLVER.EPOCHS and SOLVER.MAX_ITER both say how long to train; write one of them"
    path = write("a.yaml", "SOLVER: {EPOCHS: 2, MAX_ITER: 5}\n")
    assert message(path) == f"{path}: {problem}"
    assert message(None, ["SOLVER.MAX_ITER", "5", "SOLVER.EPOCHS", "2"]) == f"command line: {problem}"
    assert load_config(None, ["SOLVER.MAX_ITER", "5", "SOLVER.EPOCHS", "0"]).SOLVER.MAX_ITER == 5
    cfg = load_config(write("b.yaml", "SOLVER: {MAX_ITER: 5}\n"), ["SOLVER.EPOCHS", "2"])
    save_config(cfg, path)  # what was written out holds every key, and is no contradiction
    assert load_config(path) == cfg


def test_every_value_knows_where_it_comes_from(write):
    base = write("base.yaml", "SOLVER: {MOMENTUM: 0.8, BASE_LR: 1}\n")
    path = write("a.yaml", "_BASE_: base.yaml\nSOLVER: {MOMENTUM: 0.7, EPOCHS: 3}\n")
    cfg, origins = load_config_with_origins(path, ["SOLVER.MAX_ITER", "9", "SEED", "0"])
    assert cfg == load_config(path, ["SOLVER.MAX_ITER", "9", "SEED", "0"])
    assert list(origins) == list(flat(cfg))
    here = {"SOLVER.MOMENTUM": str(path), "SOLVER.BASE_LR": str(base), "SEED": "command line"}
    here |= {"SOLVER.MAX_ITER": "command line", "SOLVER.EPOCHS": "command line", "SOLVER.GAMMA": "default"}
    assert {key: origins[key] for key in here} == here
    assert set(load_config_with_origins(None)[1].values()) == {"default", *FROM_ENVIRONMENT.values()}


def test_the_text_with_origins_reads_back(write):
    opts = ["OUTPUT_DIR", "a # b\nc: ä", "SOLVER.STEPS", "()", "SOLVER.MOMENTUM", "1e-7", "DATASETS.TRAIN", "[x, y:z]"]
    cfg, origins = load_config_with_origins("fcos/resnet50_1x", [*opts, "MODEL.WEIGHT", "w" * 300])
    text = origins_text(cfg, origins)
    lines = text.splitlines()
    assert [line.split(":")[0] for line in lines] == list(flat(cfg))
    (step,) = (line for line in lines if line.startswith("SOLVER.STEPS"))
    assert step.split() == ["SOLVER.STEPS:", "[]", "#", "command", "line"]
    assert load_config(write("b.yaml", text)) == cfg


def test_what_the_environment_says_has_that_origin():
    code = "import detector.config as c; print(*c.load_config_with_origins(None, {})[1]['DATASETS.ROOT'].split())"
    for root, words, origin in (("/data", "[]", "DETECTOR_DATASETS"), ("", "[]", "default"),
                                ("/data", "['DATASETS.ROOT', 'x']", "command line")):  # fmt: skip
        there = {**environment(), "DETECTOR_DATASETS": root}
        assert fresh("-c", code.format(words), env=there, torch=False).stdout.strip() == origin


def test_reading_a_config_needs_no_torch():
    code = "import sys, detector.config as c; c.load_config('quickstart'); assert 'torch' not in sys.modules"
    assert fresh("-c", code, torch=False).returncode == 0


def test_a_key_nested_and_dotted_stands_twice(write):
    path = write("a.yaml", "SOLVER: {BASE_LR: 1}\nSOLVER.BASE_LR: 2\n")
    assert message(path) == f"{path}: key 'SOLVER.BASE_LR' stands twice, nested and dotted"


def test_a_base_beside_the_file_comes_before_a_shipped_one_of_its_name(write):
    write("base/fcos.yaml", "SEED: 7\n")
    assert load_config(write("a.yaml", "_BASE_: base/fcos\n")).SEED == 7


def test_overrides_may_be_values():
    opts = ["SOLVER.MAX_ITER", 3, "SOLVER.STEPS", (1, 2), "SOLVER.BASE_LR", 1e-3, "MODEL.CHANNELS_LAST", False]
    cfg = load_config(None, [*opts, "INPUT.MIN_SIZE_TRAIN", [64]])
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.BASE_LR) == (3, (1, 2), 0.001)
    assert (cfg.MODEL.CHANNELS_LAST, cfg.INPUT.MIN_SIZE_TRAIN) == (False, (64,))


def test_what_is_larger_than_any_config_stops_in_one_line(write, tmp_path, monkeypatch):
    def refused(text, problem):
        path = write("a.yaml", text)
        with pytest.raises(UserError) as caught:
            load_config(path)
        assert re.fullmatch(rf"{re.escape(str(path))}{problem}", str(caught.value)), caught.value

    monkeypatch.setattr(reading, "MAX_DEPTH", 4)
    monkeypatch.setattr(reading, "MAX_NODES", 40)
    assert load_config(write("a.yaml", "DATASETS: {TRAIN: &a [b], TEST: *a}\n")).DATASETS.TEST == ("b",)
    assert "unknown key" in message(write("a.yaml", "A: [[b]]\n"))
    refused("A: [[[b]]]\n", ", line 1: more than 4 levels deep, which no config needs")
    refused("A:\n  B:\n    C:\n      D: 1\n", ", line 4: more than 4 levels deep, .*")
    refused("A: &a [b]\nB: &b [*a]\nC: &c [*b]\n", ", line 1: more than 4 levels deep, .*")
    assert "unknown key" in message(write("a.yaml", f"A: [{','.join('b' * 36)}]\n"))
    refused(f"A: [{','.join('b' * 39)}]\n", ", line 1: more than 40 keys and values, which no config needs")
    refused("A: &a [b, b, b]\nB: [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n", ", line 1: more than 40 keys and values, .*")
    refused("A: &a [*a]\n", ", line 1: an alias stands inside what it names")
    refused("A: &a {B: *a}\n", ", line 1: an alias stands inside what it names")
    monkeypatch.setattr(reading, "MAX_BYTES", 100)
    assert load_config(write("a.yaml", "SEED: 1".ljust(100))).SEED == 1
    refused("SEED: 1".ljust(101), ": more than 100 bytes, which no config needs; is it another file\\?")
    with pytest.raises(UserError, match=r"^last\.pth: more than 100 bytes"):
        config_from_text("SEED: 1".ljust(101), "last.pth")


def test_counting_stops_before_all_is_composed(write, monkeypatch):
    monkeypatch.setattr(reading, "MAX_NODES", 10)
    assert ", line 5: more than 10 keys" in message(write("a.yaml", "".join(f"K{i}: 1\n" for i in range(100))))


def test_a_chain_of_bases_has_an_end(write, monkeypatch):
    monkeypatch.setattr(reading, "MAX_BASES", 4)
    write("4.yaml", "SEED: 4\n")
    for i in range(4):
        write(f"{i}.yaml", f"_BASE_: {i + 1}.yaml\n")
    assert load_config(write("1.yaml", "_BASE_: [2.yaml, 3.yaml, 4.yaml]\n")).SEED == 4
    last, first = write("4.yaml", "SEED: 4\n"), write("0.yaml", "_BASE_: 1.yaml\n")
    assert message(first) == f"{last}: more than 4 files are based on each other, beginning with {first}"


def test_a_file_of_another_kind_is_one_line(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\x80\x02}q\x00.")
    assert message(path) == f"{path}: not valid YAML: byte 1 is 0x80, which is not utf-8; a config is a text file"
    path.write_bytes(b"SEED: 1\n\0")
    assert message(path) == f"{path}: not valid YAML: character 9 is 0x0, as in no text; a config is a text file"
    path.write_bytes("SEED: 3\n".encode("utf-16"))
    assert load_config(path).SEED == 3


@pytest.mark.parametrize("text", ["-" * 50_000 + "1", "(" * 50_000 + "1", "1," * 60_000, "a" * 100_001])
def test_long_and_deep_literals_are_short_messages(text):
    said = message(None, ["SOLVER.STEPS", text])
    assert said.startswith("command line: SOLVER.STEPS: expected a list of integers, got '")
    assert len(said) < 400


@pytest.mark.parametrize("text", ["9" * 400, "9223372036854775808", "-9223372036854775809"])
def test_integers_beyond_64_bits_are_refused(text):
    assert message(None, ["SEED", text]).startswith("command line: SEED: expected an integer, got '")
    assert load_config(None, ["SEED", "9223372036854775807"]).SEED == 2**63 - 1


def test_a_long_key_is_cut_in_the_message():
    assert len(message(None, ["A" * 5000, "1"])) < 400
