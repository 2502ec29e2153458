"""The pages of docs/reference, as Markdown."""

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from inspect import getdoc
from pathlib import Path
from unittest.mock import patch

from keys import Key, list_keys, list_sections
from kinds import kinds_body

import detector
from detector.__main__ import command
from detector.commands import VERBS
from detector.commands.analyze import STUDIES
from detector.commands.info import count_backbones, render
from detector.commands.lists import about
from detector.config import shipped_configs

MADE = "<!-- Made by tools/reference/make.py of the code: change that, then run `make reference`. -->\n"

COLUMNS = 100  # of a command's help

TITLES = {
    "": "General",
    "LOG": "Log",
    "MODEL": "Model",
    "MODEL.BACKBONE": "Backbone",
    "MODEL.NECK": "Neck",
    "MODEL.HEAD": "Head",
    "MODEL.RPN": "Faster R-CNN: proposals",
    "MODEL.ROI_HEADS": "Faster R-CNN: regions",
    "MODEL.ROI_BOX_HEAD": "Faster R-CNN: head of a region",
    "MODEL.FCOS": "FCOS",
    "MODEL.REFINEDET": "RefineDet",
    "MODEL.SALIENCY": "Salient objects",
    "INPUT": "Pictures",
    "DATASETS": "Data sets",
    "DATALOADER": "Loader",
    "SOLVER": "Solver",
    "DISTILL": "Distillation",
    "TEST": "Test",
    "TEST.BBOX_AUG": "Test-time augmentation",
}
"""Section -> what the page calls it; another section goes by its own name."""


def config_page() -> str:
    """Every config key with default, unit, meaning and the modules that read it, section by section."""
    meanings = {section.name: section.meaning for section in list_sections()}
    keys = list_keys()
    lines = [
        MADE,
        "# Config keys",
        "",
        "Every key with its default, for whoever writes a config. A key stands in a YAML file as nested words, and at "
        "the end of a command line as `KEY VALUE`: `SOLVER.BASE_LR 0.01`. `detector config FILE` prints what a file "
        "comes to, with where each value is from. A key that a config sets and nothing reads is named when it is "
        "loaded; an unknown one is an error that names its neighbours. *Read by* names modules of the package "
        "`detector`.",
        "",
    ]
    for section in dict.fromkeys(key.section for key in keys):
        title = TITLES.get(section, section)
        lines += [f"## {title}", ""]
        if meaning := meanings.get(section):
            lines += [f"{cell(meaning[:1].upper() + meaning[1:])}.", ""]
        lines += ["| key | default | unit | meaning | read by |", "|---|---|---|---|---|"]
        lines += [row(key) for key in keys if key.section == section] + [""]
    return "\n".join(lines)


def row(key: Key) -> str:
    """A line of the table of keys."""
    readers = ", ".join(f"`{reader}`" for reader in key.readers)
    return f"| `{key.name}` | `{key.default}` | {key.unit} | {cell(key.meaning)} | {readers} |"


def cell(text: str) -> str:
    """Text that a table of Markdown shows as it is."""
    for sign in "\\|*_<[":
        text = text.replace(sign, "\\" + sign)
    return text


def commands_page() -> str:
    """The help of every verb, and of the verbs of `analyze`."""
    text = (
        "What `detector VERB --help` prints, verb by verb. For whoever looks for a flag, or for the verb that has it."
    )
    lines = [MADE, "# Commands", "", text, ""]
    for verb in VERBS:
        lines += [f"## {verb}", "", "```text", help_of(verb), "```", ""]
        if verb == "analyze":
            for study in studies():
                lines += [f"### analyze {study}", "", "```text", help_of(verb, study), "```", ""]
    return "\n".join(lines)


def studies() -> list[str]:
    """The names of the commands of `analyze`, in the order of its help."""
    names: list[str] = []

    class Parser:
        def __getattr__(self, name: str) -> Callable[..., "Parser"]:
            return lambda *args, **kwargs: Parser()

    def note(name: str, *_: str) -> Parser:
        names.append(name)
        return Parser()

    for study in STUDIES:
        study.add(note)  # type: ignore[arg-type]
    return names


def help_of(*words: str) -> str:
    """What a command prints for `--help`, the same whatever the terminal and the environment."""
    out = io.StringIO()
    plain = {"COLUMNS": str(COLUMNS), "NO_COLOR": "1"}
    with patch.dict(os.environ, plain), patch.object(sys, "argv", ["detector"]), contextlib.redirect_stdout(out):
        os.environ.pop("DETECTOR_DATASETS", None)
        with contextlib.suppress(SystemExit):
            command(words[0])[0]([*words[1:], "--help"])
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())


def backbones_page() -> str:
    """Every registered backbone with counts, published accuracy and licence (minutes: all of them are counted)."""
    rows, notes = count_backbones([], (224, 224), "bn", 0, exact=False)
    text = (
        "Every backbone with what it costs and what its authors reached, for whoever chooses one. It is what `detector "
        "info --all --format markdown` prints: counts of a classifier of 1000 classes, at 224 x 224."
    )
    licence = (
        "The licence is that of the published weights; *-* where none are published or none is stated. All code here "
        "is under the MIT licence."
    )
    return "\n".join([MADE, "# Backbones", "", text, "", licence, "", render(rows, notes, "markdown")])


