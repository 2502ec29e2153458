"""Detectors that have learned a little of blood cells: what the file finds is what torch finds, all of it."""

import random
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from helpers import ROOT
from helpers.exporting import CASCADE, pictures, small
from torchvision.ops import box_iou

from detector.config import load_config
from detector.data.loader import collate
from detector.inference.export.layers import module_of
from detector.inference.prepare import merge_norms
from detector.inference.runtimes import load_exported
from detector.models.heads.refinedet import RefineDet
from detector.structures import Target
from detector.tasks.detection import train
from detector.tasks.export import export_run
from detector.tasks.trained import load_trained, run_config

BACKBONES = ("sreresnet50", "iresnet50", "res2net50_26w_4s", "resnest50", "resnet50")
HEADS = {
    "fcos": ("fcos", []),
    "refinedet": ("refinedet", ["SOLVER.BASE_LR", "0.005"]),
    "faster_rcnn": ("faster_rcnn", []),
    "cascade": ("faster_rcnn", CASCADE),
}
FURTHER = {("fcos", "sreresnet50"), ("refinedet", "resnet50"), ("cascade", "resnest50"), ("faster_rcnn", "iresnet50")}
"""Of which an OpenVINO file is made as well, and one that is split."""

SHORT = [
    *("INPUT.MIN_SIZE_TRAIN", "(128,)", "INPUT.MAX_SIZE_TRAIN", "192", "INPUT.MIN_SIZE_TEST", "160"),
    *("INPUT.MAX_SIZE_TEST", "224", "INPUT.SQUARE_SIZE", "0", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "24"),
    *("SOLVER.STEPS", "(18,)", "SOLVER.WARMUP_ITERS", "6", "SOLVER.CHECKPOINT_PERIOD", "0"),
    *("DATALOADER.NUM_WORKERS", "0", "DATASETS.TEST", "()", "MODEL.DEVICE", "cpu", "SEED", "3"),
]

BOX, SCORE, BORDER, APART = 0.05, 1e-4, 1e-4, 1e-4


def photos(folder, short, divisibility):
    """8 pictures of the test set whose shorter side is `short`, in batches of 1 and 3."""
    names = (folder / "ImageSets" / "Main" / "test.txt").read_text().split()[:8]
    items = []
    for name in names:
        image = cv2.imread(str(folder / "JPEGImages" / f"{name}.jpg"))[:, :, ::-1]
        scale = short / min(image.shape[:2])
        image = np.ascontiguousarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
        nothing = torch.zeros(0, 4)
        target = Target(boxes=nothing, labels=nothing[:, 0].long(), ignore=nothing, image_id=0, original=(1, 1), draw=0)
        items.append((torch.from_numpy(image).permute(2, 0, 1), target))
    start = 0
    for number in (1, 3) * 2:
        yield collate(items[start : start + number], divisibility)
        start += number


def compared(found, wanted):
    """The indices of the detections on either side that have none of their own on the other, and those that have."""
    near = (
        (found["labels"][:, None] == wanted["labels"])
        & ((found["scores"][:, None] - wanted["scores"]).abs() <= SCORE)
        & ((found["boxes"][:, None] - wanted["boxes"]).abs().amax(-1) <= BOX)
    )
    left, lonely, pairs = set(range(len(found["scores"]))), [], []
    for j in range(len(wanted["scores"])):
        mine = [i for i in near[:, j].nonzero()[:, 0].tolist() if i in left]
        if mine:
            pairs.append((min(mine, key=lambda i: abs(i - j)), j))
            left.discard(pairs[-1][0])
        else:
            lonely.append(j)
    return sorted(left), lonely, pairs


