"""YAML, bases and overrides become one config, or one exact message."""

import pytest
from yacs.config import CfgNode

from detector.config import config_from_text, config_text, get_defaults, load_config, save_config


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
    assert load_config(write("a.yaml", text)) == get_defaults()


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
    assert cfg.MODEL.NECK.NAME == "fpn"


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


@pytest.mark.parametrize("base", ["", "[a.yaml, b.yaml]", "{a: b}"])
def test_a_base_is_one_path(write, base):
    assert "_BASE_: expected the path of one YAML file, got" in message(write("a.yaml", f"_BASE_: {base}\n"))


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("A: [1,\nB: {\n", 3, ""),
        ("OUTPUT_DIR: a\n\tSEED: 1\n", 2, ""),
        ("SOLVER:\n  MAX_ITER: 1\nSOLVER:\n  GAMMA: 1\n", 3, "key 'SOLVER' stands twice"),
        ("? [a]\n: 1\n", 1, "a key must be text"),
    ],
)
def test_yaml_errors_name_file_and_line(write, text, line, problem):
    path = write("a.yaml", text)
    assert message(path).startswith(f"{path}, line {line}: not valid YAML: {problem}")


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
    assert message(None, ["SEED"]) == "command line: 'SEED' has no value; write KEY VALUE pairs"
    assert "'SEED=1' has no value" in message(None, ["SEED=1"])


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
    with pytest.raises(ValueError, match=r"^checkpoint: SOLVER.OLD_KEY: unknown key"):
        config_from_text(config_text(cfg) + "SOLVER.OLD_KEY: 1\n")
    with pytest.raises(ValueError, match=r"^last.pth: _BASE_: unknown key"):
        config_from_text("_BASE_: a.yaml\n", "last.pth")
