"""A detector taught by another one: what it learns, what becomes of the teacher, what is refused."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.ranks import course, courses
from helpers.runs import read, records, same_bits

import detector.engine
from detector import load
from detector.config import config_text
from detector.data.loader import build_train_dataset, train_loader
from detector.errors import MissingFileError, UserError
from detector.models.build import build_detector, resolve_parts
from detector.tasks.cells import Budget, make_arms
from detector.tasks.detection import train
from detector.tasks.distilled import Teacher, add_teacher, check_teacher, compare_teachers, lesson_of
from detector.tasks.footprint import Footprint, Step
from detector.tasks.measured import state_digest
from detector.tasks.resolve import resolve_model
from detector.tasks.several import divided
from detector.weights.read import WeightFile

ONE = ("SOLVER.MAX_ITER", 1, "SOLVER.STEPS", "()", "DATASETS.TEST", "()")
LEVELS = ("p3", "p4", "p5", "p6", "p7")


@pytest.fixture
def teacher(tiny, tmp_path):
    """teacher(*opts, name=..): a checkpoint of a detector with random weights, with other pixels than the student."""

    def build(*opts, name="teacher", seed=7):
        cfg = resolve_model(tiny(*PIXELS, *opts), 2)
        torch.manual_seed(seed)
        model = build_detector(cfg)
        for module in model.modules():  # norms that do something
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
                torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
        path = tmp_path / f"{name}.pth"
        content = {"model": model.state_dict(), "config": config_text(cfg), "classes": ["dark", "light"]}
        torch.save({**content, "category_ids": [3, 7], "step": 12}, path)
        return path

    return build


@pytest.fixture
def named(tiny, tmp_path):
    """named(*opts): a checkpoint of which nothing is right but its config."""

    def build(*opts):
        path = tmp_path / "named.pth"
        torch.save({"model": {"x": torch.zeros(1)}, "config": config_text(resolve_model(tiny(*opts), 2))}, path)
        return path

    return build


def loaded(path, cfg):
    """The detector of a checkpoint, by its state dict alone."""
    model = build_detector(resolve_parts(cfg))
    model.load_state_dict(read(path)["model"])
    return model.eval()


def pkd(student, teacher):
    student, teacher = (x.transpose(0, 1).flatten(1).double().numpy() for x in (student, teacher))
    ours, theirs = (
        (x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True, ddof=1) + 1e-6) for x in (student, teacher)
    )
    return ((ours - theirs) ** 2).mean() / 2


def cwd(student, teacher, t):
    ours, theirs = (np.exp(x.flatten(2).double().numpy() / t) for x in (student, teacher))
    ours, theirs = (x / x.sum(2, keepdims=True) for x in (ours, theirs))
    return (theirs * np.log(theirs / ours)).sum(2).mean() * t**2


PIXELS = ("INPUT.PIXEL_MEAN", "(90, 120, 100)", "INPUT.PIXEL_STD", "(50, 60, 40)")


def by_hand(cfg, batch, path, own):
    """The losses of a student's own head in its first step, its levels, and those of its teacher."""
    torch.manual_seed(cfg.SEED)
    student = build_detector(resolve_parts(cfg)).train()
    with torch.no_grad():
        ours = student.features(batch.images, batch.sizes)
        losses = student.losses(ours, batch.sizes, batch.targets)
        return losses, ours, loaded(path, own).features(batch.images, batch.sizes)


