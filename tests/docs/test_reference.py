"""docs/reference says all that the code has: keys, commands with their flags, registered names, public Python names."""

import ast
import re
import sys
from inspect import getdoc

import pytest
from helpers import ROOT
from helpers.fresh import fresh

import detector
from detector.commands import VERBS
from detector.config import get_defaults, shipped_configs
from detector.config.defaults import flat
from detector.data.catalog import DATASETS
from detector.models.backbones import BACKBONES
from detector.models.heads import HEADS
from detector.models.necks import NECKS
from detector.models.saliency import SALIENCY
from detector.tasks.doctor import Diagnosis, document

sys.path.insert(0, str(ROOT / "tools/reference"))
import keys
import kinds
import pages

ANEW = "run `make reference`"


def text(name):
    return (ROOT / "docs/reference" / name).read_text(encoding="utf-8")


def test_every_key_stands_there_with_default_meaning_and_reader():
    known = keys.list_keys()
    assert [key.name for key in known] == list(flat(get_defaults()))
    assert not [key.name for key in known if not (key.meaning and key.default and key.unit)], "comment in defaults.py"
    unread = [key.name for key in known if not key.readers]
    assert not unread, f"no source file under detector/ reads {', '.join(unread)}"
    lines = text("config.md").splitlines()
    assert not [key.name for key in known if pages.row(key) not in lines], ANEW
    assert not [line for line in lines if line.startswith("| `") and line.split("`")[1] not in flat(get_defaults())]


def test_reads_follows_sections():
    code = (
        "def f(cfg):\n    node = cfg.MODEL.NECK\n    node.OUT = 1\n"
        "    print(node.NAME, self.cfg.SOLVER.AMP, solver.STEPS)\n"
        "class C:\n    def f(self, cfg):\n        node = cfg.TEST\n        return node.AMP\n"
        "def g(cfg, part='TRAIN'):\n    return cfg.DATASETS[part]\n"
    )
    found = set(keys.reads(ast.parse(code)))
    assert {"MODEL.NECK.NAME", "SOLVER.AMP", "STEPS", "TEST.AMP", "DATASETS.TRAIN"} <= found
    assert not {"MODEL.NECK.OUT", "TEST.NAME", "MODEL.NECK.AMP", "AMP"} & found


def test_of_a_key_it_says_what_users_need():
    known = {key.name: key for key in keys.list_keys()}
    assert known["INPUT.MIN_SIZE_TRAIN"][1:3] == ("[800]", "pixels")
    assert known["MODEL.RPN.SMOOTH_L1_BETA"].default == "1 / 9"
    assert known["MODEL.ROI_HEADS.NMS"].readers == ["inference.augmented", "models.heads.faster_rcnn"]
    assert known["SOLVER.MAX_ITER"].unit == "steps"
    units = {name: key.unit for name, key in known.items()}
    assert units["MODEL.SALIENCY.WIDTH"] == units["SOLVER.BIAS_LR_FACTOR"] == "factor"
    assert units["MODEL.BACKBONE.DEFORM_GROUPS"] == units["SOLVER.EPOCHS"] == "number"
    assert units["TEST.BBOX_AUG.SCALES"] == units["DATALOADER.SIZE_DIVISIBILITY"] == "pixels"
    assert units["MODEL.NECK.OUT_CHANNELS"] == "channels"
    assert units["MODEL.FCOS.POINT_OFFSET"] == "strides"
    assert known["MODEL.NECK.SOURCES"].unit == known["DISTILL.LEVELS"].unit == "names"
    assert known["INPUT.PIXEL_MEAN"].unit == "numbers"
    assert "data.hints" not in known["LOG.PICTURES"].readers  # whose PICTURES is another thing
    assert known["SOLVER.CHECKPOINT_MILESTONES"].meaning.endswith("stay, whatever KEEP")  # on a second line


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_and_flag_stands_there(verb):
    page = text("commands.md")
    _, _, rest = page.partition(f"\n## {verb}\n")
    part = rest.partition("\n## ")[0]
    helps = [pages.help_of(verb), *(pages.help_of(verb, study) for study in pages.studies() if verb == "analyze")]
    flags = {flag for one in helps for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", one)}
    assert "--help" in flags
    assert not flags - set(re.findall(r"--[a-z][a-z-]*", part)), ANEW
    if verb == "analyze":
        assert not [study for study in pages.studies() if f"\n### analyze {study}\n" not in part], ANEW


def test_every_registered_name_and_config_stands_there():
    parts = text("parts.md")
    assert parts == pages.parts_page().rstrip() + "\n", ANEW
    for names in (HEADS, SALIENCY, NECKS, DATASETS, shipped_configs()):
        assert not [name for name in names if f"`{name}`" not in parts]
    for entry in ("saliency:FOLDER", "saliency:FOLDER:SPLIT", "saliency:shapes:train", "saliency:shapes:val"):
        assert entry in parts.partition("## Data sets")[2].partition("\n## ")[0]
    lines = {line.split("`")[1]: line for line in text("backbones.md").splitlines() if line.startswith("| `")}
    assert set(lines) == set(BACKBONES), ANEW
    for name, entry in BACKBONES.items():
        assert (entry.weights.licence or "-") in lines[name], f"{name}: {ANEW}"


def test_every_key_that_moved_stands_there():
    assert text("moved.md") == pages.moved_page().rstrip() + "\n", ANEW


def test_every_kind_of_finding_stands_there():
    """Of a process of its own, as tests declare kinds too."""
    code = "import sys; sys.path.insert(0, 'tools/reference'); import pages; print(pages.kinds_page(), end='')"
    told = fresh("-c", code)
    assert told.returncode == 0, told.stderr
    assert text("kinds.md") == told.stdout.rstrip() + "\n", ANEW
    files = [path.read_text(encoding="utf-8") for path in (ROOT / "detector").rglob("*.py")]
    declared = {id_ for one in files for id_ in re.findall(r'= declare\(\s*"([a-z-]+)"', one)}
    assert len(declared) > 100
    tables = text("kinds.md").partition("## The JSON document")[0]
    assert {line.split("`")[1] for line in tables.splitlines() if line.startswith("| `")} == declared


def test_every_key_of_the_document_of_check_stands_there():
    found = document(Diagnosis([], []), [])
    assert list(kinds.DOCUMENT) == list(found)


def test_every_public_name_stands_there():
    assert text("python.md") == pages.api_page().rstrip() + "\n", ANEW
    public = [name for name in detector.__all__ if name[0] != "_"]
    assert [name for name in public if f"::: detector.{name}\n" in text("python.md")] == public  # as one types them
    for home in ("backbones", "necks", "heads", "saliency"):  # who writes a part needs what files it
        assert f"::: detector.models.{home}.register_" in text("python.md")
    assert "::: detector.models.saliency.SaliencyHead\n" in text("python.md")
    assert not [name for name in detector.__all__ if name[0] != "_" and not getdoc(getattr(detector, name))]
