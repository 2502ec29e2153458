"""Two processes, and micro-batches, make the steps that one process makes."""

import json

import pytest
import torch
from helpers.ranks import course, courses, torchrun
from helpers.runs import same_bits

from detector.errors import UserError
from detector.models.build import build_detector, resolve_parts
from detector.structures import Whole
from detector.tasks import detection
from detector.tasks.detection import DetectionTask, start
from detector.tasks.several import to_device

SMALL = (
    *("MODEL.NECK.OUT_CHANNELS", 64, "MODEL.FCOS.NUM_CONVS", 1, "SOLVER.IMS_PER_BATCH", 4),
    *("MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", 16, "MODEL.RPN.POST_NMS_TOP_N_TRAIN", 50),
    *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 16, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16),
    *("MODEL.REFINEDET.TCB_CHANNELS", 32, "SOLVER.BASE_LR", 0.01),
)
HEADS = ("fcos", "faster_rcnn", "refinedet")
LONG = ("SOLVER.MAX_ITER", 10, "SOLVER.STEPS", "(8,)", "DATASETS.TEST", "()")


@pytest.fixture
def small(tiny, tmp_path):
    """small(name, head, norm, *opts): a tiny config of four images a step, which writes to a folder of this name."""

    def build(name, head="fcos", norm="frozen_bn", *opts):
        parts = ("MODEL.HEAD.NAME", head, "MODEL.BACKBONE.NORM", norm)
        return tiny(*SMALL, *parts, *opts, "OUTPUT_DIR", tmp_path / "one" / name)

    return build


def largest_difference(got, want):
    return max((got[key].double() - value.double()).abs().max().item() for key, value in want.items())


def assert_same_course(got, want, *, loss=1e-9, weights=1e-8, steps=None, name=""):
    """steps: that are compared by their losses, None for all."""
    assert got["seen"] == want["seen"], name
    assert len(got["terms"]) == len(want["terms"])
    for step, (ours, theirs) in enumerate(zip(got["terms"][:steps], want["terms"], strict=False)):
        assert ours == pytest.approx(theirs, rel=loss, abs=loss), (name, step)
    assert largest_difference(got["model"], want["model"]) < weights, name


def test_two_processes_make_the_steps_of_one(small, tmp_path):
    """In float64, where nothing but an error could make a difference.

    Odd numbers of images; micro-batches; a process whose image has no box; trained norms; and a test of one's weights.
    """
    short = ("SOLVER.MAX_ITER", 3, "SOLVER.STEPS", "()", "DATASETS.TEST", "()")
    jobs = {
        "odd": small("odd", "fcos", "sync_bn", *short, "SOLVER.IMS_PER_BATCH", 5),
        "turns": small("turns", "faster_rcnn", "frozen_bn", *short, "SOLVER.ACCUM_ITERS", 2),
        "empty": small("empty", "refinedet", "sync_bn", *short, "SOLVER.IMS_PER_BATCH", 2),
    }
    tested = small("tested", "fcos", "gn", "TEST.IMS_PER_BATCH", 1, "MODEL.FCOS.INFERENCE_TH", 0.005)
    weights = tmp_path / "weights.pth"
    torch.save({"model": build_detector(resolve_parts(tested)).state_dict(), "classes": ["dark", "light"]}, weights)
    low = ("MODEL.FCOS.INFERENCE_TH", 0.005, "TEST.IMS_PER_BATCH", 1)
    last = ("SOLVER.MAX_ITER", 3, "SOLVER.STEPS", "()", "SOLVER.EMA_DECAY", 0.5)
    apart = small("apart", "fcos", "bn", *low, *last)
    kinds = {name: (cfg, True) for name, cfg in jobs.items()}
    kinds |= {"tested": (tested, str(weights)), "apart": (apart, False)}
    two = courses(tmp_path / "two", kinds)
    for name, cfg in jobs.items():
        if name != "turns":
            assert_same_course(two[name], course(cfg, double=True), name=name)
            continue
        want = course(small("one_turn", "faster_rcnn", "frozen_bn", *short), double=True)
        assert two[name]["seen"].partition("]], [[")[0] == want["seen"].partition("]], [[")[0]
        for key in ("loss_objectness", "loss_rpn_box_reg"):
            assert two[name]["terms"][0][key] == pytest.approx(want["terms"][0][key], rel=1e-9)
    want = detection.test(tested, weights)
    assert two["tested"] == [want, want]
    one, both = ((tmp_path / place / "tested" / "results.json").read_bytes() for place in ("one", "two"))
    assert one == both
    # Norms that each process measures by itself: what the training tested is what it kept.
    within = json.loads((tmp_path / "two" / "apart" / "results.json").read_bytes())
    detection.test(small("afterwards", "fcos", "bn", *low), tmp_path / "two" / "apart" / "model_final.pth")
    after = next((tmp_path / "one" / "afterwards").glob("results*.json"))
    assert json.loads(after.read_bytes()) == within != []
    assert len(json.loads(one)) > 10