def test_the_first_step_has_the_loss_written_out_beside_the_heads_own(tiny, teacher, tmp_path, caplog):
    """The same pictures, by the teacher's own pixels; the batch norms of the teacher as they are."""
    caplog.set_level("INFO", "detector")
    path = teacher("MODEL.BACKBONE.NAME", "resnet18")
    cfg = tiny(*ONE, "DISTILL.TEACHER", path)
    train(cfg)
    got = next(r for r in records(tmp_path / "out") if "loss" in r)
    losses, ours, theirs = by_hand(cfg, batch_of(cfg), path, tiny("MODEL.BACKBONE.NAME", "resnet18", *PIXELS))
    assert {name for name in got if name.startswith("loss_")} == losses.keys() | {"loss_distill"}
    want = {name: loss.item() for name, loss in losses.items()}
    want["loss_distill"] = 10 * sum(pkd(ours[name], theirs[name]) for name in LEVELS[:4])
    assert {name: got[name] for name in want} == pytest.approx(want, rel=1e-4)
    assert got["loss"] == pytest.approx(sum(want.values()), rel=1e-4)
    said = next(m for m in caplog.messages if m.startswith("taught by"))
    assert said.startswith(f"taught by {path} (fcos with resnet18, step 12, float32): pkd on p3 (64 channels), p4 ")
    assert said.endswith("p6 (64 channels), weight 10")
    assert any(" distill " in message for message in caplog.messages)


@pytest.mark.slow
def test_method_levels_weight_and_temperature_are_those_of_the_keys(tiny, teacher):
    path = teacher()
    batch = batch_of(tiny(*ONE))
    for opts, weight, levels, loss in (
        (("DISTILL.METHOD", "cwd", "DISTILL.TEMPERATURE", 2), 10, LEVELS, partial(cwd, t=2)),
        (("DISTILL.LEVELS", "[p5, p3]", "DISTILL.WEIGHT", 0.5), 0.5, ("p3", "p5"), pkd),
    ):
        cfg = tiny(*ONE, "DISTILL.TEACHER", path, *opts)
        torch.manual_seed(cfg.SEED)
        _, called, _ = taught(cfg)
        losses, ours, theirs = by_hand(cfg, batch, path, tiny(*PIXELS))
        got = called.train()(*batch)
        want = weight * sum(loss(ours[name], theirs[name]) for name in levels)
        assert got.pop("loss_distill").item() == pytest.approx(want, rel=1e-4)
        assert got == losses


def taught(cfg):
    """A student and the whole that the loop calls."""
    cfg = resolve_parts(cfg)
    student = build_detector(cfg)
    called, facts = add_teacher(student, cfg, torch.device("cpu"))
    return student, called, facts


def batch_of(cfg):
    cfg = resolve_parts(cfg)
    (batch,) = train_loader(cfg, build_train_dataset(cfg), 0, 1)
    return batch