def unexplained(sides, lonely, threshold, limit, nms):
    """The lonely detections, (side, index), of which no border within 1e-4 says why they are.

    Such a border is the lowest score, the last rank, the overlap at which a box goes, or the order of two that overlap.
    What a box suppressed that is itself explained, or what moved up or down in rank through one, is explained too.
    """
    left = {(side, i) for side, indices in enumerate(lonely) for i in indices}
    known = set()

    def facts(one):
        side, i = one
        return (sides[side][key][i] for key in ("boxes", "labels", "scores"))

    def overlap(one, other):
        (box, label, _), (box2, label2, _) = facts(one), facts(other)
        return box_iou(box[None], box2[None]).item() if label == label2 else -1.0

    def is_explained(one):
        side, other = one[0], 1 - one[0]
        score = sides[side]["scores"][one[1]]
        there = [(other, i) for i in range(len(sides[other]["scores"]))]
        last = sides[other]["scores"][-1] if there else 0
        if abs(score - threshold) <= BORDER or (len(there) >= limit and abs(score - last) <= BORDER):
            return True
        near = [
            (overlap(one, x), x) for x in there + [(side, i) for i in range(len(sides[side]["scores"]))] if x != one
        ]
        if any(abs(iou - nms) <= BORDER for iou, _ in near):
            return True
        rivals = [x for iou, x in near if x[0] == other and x in left | known and iou > nms - BORDER]
        if any(
            abs(sides[other]["scores"][i] - score) <= BORDER or (x in known and sides[other]["scores"][i] > score)
            for x in rivals
            for i in [x[1]]
        ):
            return True
        return bool(known) and len(there) >= limit and score <= last + BORDER  # rank

    while more := {one for one in left if is_explained(one)}:
        left -= more
        known |= more
    return sorted(left)


def test_matching_is_one_to_one_and_strict():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30]])
    one = {"boxes": boxes, "labels": torch.tensor([1, 1, 2]), "scores": torch.tensor([0.9, 0.9, 0.5])}
    assert compared(one, one) == ([], [], [(0, 0), (1, 1), (2, 2)])
    for key, move in (("boxes", 0.06), ("labels", 1), ("scores", 2e-4)):
        other = {**one, key: one[key].clone()}
        other[key][2] += move
        assert compared(one, other)[:2] == ([2], [2])
    fewer = {key: value[1:] for key, value in one.items()}
    assert compared(one, fewer) == ([1], [], [(0, 0), (2, 1)])


def detections(*rows):
    """Of one class: left side, score."""
    boxes = torch.tensor([[left, 0.0, left + 10, 10.0] for left, _ in rows])
    scores = torch.tensor([score for _, score in rows])
    return {"boxes": boxes, "labels": torch.zeros(len(rows), dtype=torch.int64), "scores": scores}


@pytest.mark.parametrize(
    ("one", "other", "options", "count"),
    [
        ([(0, 0.9), (50, 0.5)], [(0, 0.9)], {}, 1),
        ([(0, 0.9), (50, 0.5)], [(0, 0.9)], {"threshold": 0.49995}, 0),
        ([(0, 0.9), (50, 0.5)], [(0, 0.9), (80, 0.50005)], {"limit": 2}, 0),  # rank
        ([(0, 0.9), (50, 0.5)], [(0, 0.9), (80, 0.51)], {"limit": 2}, 2),
        ([(0, 0.9), (2, 0.5)], [(0, 0.9)], {"nms": 2 / 3}, 0),  # overlap
        ([(0, 0.9)], [(2, 0.90005)], {}, 0),  # which is the first
        ([(0, 0.9)], [(2, 0.91)], {}, 2),
        ([(0, 0.9)], [(2, 0.90005), (-4, 0.8)], {"nms": 0.4}, 0),  # the third is suppressed by the first alone
        ([(0, 0.9)], [(2, 0.90005), (60, 0.8)], {"nms": 0.4}, 1),
    ],
)
def test_what_explains_a_lonely_detection(one, other, options, count):
    sides = detections(*one), detections(*other)
    *lonely, _ = compared(*sides)
    assert len(unexplained(sides, lonely, **{"threshold": 0.05, "limit": 100, "nms": 0.5} | options)) == count


def learned(kind, backbone, bccd, folder):
    """A run of 24 steps."""
    head, opts = HEADS[kind]
    cfg = load_config(
        ROOT / "configs" / "bccd" / f"{head}_{backbone}.yaml",
        [*SHORT, "DATASETS.TRAIN", f"voc:{bccd}:trainval", "OUTPUT_DIR", str(folder), *opts],
    )
    random.seed(0)
    train(cfg)
    return run_config(folder)


