"""A step that is counted holds what a real one holds."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from detector.analysis.memory import Ledger
from detector.config import load_config
from detector.models.build import build_detector
from detector.models.heads import HEADS
from detector.ops.winograd_rows import conv_by_rows
from detector.tasks.footprint import BOXES, PARTS, Footprint, Step
from detector.tasks.solver import build_optimizer

SIZE = (64, 128)
SMALL = [
    *("MODEL.NUM_CLASSES", "3", "MODEL.NECK.OUT_CHANNELS", "64", "MODEL.REFINEDET.TCB_CHANNELS", "64"),
    *("MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", "64", "MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "0"),
]


def config(head, backbone, *opts):
    return load_config(f"base/{head}", [*SMALL, "MODEL.BACKBONE.NAME", backbone, *opts])


def real_peak(cfg, step):
    """The most that the tensors of a second step hold, which are real ones."""
    torch.manual_seed(0)
    model = build_detector(cfg).train()
    model.backbone.set_recomputed(step.stages)
    optimizer = build_optimizer(cfg.SOLVER, model)
    corner = torch.rand(BOXES, 2) * torch.tensor([SIZE[1], SIZE[0]]) / 2
    boxes = torch.cat([corner, corner + 4 + 20 * torch.rand(BOXES, 2)], 1)
    target = {"boxes": boxes, "labels": torch.randint(3, (BOXES,)), "ignore": torch.zeros(0, 4)}
    target |= {"image_id": 0, "original": SIZE, "draw": 1}
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        with Ledger() as ledger:
            for tensor in [*model.parameters(), *model.buffers()]:
                ledger.note(tensor)
            for state in optimizer.state.values():
                for value in state.values():
                    if isinstance(value, torch.Tensor):
                        ledger.note(value)
            images = torch.zeros(step.images, 3, *SIZE, dtype=torch.uint8)
            for part in images.chunk(step.parts):
                with torch.autocast("cpu", torch.bfloat16, enabled=step.precision != "off"):
                    losses = model(part, [SIZE] * len(part), [target] * len(part))
                total = torch.stack([loss.float() for loss in losses.values()]).sum()
                del losses
                total.backward()
            optimizer.step()
    return ledger.peak


@pytest.mark.slow
def test_it_counts_what_deformable_stages_hold():
    opts = ("MODEL.BACKBONE.DEFORM_STAGES", "(False, True, True, True)", "SOLVER.AMP", "bf16")
    cfg, step = config("fcos", "resnet10", *opts), Step(2, SIZE, precision="bf16")
    found = Footprint(cfg).peak(step).total
    assert found == pytest.approx(real_peak(cfg, step), rel=0.02)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    "backbone", ["resnet10", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnest50", "vgg16_bn"))]
)
def test_it_counts_what_a_real_step_holds(head, backbone):
    cfg, step = config(head, backbone), Step(2, SIZE)
    assert Footprint(cfg).peak(step).total == pytest.approx(real_peak(cfg, step), rel=0.02)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"precision": "bf16"}, marks=pytest.mark.slow),
        pytest.param({"stages": (1, 2, 3, 4)}, marks=pytest.mark.slow),
        pytest.param({"images": 4, "parts": 2}, marks=pytest.mark.slow),
        {"images": 4, "parts": 2, "stages": (2, 3), "precision": "bf16"},
    ],
)
def test_so_it_does_with_what_saves_memory(more):
    cfg = config("fcos", "resnet18", "MODEL.BACKBONE.NORM", "bn", "SOLVER.OPTIMIZER", "adamw")
    step = Step(**{"images": 2, "size": SIZE, **more})
    found = Footprint(cfg).peak(step)
    assert found.total == pytest.approx(real_peak(cfg, step), rel=0.02)


def test_convolutions_by_rows_leave_nothing():
    with FakeTensorMode(), Ledger() as ledger:
        x, weight = (torch.empty(shape, requires_grad=True) for shape in ((1, 64, 32, 32), (64, 64, 3, 3)))
        inputs = ledger.total
        y = conv_by_rows(x, weight)
        assert ledger.total == inputs + 4 * y.numel()
        y.sum().backward()
        del y
        assert ledger.total == 2 * inputs  # and their gradients


@pytest.mark.slow
def test_a_cascade_keeps_its_number_of_regions():
    opts = ("MODEL.ROI_HEADS.CASCADE_IOUS", "0.5,0.6,0.7", "MODEL.CLS_AGNOSTIC_BBOX_REG", "True")
    cfg, step = config("faster_rcnn", "resnet10", *opts), Step(2, SIZE)
    assert Footprint(cfg).peak(step).total == pytest.approx(real_peak(cfg, step), rel=0.1)


def test_parts_add_up_and_are_what_they_are_called():
    cfg = config("fcos", "resnet10")
    found = Footprint(cfg).peak(Step(8, (512, 512)))
    assert sum(found.parts.values()) == found.total
    assert list(found.parts) == [name for name in PARTS if name in found.parts]
    weights = sum(p.numel() * 4 for p in build_detector(cfg).parameters())
    assert found.parts["optimiser"] == weights  # the momentum
    assert weights < found.parts["weights"] < 1.01 * weights  # with buffers
    assert found.parts["backbone"] > found.parts["head"] > found.parts["neck"] > 0
    # pixels, and the same in float32; what assigns boxes is none of them
    assert found.parts["images"] == pytest.approx(5 * 8 * 3 * 512**2, abs=4096)
    assert "average" not in found.parts
    other = Footprint(config("fcos", "resnet10", "SOLVER.OPTIMIZER", "adamw", "SOLVER.EMA_DECAY", "0.99"))
    averaged = other.peak(Step(8, (512, 512)))
    assert averaged.parts["optimiser"] == pytest.approx(2 * weights, rel=1e-4)
    assert averaged.parts["average"] == averaged.parts["weights"]


def test_micro_batches_begin_with_gradients():
    footprint = Footprint(config("fcos", "resnet10"))
    whole, half = (footprint.peak(Step(8, (256, 256), parts=parts)) for parts in (1, 2))
    assert half.parts["gradients"] == half.parts["optimiser"]
    assert half.parts["backbone"] < 0.6 * whole.parts["backbone"]
    assert footprint.peak(Step(7, (256, 256), parts=2)).parts["backbone"] == half.parts["backbone"]  # 4 and 3


def test_stages_that_are_frozen_save_nothing():
    assert Footprint(config("fcos", "resnet10")).recomputable == [1, 2, 3, 4]
    frozen = config("fcos", "resnet10", "MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "3")
    footprint = Footprint(frozen)
    assert footprint.recomputable == [3, 4]
    plain, again = (footprint.peak(Step(2, (256, 256), stages=stages)) for stages in ((), (1, 2)))
    assert plain == again


def test_attention_needs_two_images_where_its_norms_are_trained():
    assert Footprint(config("fcos", "resnest50", "MODEL.BACKBONE.NORM", "bn")).least == 2
    assert Footprint(config("fcos", "resnest50")).least == 1


@pytest.mark.parametrize("head", HEADS)
def test_a_test_holds_what_stays_a_copy_and_its_maps(head):
    cfg = config(head, "resnet10", "SOLVER.OPTIMIZER", "adamw")
    model = build_detector(cfg).eval()
    weights = [*model.parameters(), *model.buffers()]
    trained = [p for p in model.parameters() if p.requires_grad]
    with Ledger() as ledger, torch.no_grad():
        for tensor in weights:
            ledger.note(tensor)
        standing = [w.clone() for w in (*weights, *trained, *trained, *trained)]
        images = torch.zeros(2, 3, *SIZE, dtype=torch.uint8)
        features = model.neck(model.backbone(model.normalize(images, [SIZE] * 2)))
        getattr(model.head, "fixed_forward", model.head)(features)
    assert len(standing) == len(weights) + 3 * len(trained)  # the copy; gradients, and two moments
    assert Footprint(cfg).test(2, SIZE, "off") == pytest.approx(ledger.peak, rel=0.01)