def test_gradients_reach_the_student_alone_and_the_loop_sees_no_teacher(tiny, teacher):
    cfg = tiny(*ONE, "DISTILL.TEACHER", teacher())
    student, called, _ = taught(cfg)
    inner = called.teacher.detector
    before = {name: x.clone() for name, x in inner.state_dict().items()}
    called.train()
    called(*batch_of(cfg))["loss_distill"].backward()
    reached = {name for name, p in student.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {"backbone.conv1.weight", "neck.inner.c3.weight", "neck.layer.p3.weight"} <= {
        name.replace("layer.c", "layer.p") for name in reached
    }
    assert not any(name.startswith("head.") for name in reached)
    assert not any(p.requires_grad or p.grad is not None for p in inner.parameters())
    assert not any(module.training for module in inner.modules())
    assert same_bits(inner.state_dict(), before)
    assert list(called.parameters()) == list(student.parameters())
    assert list(called.state_dict()) == [f"student.{name}" for name in student.state_dict()]
    called.eval()
    images, sizes, *_ = batch_of(cfg)
    (got, *_), (want, *_) = called(images, sizes), student(images, sizes)
    assert torch.equal(got["boxes"], want["boxes"])


def test_a_student_that_equals_its_teacher_has_nothing_to_learn(tiny, teacher):
    path = teacher("MODEL.BACKBONE.NORM", "frozen_bn")
    cfg = tiny(*ONE, *PIXELS, "MODEL.BACKBONE.NORM", "frozen_bn", "DISTILL.TEACHER", path)
    student, called, _ = taught(cfg)
    batch, lessons = batch_of(cfg), [replace(called.lesson, method=method) for method in ("pkd", "cwd")]
    for called.lesson in lessons:
        assert called(*batch)["loss_distill"] > 0.1
    student.load_state_dict(read(path)["model"])
    for called.lesson in lessons:
        assert abs(called(*batch)["loss_distill"].item()) < 1e-6


@pytest.mark.slow
def test_each_has_a_precision_of_its_own(tiny, teacher):
    """The student's autocast does not reach the teacher, nor the teacher's the student."""
    batch = batch_of(tiny(*ONE))
    for own, outer in (("off", torch.bfloat16), ("bf16", None)):
        _, called, _ = taught(tiny(*ONE, "DISTILL.TEACHER", teacher("TEST.AMP", own)))
        seen: list[torch.dtype] = []
        for model in (called.teacher.detector, called.student):
            model.backbone.register_forward_hook(
                lambda module, inputs, found, seen=seen: seen.append(found["c5"].dtype)
            )
        with torch.autocast("cpu", outer, enabled=outer is not None):
            assert called(*batch)["loss_distill"].dtype == torch.float32
        assert seen == [torch.float32, torch.bfloat16] if own == "off" else [torch.bfloat16, torch.float32]


@pytest.mark.parametrize("gains", [False, True])
def test_a_precision_by_the_device_is_the_devices(tiny, teacher, monkeypatch, caplog, gains):
    """TEST.AMP auto of a teacher."""
    caplog.set_level("INFO", "detector")
    monkeypatch.setattr("detector.engine.device.gains_bf16", lambda device: gains)
    cfg = resolve_parts(tiny(*ONE, "DISTILL.TEACHER", teacher("TEST.AMP", "auto")))
    _, called, facts = taught(cfg)
    assert facts["teacher"]["settings"]["TEST.AMP"] == ("bf16" if gains else "off")
    assert f", step 12, {'bf16' if gains else 'float32'}): pkd" in caplog.text
    teacher_as_counted = Teacher(called.teacher.detector, "auto")
    for one in (called.teacher, teacher_as_counted):
        found = one(torch.zeros(1, 3, 64, 96, dtype=torch.uint8), [(64, 96)])
        assert found["p3"].dtype == (torch.bfloat16 if gains else torch.float32)


SMALL = ("MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", 16, "MODEL.REFINEDET.TCB_CHANNELS", 32)
PAIRS = [
    ("fcos", "fcos", "pkd", LEVELS[:4], 10),
    ("faster_rcnn", "faster_rcnn", "pkd", ("p2", "p3", "p4", "p5"), 6),
    ("faster_rcnn", "fcos", "pkd", ("p3", "p4", "p5", "p6"), 10),
    ("fcos", "faster_rcnn", "cwd", ("p3", "p4", "p5", "p6"), 10),
    ("faster_rcnn", "faster_rcnn", "cwd", ("p2", "p3", "p4", "p5", "p6"), 10),
    ("refinedet", "refinedet", "pkd", ("c3", "c4", "c5", "c6"), 10),
]


@pytest.mark.parametrize(("head", "other", "method", "levels", "weight"), PAIRS)
def test_what_is_open_is_as_published(tiny, head, other, method, levels, weight):
    cfg = tiny(*SMALL, "MODEL.HEAD.NAME", head, "DISTILL.METHOD", method)
    own = resolve_model(tiny(*SMALL, "MODEL.HEAD.NAME", other, "MODEL.NUM_CLASSES", 5), 5)
    with torch.device("meta"):
        lesson = lesson_of(cfg, build_detector(cfg), own, build_detector(own))
    assert (lesson.levels, lesson.weight) == (levels, weight)


@pytest.mark.slow
@pytest.mark.parametrize(("head", "other"), [(pair[0], pair[1]) for pair in PAIRS])
def test_every_pair_of_heads_makes_a_step(tiny, teacher, head, other):
    cfg = tiny(*ONE, *SMALL, "MODEL.HEAD.NAME", head, "DISTILL.TEACHER", teacher(*SMALL, "MODEL.HEAD.NAME", other))
    student, called, _ = taught(cfg)
    losses = called(*batch_of(cfg))
    assert losses.keys() == student(*batch_of(cfg)).keys() | {"loss_distill"}
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None)