def borders(model):
    """Lowest score, detections of an image, overlap."""
    head = model.head
    names = (("inference_th", "score_thresh"), ("detections_per_img",), ("nms_th", "nms"))
    threshold, limit, nms = (next(getattr(head, name) for name in some if hasattr(head, name)) for some in names)
    if isinstance(head, RefineDet):  # of those within the limit some lie outside of the picture, and go afterwards
        limit -= 20
    return threshold, limit, nms


RAW = {
    "FCOS": ("head.cls_logits", "head.bbox_pred", "head.centerness"),
    "RefineDet": ("head.arm_cls", "head.arm_reg", "head.odm_cls", "head.odm_reg"),
    "FasterRCNN": ("head.rpn.objectness", "head.rpn.deltas"),
}
"""The last layers before anything is selected."""


def raw_nodes(path, layers):
    """What an exported ONNX file calls the outputs of the layers: (module, nodes in the order of their calls)."""
    import onnx

    nodes = {}
    for node in onnx.load(str(path)).graph.node:
        module = ".".join(module_of(node))
        if node.op_type == "Conv" and module.startswith(layers):
            nodes.setdefault(module, []).append((node.name, node.output[0]))
    return nodes


def raw_of_onnx(path, nodes):
    """A function of images and sizes: what those nodes of the file compute."""
    import onnx
    import onnxruntime

    proto = onnx.load(str(path))
    names = [output for some in nodes.values() for _, output in some]
    proto.graph.output.extend([onnx.helper.make_tensor_value_info(name, 1, None) for name in names])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda images, sizes: session.run(names, {"images": images, "sizes": sizes})


def raw_of_openvino(path, nodes):
    """As `raw_of_onnx`: the operators have the names of the nodes that they were made of."""
    import openvino

    core = openvino.Core()
    graph = core.read_model(str(path))
    names = [name for some in nodes.values() for name, _ in some]
    own = len(graph.outputs)
    graph.add_outputs([(name, 0) for name in names])
    made = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images, sizes: [*made([images, sizes]).values()][own:]


class Tap:
    """What layers of a model give; or the model's selection of what those of another runtime gave in their place.

    Where FCOS decides, its detections show by what. The proposals of two stages, RefineDet's anchors that are surely
    background and its boxes as they are before they are clipped cannot be seen in detections. Of the same raw tensors
    both have to decide alike, up to borders that can be seen.
    """

    def __init__(self, model, layers):
        self.own, self.others = {}, {}
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Conv2d) and name.startswith(layers):
                module.register_forward_hook(lambda module, inputs, output, name=name: self.take(name, output))

    def take(self, name, output):
        mine = self.own.setdefault(name, [])
        mine.append(output)
        return self.others[name][len(mine) - 1] if self.others else None

    def find(self, model, batch, others=None):
        self.own, self.others = {}, others or {}
        with torch.no_grad():
            return model(batch.images, batch.sizes)


def raw_difference(own, others):
    """The largest, as a share of the largest value of its tensor."""
    assert own.keys() == others.keys()
    worst = 0.0
    for name, some in own.items():
        assert [x.shape for x in some] == [x.shape for x in others[name]]
        assert sum(x.numel() for x in some)
        worst = max([worst, *(((x - y).abs().max() / x.abs().max()).item() for x, y in zip(some, others[name]))])
    return worst


class Exact:
    """How far raw tensors are from those that float64 gives: the farthest of either side, kept over batches.

    A repeated stage that has learned for 24 steps carries roundings of float32 to 2e-4 in torch itself. What is then
    asked of the file is that it is about as near to the truth: no farther than twice what torch is.
    """

    def __init__(self, cfg, run, layers):
        self.model = load_trained(cfg, run)[0].double()
        self.tap = Tap(self.model, layers)
        self.torch = self.file = 0.0

    def add(self, batch, own, given):
        self.tap.find(self.model, batch)
        for name, exact in self.tap.own.items():
            self.torch = max(self.torch, raw_difference({name: exact}, {name: own[name]}))
            self.file = max(self.file, raw_difference({name: exact}, {name: given[name]}))


