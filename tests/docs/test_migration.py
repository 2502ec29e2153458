"""What docs/migration.md says to write here is there: keys, values that they take, flags, names."""

import re
from itertools import pairwise

import pytest
from helpers import ROOT

from detector.config import get_defaults, load_config, shipped_configs
from detector.config.defaults import flat
from detector.config.moved import what_to_write_now
from detector.models.backbones import BACKBONES
from detector.models.heads import HEADS

KEY = re.compile(r"(?<![\w.])(?:[A-Z][A-Z0-9_]+\.)+[A-Z0-9_]+(?![\w.])|\b(?:SEED|OUTPUT_DIR)\b")
NAMES = {"MODEL.BACKBONE.NAME": BACKBONES, "MODEL.HEAD.NAME": HEADS, "--config-file": shipped_configs()}


def right_hand():
    """The pieces of code in the second column of each table."""
    text = (ROOT / "docs/migration.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [(row[0], code) for row in rows for code in re.findall(r"`([^`]+)`", row[-1])]


def reference(page, pattern):
    return set(re.findall(pattern, (ROOT / "docs/reference" / page).read_text(encoding="utf-8"), re.M))


def test_every_key_stands_in_the_reference():
    known = reference("config.md", r"^\| `([A-Z0-9_.]+)` \|")
    used = {key for _, code in right_hand() for key in KEY.findall(code)}
    assert not used - known
    assert len(used) > 40


def test_no_key_is_shortened():
    left = [
        (row, code) for row, code in right_hand() if re.match(r"[A-Z][A-Z_]+\b(?!\.)", code) and not KEY.match(code)
    ]
    assert not left


def keys_of_detectron2():
    """Those in the first column of its table; later ones of a row have the section of the first."""
    text = (ROOT / "docs/migration.md").read_text(encoding="utf-8")
    table = text.split("## From detectron2")[1].split("## ")[0]
    for line in table.splitlines():
        section = ""
        for code in re.findall(r"`([^`]+)`", line.split(" | ")[0]) if line.startswith("| `") else []:
            key, _, value = code.partition(" ")
            if re.fullmatch(r"[A-Z][A-Z0-9_.]+", key) and (section or "." in key):
                section = section if "." not in key else key.rpartition(".")[0]
                yield key if "." in key else f"{section}.{key}", value


def test_every_key_of_detectron2_is_answered_or_the_same():
    keys = dict(keys_of_detectron2())
    assert {"MODEL.PIXEL_STD", "MODEL.ROI_HEADS.NMS_THRESH_TEST", "TEST.AUG.FLIP", "TEST.EVAL_PERIOD"} <= keys.keys()
    known = flat(get_defaults())
    assert not [key for key, value in keys.items() if key not in known and not what_to_write_now(key, value)]
    assert len(keys) > 35


PAIRS = sorted({tuple(code.split(" ", 1)) for _, code in right_hand() if re.match(rf"({KEY.pattern}) \S", code)})


@pytest.mark.parametrize(("key", "value"), PAIRS)
def test_every_value_is_taken(key, value):
    load_config("faster_rcnn/resnet50_1x", [key, value])
    assert key not in NAMES or value in NAMES[key]


def test_every_flag_and_config_stands_in_the_reference():
    flags = reference("commands.md", r"--[a-z][a-z-]*")
    words = [word for _, code in right_hand() for word in code.split()]
    assert not {word for word in words if word.startswith("--")} - flags
    named = [after for word, after in pairwise(words) if word == "--config-file"]
    assert named
    assert not set(named) - set(NAMES["--config-file"])