def test_turns_share_a_step_by_their_images(tiny, teacher):
    """Three images in turns of two and one: pkd standardises each turn's images by themselves."""
    gn = ("MODEL.BACKBONE.NORM", "gn")
    cfg = tiny(*gn, "SOLVER.IMS_PER_BATCH", 3, *ONE, "DISTILL.TEACHER", teacher(*gn))
    _, called, _ = taught(cfg)
    batch = batch_of(cfg)
    with torch.no_grad():
        turns = divided(batch, 2, torch.device("cpu"))
        pairs = [(len(own.images), called.student.features(*own[:2]), called.teacher(*own[:2])) for own in turns]
        assert [number for number, *_ in pairs] == [2, 1]
        got = [called(*own)["loss_distill"] for own in turns]
        want = [n / 1.5 * 10 * sum(pkd(a[name], b[name]) for name in LEVELS[:4]) for n, a, b in pairs]
        assert [x.item() for x in got] == pytest.approx(want, rel=1e-4)
        called.lesson = replace(called.lesson, method="cwd")
        got = [called(*own)["loss_distill"].item() for own in turns]
        assert sum(got) / 2 == pytest.approx(called(*batch)["loss_distill"].item(), rel=1e-5)


@pytest.mark.slow
def test_turns_make_the_step_of_one(tiny, teacher, tmp_path):
    opts = (
        *("MODEL.BACKBONE.NORM", "gn", "SOLVER.IMS_PER_BATCH", 3, "DISTILL.METHOD", "cwd"),
        *("DISTILL.TEACHER", teacher("MODEL.BACKBONE.NORM", "gn"), *ONE),
    )
    whole = course(tiny(*opts, "OUTPUT_DIR", tmp_path / "whole"), double=True)
    turns = course(tiny(*opts, "SOLVER.ACCUM_ITERS", 2, "OUTPUT_DIR", tmp_path / "turns"), double=True)
    assert turns["terms"][0] == pytest.approx(whole["terms"][0], rel=1e-6)
    assert max((turns["model"][k] - v).abs().max() for k, v in whole["model"].items()) < 1e-6


RUN = (
    *("SOLVER.MAX_ITER", 2, "SOLVER.STEPS", "()", "SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.EMA_DECAY", 0.8),
    *("MODEL.BACKBONE.CHECKPOINT_STAGES", "(2, 3)", "DATASETS.TEST", "()"),
)


def test_a_run_is_a_plain_detector_and_resumes_to_the_bit(tiny, teacher, tmp_path, caplog):
    path = teacher()
    cfg = tiny(*RUN, "DISTILL.TEACHER", path)
    train(cfg)
    whole = read(tmp_path / "out" / "model_final.pth")
    plain = build_detector(resolve_parts(cfg)).state_dict()
    assert whole["model"].keys() == plain.keys()
    assert {key.removeprefix("module.") for key in whole["average"]} == plain.keys() | {"n_averaged"}
    assert len(whole["optimizer"]["state"]) == sum(1 for _ in build_detector(resolve_parts(cfg)).parameters())

    half = tmp_path / "half"
    half.mkdir()
    (tmp_path / "out" / "model_0000001.pth").rename(half / "model_0000001.pth")
    moved = path.rename(tmp_path / "moved.pth")
    caplog.clear()
    train(tiny(*RUN, "OUTPUT_DIR", half, "DISTILL.TEACHER", moved), resume=True)  # the same weights elsewhere
    assert f"DISTILL.TEACHER {path} -> {moved}" in caplog.text
    resumed = read(half / "model_final.pth")
    for part in ("model", "average"):
        assert same_bits(resumed[part], whole[part])

    (half / "model_final.pth").unlink()
    teacher(name="moved", seed=8)  # under the old name
    with pytest.raises(UserError, match=r"model_0000001\.pth cannot be resumed, as its training was taught by"):
        train(tiny(*RUN, "OUTPUT_DIR", half, "DISTILL.TEACHER", moved), resume=True)
    moved.unlink()  # nobody asks for it but a training
    predictor = load(tmp_path / "out" / "model_final.pth", device="cpu")
    predictor(np.zeros((64, 96, 3), np.uint8))