@pytest.mark.parametrize("head", ["fcos", "refinedet", "faster_rcnn"])
def test_a_model_selects_of_the_raw_tensors_that_it_is_given(head):
    model, _ = small(head)
    layers = RAW[type(model.head).__name__]
    tap = Tap(model, layers)
    images, sizes = pictures(2, 128, 128)
    batch = SimpleNamespace(images=images, sizes=sizes)
    own = tap.find(model, batch)
    raw = tap.own
    assert {name.removesuffix(".0").rpartition(".")[2] for name in raw} >= {name.rpartition(".")[2] for name in layers}
    assert raw_difference(raw, raw) == 0
    other = SimpleNamespace(images=255 - images, sizes=sizes)
    tap.find(model, other)
    given = tap.own
    assert raw_difference(raw, given) > 0.01
    elsewhere = tap.find(model, other, raw)
    if head == "faster_rcnn":  # the box head sees other features
        assert not any(torch.equal(one["scores"], want["scores"]) for one, want in zip(elsewhere, own, strict=True))
        elsewhere = tap.find(model, batch, raw)
    assert all(torch.equal(one["boxes"], want["boxes"]) for one, want in zip(elsewhere, own, strict=True))
    changed = tap.find(model, batch, given)
    assert not any(torch.equal(one["scores"], want["scores"]) for one, want in zip(changed, own, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("kind", HEADS)
def test_all_detections_of_trained_weights(kind, backbone, bccd, tmp_path):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    cfg = learned(kind, backbone, bccd, tmp_path / "run")
    forms = {"onnx": "a.onnx"}
    if (kind, backbone) in FURTHER:
        forms |= {"openvino": "a.xml", "split": "a_split.onnx"}
    model, _, _ = load_trained(cfg, tmp_path / "run")
    merge_norms(model)  # without Winograd's filtering, as the file
    layers = RAW[type(model.head).__name__]
    tap, exact = Tap(model, layers), Exact(cfg, tmp_path / "run", layers)
    for form, name in forms.items():
        if form == "openvino":
            pytest.importorskip("openvino")
        written = "openvino" if form == "openvino" else "onnx"
        export_run(cfg, written, tmp_path / name, tmp_path / "run", split=form == "split")
        if written == "onnx":  # whose names OpenVINO's file has too
            nodes = raw_nodes(tmp_path / name, layers)
        other = load_exported(tmp_path / name)
        assert other.facts.split == (form == "split")
        raw = {"onnx": raw_of_onnx, "openvino": raw_of_openvino}[written](tmp_path / name, nodes)
        total, odd, highest, apart = 0, 0, 0.0, 0.0
        farthest, unsaid = {"boxes": 0.0, "scores": 0.0}, []
        for short in (160, 175, 224):
            for batch in photos(bccd, short, other.facts.resize.divisibility):
                wanted = tap.find(model, batch)
                values = iter(raw(batch.images.numpy(), np.array(batch.sizes, np.int64)))
                given = {name: [torch.from_numpy(next(values).copy()) for _ in some] for name, some in nodes.items()}
                apart = max(apart, gap := raw_difference(tap.own, given))
                if gap >= APART:
                    exact.add(batch, tap.own, given)
                again = wanted if kind == "fcos" else tap.find(model, batch, given)
                for one, want, selected in zip(other(batch.images, batch.sizes), wanted, again, strict=True):
                    extra, lacking, pairs = compared(one, want)
                    total, odd = total + len(want["scores"]), odd + len(extra) + len(lacking)
                    sides = one, selected
                    unsaid += [
                        (short, ("more", "less")[side], *(sides[side][key][i].tolist() for key in sides[side]))
                        for side, i in unexplained(sides, compared(*sides)[:2], *borders(model))
                    ]
                    highest = max([highest, *want["scores"].tolist()])
                    for key in farthest:
                        gaps = [(one[key][i] - want[key][j]).abs().max().item() for i, j in pairs]
                        farthest[key] = max([farthest[key], *gaps])
        print(
            f"RESULT {kind} {backbone} {form}: raw tensors {apart:.1e} apart, {total} detections, highest "
            f"{highest:.2f}, {odd} without partner, {len(unsaid)} of them unexplained; boxes "
            f"{farthest['boxes']:.1e} px, scores {farthest['scores']:.1e}"
            + f"; of float64 where apart: the file {exact.file:.1e}, torch {exact.torch:.1e}"
            * (apart >= APART)
        )
        assert apart < APART or exact.file <= 2 * exact.torch
        assert total > 300
        assert odd <= 0.005 * total
        assert not unsaid, unsaid
