"""A model card of a run: Markdown with the metadata block of the Hugging Face hub."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from detector.config import changes_text, config_text, get_defaults
from detector.config.defaults import flat
from detector.config.idle import idle_keys
from detector.engine.records import NAME as LOG
from detector.errors import UserError
from detector.evaluation.report import MEASURES, PER_CLASS
from detector.models.backbones import BACKBONES
from detector.report.arms import CONFIG, METRICS, home_of, read_config, read_settings
from detector.report.costs import cost_rows
from detector.report.runs import runs_document
from detector.report.seal import sealed
from detector.report.shown import fact, interval, measured, points, setting, sizes_text
from detector.tasks.cells import MACHINE
from detector.tasks.examined import read_metrics
from detector.tasks.measured import MEASURED
from detector.text import agreeing, counted, printable
from detector.version import __version__
from detector.weights.address import is_address, shown

WEAK = 0.2
"""AP below which a class is said to be found badly."""

FEW = 500
"""Test images below which the card says that they are few."""

MOST_CLASSES = 100
"""Whose AP stands in the table; the rest is in metrics.json."""

PART = re.compile(r"(?:^|(?<=:))(?:[A-Za-z]:(?=[/\\]))?[^:]*")
"""A part of an entry of data, between its colons; that of a Windows drive separates nothing."""

Row = Mapping[str, Any]


def card(folder: str | Path, name: str = "", licence: str = "", replicates: int = 1000) -> str:
    """The card of a run that was tested: measures with intervals, costs, data, licences, limits, use, config.

    It ends in a seal, by which the command knows a card that nobody has changed.

    folder: the run's; name: of the model, "" is the folder's; licence: of the trained weights, an identifier of the
    hub (mit, apache-2.0, other, ..), "" leaves it open; replicates: of the bootstrap.
    Raises ValueError or OSError that names folder and remedy where there is nothing tested.
    """
    folder = Path(folder)
    _check_run(folder)
    document = runs_document({"": [folder]}, [], replicates)
    (model,) = document["models"].values()
    said = read_metrics(folder / METRICS)[MEASURED]
    home = home_of(folder)
    trained, (cfg, _) = read_config(home, said), read_settings(home, said)
    name = printable(name or home.resolve().name)
    parts = [
        _metadata(name, licence, cfg, document, model),
        f"# {name}\n",
        _summary(cfg, document, model),
        _measures(document, model),
        _measured_otherwise(trained, cfg),
        _costs(cost_rows(home, said, document, model, cfg.SOLVER.IMS_PER_BATCH)),
        _data(cfg, document),
        _weights(cfg, licence),
        _limits(cfg, document, model),
        _use(said),
        _config(trained),
    ]
    return sealed("\n".join(part for part in parts if part), run_name(folder))


def run_name(folder: Path) -> str:
    """What a run's card calls it in its seal: the name of its folder."""
    return printable(home_of(folder).resolve().name)


def _check_run(folder: Path) -> None:
    """Raises ValueError for what nobody could take for a run; of the others the reader of results knows more."""
    if folder.is_file():
        raise UserError(f"RUN {folder} is a file: name one run's folder, its OUTPUT_DIR")
    places = ("", "*/")
    if folder.is_dir() and not any(any(folder.glob(at + name)) for at in places for name in (CONFIG, LOG, METRICS)):
        raise UserError(f"RUN {folder} is no run's folder: name one run's, its OUTPUT_DIR")


def _metadata(name: str, licence: str, cfg: CfgNode, document: Row, model: Row) -> str:
    values = [
        {"type": kind, "name": measure, "value": round(model[measure]["value"], 4)}
        for measure, kind in (("AP", "mAP"), ("AP50", "mAP@50"), ("AP75", "mAP@75"))
        if model[measure]["value"] is not None
    ]
    content: dict[str, Any] = {"license": licence} if licence else {}
    content |= {
        "library_name": "residet",
        "pipeline_tag": "object-detection",
        "tags": ["object-detection", cfg.MODEL.HEAD.NAME, cfg.MODEL.BACKBONE.NAME],
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "object-detection"},
                        "dataset": {"type": document["truth"], "name": document["truth"], "split": "test"},
                        "metrics": values,
                    }
                ],
            }
        ],
    }
    return f"---\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}---\n"


