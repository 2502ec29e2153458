"""The YAML files of the repository, and the keys that they may set."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ROOT

import detector
from detector.config import get_defaults, load_config
from detector.config.defaults import flat
from detector.config.reading import read_layers
from detector.config.values import sections_of, value_of
from detector.models.build import resolve_parts
from detector.tasks.resolve import resolve

PACKAGE = Path(detector.__file__).parent
FILES = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_loads(path):
    assert load_config(path).is_frozen()


def test_the_base_is_fcos_as_published():
    cfg = load_config(ROOT / "configs/base/fcos.yaml")
    assert cfg.MODEL.FCOS == get_defaults().MODEL.FCOS
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER) == (16, 0.01, 90000)
    assert (cfg.SOLVER.WARMUP_METHOD, cfg.SOLVER.WARMUP_FACTOR) == ("constant", 1 / 3)


def test_the_base_is_faster_rcnn_as_published():
    cfg = load_config(ROOT / "configs/base/faster_rcnn.yaml")
    for section in ("RPN", "ROI_HEADS", "ROI_BOX_HEAD"):
        assert cfg.MODEL[section] == get_defaults().MODEL[section]
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER) == (16, 0.02, 90000)
    assert (cfg.SOLVER.WARMUP_METHOD, cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.BIAS_LR_FACTOR) == ("linear", 500, 2)
    neck = resolve_parts(cfg).MODEL.NECK
    assert (neck.NAME, neck.SOURCES, neck.EXTRA_LEVELS) == ("fpn", ("c2", "c3", "c4", "c5"), "maxpool")


def test_the_bases_are_refinedet_as_published():
    defaults = get_defaults().MODEL.REFINEDET
    coco, voc, deep = (
        resolve_parts(load_config(ROOT / f"configs/base/{name}.yaml"))
        for name in ("refinedet", "refinedet_voc", "refinedet_bottleneck")
    )
    for cfg in (coco, voc):
        assert cfg.MODEL.REFINEDET == defaults
        assert (cfg.MODEL.NECK.EXTRA_LEVELS, cfg.MODEL.NECK.L2NORM_SCALES) == ("c6", (10, 8))
    assert (coco.SOLVER.STEPS, coco.SOLVER.MAX_ITER) == ((280000, 360000), 400000)
    assert (voc.SOLVER.STEPS, voc.SOLVER.MAX_ITER) == ((80000, 100000), 120000)
    assert (coco.MODEL.NUM_CLASSES, voc.MODEL.NUM_CLASSES, voc.DATASETS.TRAIN_DIFFICULT) == (80, 20, "yes")
    assert voc.DATASETS.TRAIN == ("voc_2007_trainval", "voc_2012_trainval")
    assert (deep.MODEL.NECK.L2NORM_SCALES, deep.MODEL.NECK.NORM, deep.MODEL.REFINEDET.NORM) == ((), "bn", "bn")
    for cfg in (coco, voc, deep):
        assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY) == (32, 0.001, 0.0005)
        assert (cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.BIAS_LR_FACTOR, cfg.SOLVER.WEIGHT_DECAY_BIAS) == (0, 2, 0)
        assert (cfg.INPUT.AUGMENTATION, cfg.INPUT.SQUARE_SIZE, cfg.DATALOADER.SIZE_DIVISIBILITY) == ("ssd", 320, 64)
        assert (cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT, cfg.TEST.DETECTIONS_PER_IMG) == (0, 500)


REFINEDET = sorted((ROOT / "configs/refinedet").glob("*.yaml"))


@pytest.mark.parametrize("path", REFINEDET, ids=lambda path: path.stem)
def test_refinedets_names_and_schedules_agree(path):
    cfg = resolve_parts(load_config(path))
    assert cfg.MODEL.HEAD.NAME == "refinedet"
    assert cfg.OUTPUT_DIR == f"output/refinedet_{path.stem}"
    form = path.stem.removeprefix(cfg.MODEL.BACKBONE.NAME + "_").removesuffix("_1080")
    assert form == f"{'voc' if cfg.MODEL.NUM_CLASSES == 20 else 'coco'}{cfg.INPUT.SQUARE_SIZE}"
    assert (cfg.MODEL.REFINEDET.PREDICTOR_BOTTLENECK, cfg.MODEL.NECK.EXTRA_LEVELS) == (
        (True, "c6_bottleneck") if cfg.MODEL.BACKBONE.NAME == "resnet101_caffe" else (False, "c6")
    )
    if not path.stem.endswith("_1080"):
        return
    # One card: the linear rule.
    published = load_config(path.with_name(path.name.replace("_1080", "")))
    factor = published.SOLVER.IMS_PER_BATCH / 8
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR) == (8, pytest.approx(0.001 / factor))
    assert cfg.SOLVER.STEPS == tuple(step * factor for step in published.SOLVER.STEPS)
    assert cfg.SOLVER.MAX_ITER == published.SOLVER.MAX_ITER * factor


HEADED = [p for p in FILES if p.parent.name in ("fcos", "faster_rcnn")]


@pytest.mark.parametrize("path", HEADED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_names_agree(path):
    cfg, head = load_config(path), path.parent.name
    assert cfg.MODEL.HEAD.NAME == head
    assert path.stem.startswith(cfg.MODEL.BACKBONE.NAME + "_")
    assert cfg.OUTPUT_DIR == f"output/{head}_{path.stem}"
    images = 2 if path.stem.endswith("1080") else 16
    passes = 2 if path.stem.endswith("_2x") else 1
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER * images) == (images, passes * 1440000)
    if images == 2:  # one card of 8 GB, the same schedule for every backbone
        assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY) == (0.0025, 0.0001)
        assert cfg.SOLVER.STEPS == (480000, 640000)


BCCD = [p for p in FILES if p.parent.name == "bccd"]


@pytest.mark.parametrize("path", BCCD, ids=lambda path: path.stem)
def test_names_of_blood_cell_configs_agree(path):
    cfg = load_config(path)
    assert path.stem == f"{cfg.MODEL.HEAD.NAME}_{cfg.MODEL.BACKBONE.NAME}"
    assert cfg.OUTPUT_DIR == f"output/bccd_{path.stem}"
    assert (cfg.MODEL.WEIGHT, cfg.MODEL.BACKBONE.NORM, cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT) == ("", "bn", 0)
    assert (cfg.MODEL.NUM_CLASSES, len(path.read_text().splitlines())) == (0, 3)


def test_blood_cells_are_learned_by_the_settings_of_the_benchmark():
    cfg = load_config(ROOT / "configs/bccd/fcos_resnet18.yaml")
    assert (cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN) == ((240,), 320)
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == (240, 320)
    solver = cfg.SOLVER
    assert (solver.IMS_PER_BATCH, solver.MAX_ITER, solver.STEPS, solver.GAMMA) == (4, 1000, (800,), 0.1)
    assert (solver.BASE_LR, solver.MOMENTUM, solver.WARMUP_ITERS, solver.CLIP_GRAD_NORM) == (0.01, 0.9, 100, 10)
    assert solver.WEIGHT_DECAY == solver.WEIGHT_DECAY_BIAS == 1e-4
    assert (solver.OPTIMIZER, solver.BIAS_LR_FACTOR, solver.AMP) == ("sgd", 1, "off")


def test_own_data_is_learned_in_epochs_with_the_classes_it_has():
    for head, rate in (("fcos", 0.01), ("faster_rcnn", 0.02)):
        cfg = load_config(f"own/{head}_resnet50")
        assert (cfg.MODEL.HEAD.NAME, cfg.MODEL.WEIGHT, cfg.MODEL.NUM_CLASSES) == (head, "imagenet", 0)
        solver = resolve(cfg, 3, batches_per_epoch=75).SOLVER  # of 300 pictures
        assert (solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS, solver.TEST_PERIOD) == (2250, (1500, 2000), 112, 75)
        assert (solver.IMS_PER_BATCH, solver.BASE_LR) == (4, pytest.approx(rate / 4))


def test_pictures_are_learned_by_heart_from_scratch_whatever_their_classes():
    cfg = load_config("own/overfit")
    assert (cfg.MODEL.WEIGHT, cfg.MODEL.NUM_CLASSES, cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT) == ("", 0, 0)
    assert (cfg.SOLVER.SCHEDULE, cfg.SOLVER.MAX_ITER, cfg.OUTPUT_DIR) == ("cosine", 1000, "output/overfit")


ANYWHERE = ("schedule", "data")  # files that say all of their numbers, whatever stands before them


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name not in ANYWHERE], ids=lambda path: path.stem)
def test_no_line_says_what_its_bases_or_the_defaults_say(path):
    *below, own = read_layers(path)
    before = flat(get_defaults())
    for layer in below:
        before.update(layer_values(layer))
    own = layer_values(own)
    own.pop("MODEL.BACKBONE.NAME", None)  # which the file's name promises
    assert not [key for key, value in own.items() if before[key] == value]


def layer_values(layer):
    defaults = flat(get_defaults())
    return {key: value_of(key, value, defaults, sections_of(defaults)) for key, value in layer.pairs}


def test_no_schedule_stands_in_two_files():
    solver = [line for p in FILES for line in p.read_text().splitlines() if line.startswith("SOLVER:") and "{" in line]
    assert len(solver) == len(set(solver))


def reads(tree: ast.Module) -> Iterator[str]:
    """The dotted upper-case ends of all accesses, e.g. "SOLVER.AMP"; names given to sections are followed.

    `cfg.DATASETS[part]` reads the keys of that section whose names stand as texts in the same file.
    """
    words = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and str(n.value).isupper()}
    for statement in tree.body:
        for scope in statement.body if isinstance(statement, ast.ClassDef) else [statement]:
            yield from reads_in(scope, words)


def reads_in(scope: ast.AST, words: set[str]) -> Iterator[str]:
    sections = {
        node.targets[0].id: chain(node.value, {})
        for node in ast.walk(scope)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and chain(node.value, {})
    }
    for node in ast.walk(scope):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield ".".join(chain(node, sections))
        if isinstance(node, ast.Subscript) and chain(node.value, sections):
            yield from (".".join([*chain(node.value, sections), word]) for word in words)


def chain(node: ast.AST, sections: dict[str, list[str]]) -> list[str]:
    if isinstance(node, ast.Attribute):
        return [*chain(node.value, sections), node.attr] if node.attr.isupper() else []
    return sections.get(node.id, []) if isinstance(node, ast.Name) else []


def test_reads_follows_sections():
    code = (
        "def f(cfg):\n    node = cfg.MODEL.NECK\n    node.OUT = 1\n"
        "    print(node.NAME, self.cfg.SOLVER.AMP, solver.STEPS)\n"
        "class C:\n    def f(self, cfg):\n        node = cfg.TEST\n        return node.AMP\n"
        "def g(cfg, part='TRAIN'):\n    return cfg.DATASETS[part]\n"
    )
    found = set(reads(ast.parse(code)))
    assert {"MODEL.NECK.NAME", "SOLVER.AMP", "STEPS", "TEST.AMP", "DATASETS.TRAIN"} <= found
    assert not {"MODEL.NECK.OUT", "TEST.NAME", "MODEL.NECK.AMP", "AMP"} & found


def test_every_key_is_read_by_some_source_file():
    sources = [p for p in PACKAGE.rglob("*.py") if PACKAGE / "config" not in p.parents]
    found = {read for p in sources for read in reads(ast.parse(p.read_text(encoding="utf-8"))) if read}
    unread = [key for key in flat(get_defaults()) if not any(("." + key).endswith("." + read) for read in found)]
    assert not unread, f"no source file under detector/ reads {', '.join(unread)}"


def test_a_distilled_backbone_has_rates_of_its_own():
    cfg = load_config(ROOT / "configs/faster_rcnn/res2net50_vd_26w_4s_1x.yaml")
    assert cfg.SOLVER.STAGE_LR_FACTORS == (0.05, 0.05, 0.05, 0.1, 0.15)
    assert (cfg.MODEL.BACKBONE.NAME, cfg.MODEL.WEIGHT) == ("res2net50_vd_26w_4s", "imagenet")
    plain = load_config(ROOT / "configs/faster_rcnn/res2net50_v1b_26w_4s_1x.yaml")
    same = {key for key, value in flat(plain).items() if flat(cfg)[key] != value}
    assert same == {"SOLVER.STAGE_LR_FACTORS", "MODEL.BACKBONE.NAME", "OUTPUT_DIR"}