def parts_page() -> str:
    """Necks, heads, data sets and shipped configs."""
    from detector.data.catalog import DATASETS, FORMS
    from detector.data.entries import MASK_FORMS
    from detector.models.heads import HEADS
    from detector.models.heads.base import STANDARDS
    from detector.models.necks import NECKS
    from detector.models.saliency import SALIENCY

    text = "What else a config names, for whoever writes one. Each name stands below with the key that takes it."
    lines = [MADE, "# Necks, heads, data, configs", "", text, ""]
    lines += ["## Heads", "", "Values of `MODEL.HEAD.NAME`.", ""]
    lines += ["| head | its neck | what it is, and its keys |", "|---|---|---|"]
    lines += [f"| `{name}` | `{STANDARDS[name].neck}` | {cell(about(HEADS[name]))} |" for name in sorted(HEADS)]
    lines += ["", "## Heads of salient objects", "", "Values of `MODEL.SALIENCY.NAME`, with `MODEL.TASK saliency`.", ""]
    lines += ["| head | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {cell(about(SALIENCY[name]))} |" for name in sorted(SALIENCY)]
    lines += ["", "## Necks", "", "Values of `MODEL.NECK.NAME`.", "", "| neck | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {cell(about(NECKS[name]))} |" for name in sorted(NECKS)]
    lines += ["", "## Data sets", "", "Entries of `DATASETS.TRAIN` and `DATASETS.TEST`.", ""]
    lines += [f"- `{name}`" for name in sorted(DATASETS)]
    lines += [
        "",
        f"Own data: {FORMS}.",
        "",
        f"With `MODEL.TASK saliency`: {MASK_FORMS}.",
        "",
        "## Shipped configs",
        "",
        "What `--config-file` takes by name.",
        "",
    ]
    lines += [f"- `{name}`" for name in shipped_configs()]
    return "\n".join([*lines, ""])


EXTENSION = {
    "Parts to build on": (
        "detector.models.backbones.Backbone",
        "detector.models.backbones.register_backbone",
        "detector.models.backbones.Weights",
        "detector.models.necks.register_neck",
        "detector.models.heads.register_head",
        "detector.models.saliency.register_saliency",
        "detector.models.saliency.SaliencyHead",
        "detector.config.declare",
        "detector.structures.Level",
    ),
}
"""Heading -> objects that a plugin uses."""


def api_page() -> str:
    """The public names, for mkdocstrings."""
    text = (
        "What `import detector` offers, for scripts and notebooks: [a first example]"
        "(../tutorials/first_run.md#from-python). Below it stands what a part of your own builds on: "
        "[how](../howto/add_a_part.md). The texts are those of the code, put in when the site is built; without it, "
        "`python -m pydoc detector.load` prints one."
    )
    lines = [MADE, "# Python", "", text, "", "## What detector offers", ""]
    lines += [f"::: {name}\n" for name in public()]
    for title, names in EXTENSION.items():
        lines += [f"## {title}", "", *(f"::: {name}\n" for name in names)]
    return "\n".join(lines)


def public() -> Iterator[str]:
    """What `import detector` offers, under the names that one types."""
    for name in detector.__all__:
        if not name.startswith("__"):
            if not getdoc(getattr(detector, name)):
                raise ValueError(f"detector.{name} has no docstring")
            yield f"detector.{name}"


def moved_page() -> str:
    """Every key of another framework that is answered, with what to write now."""
    from detector.config.moved import FRAMEWORKS

    about_it = (
        "What an error says about a key of another framework that stands in a config here, or about certain values of "
        "a key that is here too. The table of detectron2 is read first, then that of maskrcnn-benchmark, of which "
        "detectron2 has kept many keys."
    )
    words = {"*": "any", "{*": "a section", "[!{]*": "no section"}
    lines = [MADE, "# Keys of other frameworks", "", about_it]
    for framework, rows in FRAMEWORKS.items():
        lines += ["", f"## {framework}", "", "| key | value | now |", "|---|---|---|"]
        lines += [f"| `{key}` | {words.get(value, f'`{value}`')} | {cell(now)} |" for key, value, now in rows]
    return "\n".join([*lines, ""])


def kinds_page() -> str:
    """What `detector check` looks for, and the document that it prints."""
    return MADE + "\n" + kinds_body()


PAGES: dict[str, Callable[[], str]] = {
    "config.md": config_page,
    "commands.md": commands_page,
    "backbones.md": backbones_page,
    "parts.md": parts_page,
    "python.md": api_page,
    "moved.md": moved_page,
    "kinds.md": kinds_page,
}
"""File of docs/reference -> what makes it."""

FOLDER = Path(__file__).resolve().parents[2] / "docs/reference"