def _summary(cfg: CfgNode, document: Row, model: Row) -> str:
    classes = len(document["classes"])
    passes = f", each stage run {cfg.MODEL.BACKBONE.PASSES} times" if cfg.MODEL.BACKBONE.PASSES > 1 else ""
    size = f"{cfg.INPUT.SQUARE_SIZE} x {cfg.INPUT.SQUARE_SIZE}" if cfg.INPUT.SQUARE_SIZE else (
        f"shorter side {cfg.INPUT.MIN_SIZE_TEST}, longer side at most {cfg.INPUT.MAX_SIZE_TEST}"
    )  # fmt: skip
    params, macs = fact(model, "params"), fact(model, "macs")
    numbers = f" {params / 1e6:.1f} million parameters" if params else ""
    numbers += f", {macs / 1e9:.1f} billion multiply-adds an image." if params and macs else "." * bool(params)
    return (
        f"An object detector of {classes} class{'es' * (classes != 1)}: {cfg.MODEL.HEAD.NAME} on "
        f"{cfg.MODEL.BACKBONE.NAME}{passes}."
        f"{numbers} Pictures are resized to: {size} (pixels).\n"
    )


def _measures(document: Row, model: Row) -> str:
    lines = [
        "## Measures\n",
        f"On {_name(document['truth'])}: {document['images']:,} {agreeing(document['images'], 'image|images')}, "
        f"{document['objects']:,} {agreeing(document['objects'], 'object|objects')}. "
        f"{sizes_text(document)} Points of a hundred; in brackets the 95 % interval of a bootstrap over the images: "
        "how much another draw of test images would move the number. Another training (seed) would move it too.\n",
        "| measure | value |",
        "|---|---|",
        *(f"| {name} | {measured(model[name])} |" for name in MEASURES if model.get(name)),
        "",
        "| class | AP |",
        "|---|---|",
        *(f"| {_name(c)} | {measured(model.get(PER_CLASS + c))} |" for c in document["classes"][:MOST_CLASSES]),
    ]
    if (left := len(document["classes"]) - MOST_CLASSES) > 0:
        lines.append(f"\n{counted(left, 'further class|classes')}: see metrics.json.")
    return "\n".join([*lines, ""])


def _measured_otherwise(trained: CfgNode, tested: CfgNode) -> str:
    """In which settings, that have an effect, a test was another than the file of the weights has it; "" for none."""
    own, idle = flat(shareable(trained)), idle_keys(tested)
    other = {key: value for key, value in flat(shareable(tested)).items() if value != own[key] and key not in idle}
    if not other:
        return ""
    rows = [f"| `{key}` | {_name(setting(value))} | {_name(setting(own[key]))} |" for key, value in other.items()]
    return "\n".join([
        "Measured with other settings than the file of the weights holds; whoever loads it gets the file's:\n",
        "| setting | measured with | in the file |",
        "|---|---|---|",
        *rows,
        "",
    ])  # fmt: skip


def _costs(rows: Sequence[tuple[str, str]]) -> str:
    lines = [
        "## Size and speed\n",
        "| | |",
        "|---|---|",
        *(f"| {what} | {text.replace('|', '/')} |" for what, text in rows),
    ]
    return "\n".join([*lines, ""]) if rows else ""


def _data(cfg: CfgNode, document: Row) -> str:
    return "\n".join([
        "## Data\n",
        f"Trained on {_list(shareable(cfg).DATASETS.TRAIN)}; tested on {_list(shareable(cfg).DATASETS.TEST)}.",
        f"Classes: {_list(document['classes'])}.",
        "",
    ])  # fmt: skip


def _weights(cfg: CfgNode, licence: str) -> str:
    return "\n".join([
        "## Licences\n",
        f"- Trained weights: {licence or 'not stated by whoever made this card'}.",
        f"- Weights that the training began from: {origin_of_weights(cfg)}",
        *_teacher(cfg),
        "- Training code: MIT.",
        "- Data: their owner's; ask there.",
        "",
    ])  # fmt: skip


def _teacher(cfg: CfgNode) -> list[str]:
    """What the training learned from, too, in a line; none without a teacher."""
    if not cfg.DISTILL.TEACHER:
        return []
    name = _name(_last(cfg.DISTILL.TEACHER))
    return [f"- It learned from a teacher, {name}, of weights that this card does not know: look where they are from."]


def origin_of_weights(cfg: CfgNode) -> str:
    """What a training began from and under which licence, in a sentence."""
    weight, name = cfg.MODEL.WEIGHT, cfg.MODEL.BACKBONE.NAME
    if weight == "":
        return "none, the network was trained from random numbers."
    if weight != "imagenet":
        known = _name(_last(weight) if not is_address(weight) else _place(weight))
        return f"{known}; its licence is not known to this card: look where it is from."
    licence = BACKBONES[name].weights.licence if name in BACKBONES else ""
    known = f"licence {licence}" if licence else "whose licence its publisher does not state"
    return f"the published ImageNet weights of {name}, {known}. ImageNet's pictures are for research."