@pytest.mark.slow
def test_two_processes_make_the_steps_of_one_with_every_head_and_norm(small, tmp_path):
    jobs = {f"{h}_{n}": (small(h + n, h, n, *LONG), True) for h in HEADS for n in ("frozen_bn", "sync_bn")}
    jobs["float"] = small("float", "fcos", "frozen_bn", *LONG), False
    two = courses(tmp_path / "two", jobs)
    for name, (cfg, double) in jobs.items():
        want = course(cfg, double)
        assert len(want["terms"]) == 10
        if double:
            assert_same_course(two[name], want, name=name)
        else:
            assert_same_course(two[name], want, loss=1e-5, weights=1e-4, steps=1, name=name)


@pytest.mark.slow
def test_two_processes_compute_activations_again(small, tmp_path):
    """Trained norms of both measure once, though the backward pass runs the blocks a second time."""
    opts = ("SOLVER.MAX_ITER", 3, "SOLVER.STEPS", "()", "DATASETS.TEST", "()", "MODEL.BACKBONE.PASSES", 2)
    again = small("again", "fcos", "sync_bn", *opts, "MODEL.BACKBONE.CHECKPOINT_STAGES", "(1, 2, 3, 4)")
    two = courses(tmp_path / "two", {"again": (again, True)})
    assert_same_course(two["again"], course(small("plain", "fcos", "sync_bn", *opts), double=True))


@pytest.mark.slow
def test_four_processes_and_turns_see_the_same(small, tmp_path):
    """Images, augmentation, padding and sampled anchors of 1 x 4, 2 x 2, 4 x 1 images and of 1, 2 and 4 turns."""
    first = ("SOLVER.MAX_ITER", 1, "SOLVER.STEPS", "()", "DATASETS.TEST", "()", "SOLVER.ACCUM_ITERS")
    want = course(small("one", "faster_rcnn", "frozen_bn", *first, 1))["seen"]
    assert len(json.loads(want)[0]) == 4 == len(json.loads(want)[1])
    for turns in (2, 4):
        assert course(small(f"turns{turns}", "faster_rcnn", "frozen_bn", *first, turns))["seen"] == want
    for number, turns in ((2, 1), (2, 2), (4, 1)):
        name = f"p{number}t{turns}"
        jobs = {name: (small(name, "faster_rcnn", "frozen_bn", *first, turns), False)}
        assert courses(tmp_path / name, jobs, number)[name]["seen"] == want


@pytest.mark.parametrize("turns", [2, 3])
def test_turns_make_the_same_step_where_targets_decide(small, turns):
    """FCOS: both of its normalisers are the targets'. Three turns of four images are of two, one and one."""
    short = ("SOLVER.MAX_ITER", 3, "SOLVER.STEPS", "()", "DATASETS.TEST", "()")
    want = course(small("whole", "fcos", "gn", *short), double=True)
    got = course(small("turns", "fcos", "gn", *short, "SOLVER.ACCUM_ITERS", turns), double=True)
    assert_same_course(got, want)


