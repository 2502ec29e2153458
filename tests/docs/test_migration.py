"""What docs/migration.md says to write here is there: keys, values that they take, flags, names."""

import re
from itertools import pairwise

import pytest
from helpers import ROOT

from detector.config import load_config, shipped_configs
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