def test_what_is_told_of_another_teacher():
    first, other = ({"teacher": {"file": f"{name}.pth", "digest": name * 64}} for name in "ab")
    told = {}
    for was, now in ((first, other), (first, {}), ({}, first)):
        with pytest.raises(UserError) as caught:
            compare_teachers(WeightFile(Path("model.pth"), {}, was), now)
        told[str(was), str(now)] = str(caught.value)
    digest = {name: name * 12 for name in "ab"}
    begin, end = "model.pth cannot be resumed, as its training was taught by ", (
        " to resume it, or start anew with OUTPUT_DIR another/folder"
    )  # fmt: skip
    a, b = (f"{name}.pth of weights {digest[name]}" for name in "ab")
    assert list(told.values()) == [
        f"{begin}{a}, and DISTILL.TEACHER is {b}: write DISTILL.TEACHER a.pth, with those weights in it,{end}",
        f"{begin}{a}, and DISTILL.TEACHER is nobody: write DISTILL.TEACHER a.pth, with those weights in it,{end}",
        f"{begin}nobody, and DISTILL.TEACHER is {a}: write DISTILL.TEACHER ''{end}",
    ]
    compare_teachers(WeightFile(Path("model.pth"), {}, first), {"teacher": {"file": "c.pth", "digest": "a" * 64}})
    compare_teachers(WeightFile(Path("model.pth"), {}, {}), {})


def test_changed_settings_of_the_same_teacher_stop_or_are_said(tiny, teacher, caplog):
    """Of the same weights: what the levels depend on, and nothing else."""

    def facts(*opts):
        return taught(tiny(*ONE, "DISTILL.TEACHER", teacher(*opts)))[2]

    was = facts()
    file = WeightFile(Path("model.pth"), {}, was)
    free = ("MODEL.BACKBONE.CHECKPOINT_STAGES", "(2,)", "INPUT.MIN_SIZE_TEST", 32, "SOLVER.BASE_LR", 0.5)
    for one in (was, {"teacher": {key: was["teacher"][key] for key in ("file", "digest")}}):
        compare_teachers(WeightFile(Path("model.pth"), {}, one), was)
    assert "other settings" not in caplog.text
    compare_teachers(file, facts(*free, "INPUT.PIXEL_STD", "(50, 60, 41)", "TEST.AMP", "bf16"))
    (told,) = [m for m in caplog.messages if m.startswith("resumed with other settings of the teacher than model.pth")]
    assert told.endswith(": INPUT.PIXEL_STD [50.0, 60.0, 40.0] -> [50.0, 60.0, 41.0]; TEST.AMP off -> bf16")
    other = {"teacher": {**was["teacher"], "settings": {"MODEL.BACKBONE.PASSES": "2"}}}
    with pytest.raises(
        UserError, match=r"its teacher had other settings: MODEL\.BACKBONE\.PASSES 0 -> 2: write DISTILL"
    ):
        compare_teachers(file, other)