def _limits(cfg: CfgNode, document: Row, model: Row) -> str:
    lines = ["## What it must not be used for\n"]
    weight = cfg.MODEL.WEIGHT == "imagenet" and cfg.MODEL.BACKBONE.NAME in BACKBONES
    if weight and "non-commercial" in BACKBONES[cfg.MODEL.BACKBONE.NAME].weights.licence.lower():
        lines.append("- Commercial work: the weights that it began from are for non-commercial use.")
    lines += [
        "- Pictures of another kind than those that it was trained on: another camera, scale, season or place was not "
        "measured.",
        "- Decisions that hurt people where they are wrong (health, safety, law, employment), without measures of your "
        "own on the pictures of that use and a person who checks.",
        "- To recognise, follow or judge persons.",
    ]
    rows = [(c, model.get(PER_CLASS + c) or {}) for c in document["classes"]]
    if weak := [c for c, row in rows if row.get("value") is not None and row["value"] < WEAK]:
        lines.append(f"- To find {_list(weak)}: AP below {points(WEAK)}.")
    if untold := [c for c, row in rows if row.get("value") is None]:
        lines.append(f"- To find {_list(untold)}: the test has none, so nothing is known.")
    if document["images"] < FEW:
        width = interval(model["AP"])
        wide = f": AP lies between {points(width[0])} and {points(width[1])}" if width else ""
        lines.append(
            f"- To rank it among others by its AP alone: {document['images']:,} test "
            f"{agreeing(document['images'], 'image|images is|are')} few{wide}."
        )
    return "\n".join([*lines, ""])


def _use(said: Mapping[str, Any]) -> str:
    weight = _last(_place(str(said.get("weight") or "model_final.pth")))
    of = "weights that lie in no file" if said.get("weight") == "" else f"`{weight}`"  # of the middle of a training
    versions = ", ".join(f"{name} {version}" for name, version in (said.get("versions") or {}).items())
    return "\n".join([
        "## Use\n",
        "```python",
        "import detector  # of the package residet",
        "",
        f'for result in detector.load("{weight}")("photo.jpg"):',
        "    print(result.names, result.scores, result.boxes)",
        "```",
        "",
        f"Measured: {of}, sha256 of its tensors `{said.get('digest')}`, step {said.get('step')}, "
        f"{said.get('date')}; {versions}.",
        "",
    ])  # fmt: skip


def _config(cfg: CfgNode) -> str:
    """What a reader has to know of the config: what is not as by default; the rest folded up."""
    cfg = shareable(cfg)
    own, defaults = cfg.clone(), flat(get_defaults())
    for key in {*MACHINE} - {"SEED"}:
        own.merge_from_list([key, defaults[key]])
    return "\n".join([
        "## Config\n",
        f"What differs from the defaults of residet {__version__}. The file of the weights holds the whole config.\n",
        "```yaml",
        changes_text(own).rstrip(),
        "```",
        "",
        "<details><summary>Every key</summary>\n",
        "```yaml",
        config_text(cfg).rstrip(),
        "```",
        "",
        "</details>",
        "",
    ])  # fmt: skip


def shareable(cfg: CfgNode) -> CfgNode:
    """The config without what only its owner may know.

    Of paths that are absolute, or lead out of the working directory, the last name stays; of addresses all but user,
    password and query.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = f"output/{Path(cfg.OUTPUT_DIR).name}"
    cfg.DATASETS.ROOT = "datasets"
    cfg.MODEL.WEIGHT = _place(cfg.MODEL.WEIGHT)
    cfg.DISTILL.TEACHER = _inside(cfg.DISTILL.TEACHER)
    for part in ("TRAIN", "TEST"):
        cfg.DATASETS[part] = tuple(PART.sub(lambda found: _inside(found[0]), entry) for entry in cfg.DATASETS[part])
    return cfg


def _place(weight: str) -> str:
    """Where weights are from: an address without user, password and query, or a path as `_inside` has it."""
    if not is_address(weight) or weight.lower().startswith("file:"):
        return _inside(re.sub("^file://", "", weight, flags=re.IGNORECASE))
    return re.split("[?#]", shown(weight))[0]


def _inside(path: str) -> str:
    """A path below the working directory as it is, of another one the last name."""
    out = re.match(r"[/\\~]|[A-Za-z]:[/\\]", path) or ".." in re.split(r"[/\\]", path)
    return _last(path) if out else path


def _last(path: str) -> str:
    """The last name of a path of any system; "." where that is a home, or none."""
    names = [name for name in re.split(r"[/\\]", path) if name not in ("", ".", "..") and name[:1] != "~"]
    return names[-1] if names else "."


def _list(names: Sequence[str]) -> str:
    return ", ".join(_name(name) for name in names)


def _name(text: str) -> str:
    """A name of a file or a class, as Markdown shows it letter by letter, in tables too."""
    return f"`{printable(text).replace('`', chr(39)).replace('|', '/')}`"