@pytest.mark.parametrize("head", ["faster_rcnn", "refinedet"])
def test_what_predictions_decide_divides_the_losses_of_its_own_turn(small, tmp_path, head):
    """The rule beside SOLVER.ACCUM_ITERS, spelled out: the targets' numbers are of the whole step, the others' not."""
    every = ("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 4096)  # all anchors, whose number is not the same in all images
    cfg = small("rule", head, "frozen_bn", "SOLVER.MAX_ITER", 1, "SOLVER.STEPS", "()", "DATASETS.TEST", "()", *every)
    task = DetectionTask.from_config(cfg)
    model = start(task, tmp_path / "unused").model.double()
    batch = next(iter(task.batches(0, 1)))
    parts = task.parts(batch, 2)
    assert [part.images.shape[0] for part in parts] == [2, 2]
    assert [t["image_id"] for part in parts for t in part.targets] == [
        batch.targets[i]["image_id"] for i in (0, 2, 1, 3)
    ]
    whole = task.losses(model, batch)
    turns = [task.losses(model, part) for part in parts]
    alone = [task.losses(model, part._replace(whole=None)) for part in parts]
    by_targets = [name for name in whole if "objectness" in name or "rpn" in name or "arm" in name]
    assert len(by_targets) == 2
    assert any((alone[0][name] - turns[0][name]).abs() > 1e-6 for name in by_targets)  # else nothing is tested
    for name in whole:
        got = (turns[0][name] + turns[1][name]) / 2
        want = whole[name] if name in by_targets else (alone[0][name] + alone[1][name]) / 2
        torch.testing.assert_close(got, want, rtol=1e-9, atol=0)


def test_a_part_of_a_step_knows_all_its_targets(small):
    task = DetectionTask.from_config(small("known"))
    batch = next(iter(task.batches(0, 1)))
    (alone,) = task.parts(batch, 1)
    assert alone is batch
    assert batch.whole is None
    for part in task.parts(batch, 2):
        assert isinstance(part.whole, Whole)
        assert part.whole.parts == 2
        assert len(part.whole.targets) == len(batch.targets)
        assert part.images.shape[2:] == batch.images.shape[2:]
    assert to_device(batch.targets[0], task.device)["draw"]


def test_more_turns_than_images_are_refused(small):
    with pytest.raises(UserError, match=r"IMS_PER_BATCH 4 .*ACCUM_ITERS 5 share.*IMS_PER_BATCH 5 or more"):
        DetectionTask.from_config(small("many", "fcos", "gn", "SOLVER.ACCUM_ITERS", 5))


KILLED_ONCE = """
import os, signal, sys
from pathlib import Path
from detector.__main__ import main
from detector.engine import loop

update, mark = loop.update, Path(sys.argv.pop(1))

def killed_once(run, *rest):
    if run.step == 3 and os.environ["RANK"] == "1" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return update(run, *rest)

loop.update = killed_once
main()
"""


@pytest.mark.slow
def test_torchrun_starts_again_after_a_process_was_killed(small, tmp_path):
    """With --max-restarts and --resume the run goes on, and ends with the bits of an undisturbed one."""
    opts = ("SOLVER.MAX_ITER", 6, "SOLVER.STEPS", "(4,)", "DATASETS.TEST", "()")
    (tmp_path / "config.yaml").write_text(small("unused", "fcos", "sync_bn", *opts).dump())
    (tmp_path / "killed_once.py").write_text(KILLED_ONCE)
    (tmp_path / "never").touch()
    ends = {}
    for mark in ("never", "mark"):
        words = (
            "killed_once.py",
            mark,
            "train",
            "--config-file",
            "config.yaml",
            "--resume",
            "OUTPUT_DIR",
            f"out_{mark}",
        )
        ran = torchrun(2, *words, cwd=tmp_path, flags=("--max-restarts", "2"))
        assert ran.returncode == 0, ran.stderr
        ends[mark] = torch.load(tmp_path / f"out_{mark}" / "model_final.pth", weights_only=True)
        assert ("resuming from" in ran.stdout) == (mark == "mark")
    assert (tmp_path / "mark").exists()
    assert same_bits(ends["mark"]["model"], ends["never"]["model"])