@pytest.mark.slow
def test_a_runs_folder_teaches_by_its_newest_checkpoint_and_its_average(tiny, teacher, tmp_path):
    content, folder = read(teacher()), tmp_path / "run"
    folder.mkdir()
    average = {f"module.{name}": x + 0.01 if x.is_floating_point() else x for name, x in content["model"].items()}
    torch.save({**content, "step": 2}, folder / "model_0000002.pth")
    newest = {**content, "average": {**average, "n_averaged": torch.tensor(3)}, "step": 3}
    torch.save(newest, folder / "model_0000003.pth")
    cfg = tiny(*ONE, "DISTILL.TEACHER", folder)
    _, called, facts = taught(cfg)
    assert facts["teacher"]["file"] == str(folder / "model_0000003.pth")
    model = build_detector(resolve_parts(tiny(*PIXELS))).eval()
    model.load_state_dict({name.removeprefix("module."): x for name, x in average.items()})
    assert facts["teacher"]["digest"] == state_digest(model.state_dict())
    batch = batch_of(cfg)
    with torch.no_grad():
        want = model.features(batch.images, batch.sizes)["p3"]
    assert torch.allclose(called.teacher(batch.images, batch.sizes)["p3"], want, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("student", "own", "told"),
    [
        (("MODEL.NECK.OUT_CHANNELS", 32), (), r"other channels.*: p3 32 and 64, p4 .*MODEL\.NECK\.OUT_CHANNELS 64$"),
        (
            ("MODEL.HEAD.NAME", "refinedet"),
            (),
            r"has no level that the student has: the student's neck has c3 \(.* the teacher's p3 \(64 channels, str",
        ),
        (
            ("MODEL.HEAD.NAME", "refinedet"),
            ("MODEL.HEAD.NAME", "refinedet", "MODEL.BACKBONE.NAME", "resnet50"),
            r"other channels.*: c3 128 and 512, c4 .*, c5 512 and 2048; write DISTILL\.LEVELS \[c6\]$",
        ),
        (("DISTILL.LEVELS", "[p3, p2]"), (), r"DISTILL\.LEVELS: p2 is not of both.*\.LEVELS \[p3, p4, p5, p6, p7\]"),
        (
            ("DISTILL.LEVELS", "[c3]", "MODEL.HEAD.NAME", "refinedet"),
            (),
            r"DISTILL\.LEVELS: c3 is not of both.*a teacher with a neck of the same name",
        ),
    ],
)  # fmt: skip
def test_levels_that_do_not_fit_are_refused_before_data_are_looked_at(tiny, named, tmp_path, student, own, told):
    cfg = tiny(*student, "DISTILL.TEACHER", named(*own), "DATASETS.TRAIN", "nowhere:nowhere.json")
    with pytest.raises(UserError, match=told) as caught:
        train(cfg)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_what_is_no_teacher_is_refused_with_the_key(tiny, named, tmp_path):
    (tmp_path / "empty").mkdir()
    torch.save({"model": read(named())["model"]}, tmp_path / "bare.pth")
    torch.save({**read(named()), "config": "MODEL: {BACKBON: 3}"}, tmp_path / "odd.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(MissingFileError, match=r"DISTILL\.TEACHER .*gone: there is no such folder or checkpoint; name"):
        check_teacher(tiny("DISTILL.TEACHER", tmp_path / "gone"))
    for name, told in (
        ("empty", "holds no checkpoint: name a run's folder, or a checkpoint"),
        ("bare.pth", "bare.pth holds no config: name a checkpoint that `detector train` or `detector convert` wrote"),
        ("odd.pth", r"odd.pth: MODEL\.BACKBON: unknown key"),
        ("text.pth", "text.pth"),
    ):
        with pytest.raises(UserError, match=rf"^DISTILL\.TEACHER: .*{told}"):
            check_teacher(tiny("DISTILL.TEACHER", tmp_path / name))


def test_only_detectors_of_boxes_teach_and_are_taught(tiny, named):
    salient = ("MODEL.TASK", "saliency", "DATASETS.TRAIN", "saliency:x", "DATASETS.TEST", "()")
    with pytest.raises(UserError, match=r"^DISTILL\.TEACHER: a teacher \(.*named\.pth\) is for detectors of boxes"):
        check_teacher(tiny("DISTILL.TEACHER", named(*salient)))
    with pytest.raises(UserError, match=r"^DISTILL\.TEACHER is for detectors of boxes"):
        add_teacher(torch.nn.Identity(), tiny(*salient, "DISTILL.TEACHER", named()), torch.device("cpu"))


def test_an_arm_of_a_comparison_may_have_a_teacher(named, data):
    path = named("MODEL.BACKBONE.NAME", "resnet18")
    opts = ["MODEL.NECK.OUT_CHANNELS", "64", *data]
    arms = make_arms("bccd/fcos_resnet18", opts, ["resnet18", f"taught: resnet18 DISTILL.TEACHER {path}"], [], Budget())
    assert [(arm.name, arm.cfg.DISTILL.TEACHER) for arm in arms] == [("fcos resnet18", ""), ("fcos taught", str(path))]
    with pytest.raises(UserError, match=r"^fcos taught: DISTILL\.TEACHER .* have other channels"):
        make_arms("bccd/fcos_resnet18", data, [f"taught: resnet18 DISTILL.TEACHER {path}"], [], Budget())


@pytest.mark.slow
def test_a_plan_counts_the_teacher(tiny, teacher):
    path = teacher("TEST.AMP", "auto")
    weights = sum(x.numel() * x.element_size() for x in read(path)["model"].values())
    footprint = Footprint(resolve_parts(tiny("DISTILL.TEACHER", path)))
    found = footprint.peak(Step(2, (64, 96)))
    assert weights <= found.parts["teacher"] < 1.01 * weights
    assert found.parts["optimiser"] == pytest.approx(weights, rel=0.01)  # of the student, which is as large


@pytest.mark.slow
def test_a_plan_counts_the_maps_that_are_compared(tiny, teacher):
    footprint, step = Footprint(resolve_parts(tiny("DISTILL.TEACHER", teacher()))), Step(4, (256, 384))
    taught = footprint.peak(step)
    footprint._called = footprint._model
    footprint._found.clear()
    without = footprint.peak(step)
    # What the backward pass needs of the levels: for each of both, and of their difference, a map or two.
    maps = sum(4 * 64 * -(-256 // s) * -(-384 // s) * 4 for s in (8, 16, 32, 64))
    assert maps < taught.total - without.total < 8 * maps


def test_the_loop_knows_nothing_of_it():
    for path in Path(detector.engine.__file__).parent.glob("*.py"):
        text = path.read_text(encoding="utf-8").lower()
        assert "distil" not in text, path
        assert "teach" not in text, path


@pytest.mark.slow
def test_two_processes_make_the_steps_of_one(tiny, teacher, tmp_path):
    """Five images in shares of three and two."""
    opts = (
        *("MODEL.BACKBONE.NORM", "gn", "SOLVER.IMS_PER_BATCH", 5, "SOLVER.MAX_ITER", 3, "SOLVER.STEPS", "()"),
        *("DATASETS.TEST", "()", "DISTILL.TEACHER", teacher()),
    )
    jobs = {method: tiny(*opts, "DISTILL.METHOD", method) for method in ("pkd", "cwd")}
    two = courses(tmp_path / "two", {method: (cfg, True) for method, cfg in jobs.items()})
    for method in jobs:
        cfg = tiny(*opts, "DISTILL.METHOD", method, "OUTPUT_DIR", tmp_path / f"one_{method}")
        want, got = course(cfg, double=True), two[method]
        for ours, theirs in zip(got["terms"], want["terms"], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-5)  # the teacher is in float32
        assert max((got["model"][k] - v).abs().max() for k, v in want["model"].items()) < 1e-4
