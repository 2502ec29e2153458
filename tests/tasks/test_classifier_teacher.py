"""Distillation in a pre-training: the teacher's own pixels and precision, labels in part, exact resuming."""

import shutil
from dataclasses import asdict

import cv2
import numpy as np
import pytest
import torch
from helpers.ranks import torchrun
from helpers.runs import read, records, same_bits
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d
from torchvision.transforms import v2

from detector.data.image_folder import UNLABELLED, LabelledImages
from detector.engine.device import autocast
from detector.engine.keep import Statistics
from detector.engine.loop import seed_step, update
from detector.models.backbones import BACKBONES, BGR_255, Weights, build_classifier
from detector.models.backbones.base import BackboneEntry
from detector.tasks.accuracy import PixelInput
from detector.tasks.classification import compare, plan, prepare, train_classifier
from detector.tasks.recipe import Recipe
from detector.weights.record import RGB_UNIT

CLASSES = ["dark", "light"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """train/ of two classes of 3 pictures, val/ of one each, and more/ with 2 pictures in folders that mean nothing."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for place, number in (("train/dark", 3), ("train/light", 3), ("val/dark", 1), ("val/light", 1), ("more/of/any", 2)):
        (root / place).mkdir(parents=True)
        for i in range(number):
            cv2.imwrite(str(root / place / f"{i}.png"), rng.integers(0, 256, (36, 34, 3), dtype=np.uint8))
    return root


@pytest.fixture
def caffe(monkeypatch):
    """A small network whose record is of the Caffe line: BGR pixels, frozen norm with eps 0."""
    entry = BackboneEntry("caffe", BACKBONES["resnet10"].build, Weights(pixels=BGR_255, norm_eps=0.0))
    monkeypatch.setitem(BACKBONES, "caffe", entry)


def write_teacher(path, seed=0, outputs=2, **facts):
    """A classification network with statistics of its own, as weights.pth has it."""
    torch.manual_seed(seed)
    model = build_classifier("resnet10", outputs)
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.1, 0.3)
    said = {"backbone": "resnet10", "classes": CLASSES, "norm": "bn", "passes": 0, "crop": 32}
    torch.save({"model": model.state_dict(), **said, **facts}, path)
    return model.eval()


@pytest.fixture
def recipe(data, tmp_path):
    """recipe(epochs=1, ..): a student of the teacher in teacher.pth, two steps of 3 pictures an epoch."""

    def build(**more):
        settings = {
            "backbone": "resnet10", "data": str(data), "output": str(tmp_path / "out"), "epochs": 2, "batch_size": 3,
            "crop": 32, "lr": 0.01, "workers": 0, "device": "cpu", "teacher": "resnet10", "distill": "kl",
            "teacher_weight": str(tmp_path / "teacher.pth"),
        }  # fmt: skip
        return Recipe(**{**settings, **more})

    return build


@pytest.mark.parametrize("mixing", [{"mixup": 0.4}, pytest.param({"cutmix": 1.0}, marks=pytest.mark.slow)])
def test_teacher_and_student_see_the_same_pictures_in_their_own_pixels(recipe, tmp_path, caffe, mixing):
    """The teacher is a BGR network without a divisor, the student an RGB one; the loss is put together by hand."""
    theirs = write_teacher(tmp_path / "teacher.pth", backbone="caffe")
    settings = {"labels": 0.25, "temperature": 2.0, "label_smoothing": 0.1, "distill": "jeffreys"}
    task, run = prepare(recipe(teacher="caffe", **settings, **mixing), tmp_path / "out", resume=False)
    batch = next(iter(task.batches(0, 1)))
    model = run.model.eval()  # so that it may be asked again
    seed_step(0, 5, torch.device("cpu"))
    losses = task.losses(model, batch)

    seed_step(0, 5, torch.device("cpu"))
    pixels, shares = batch.images.float(), F.one_hot(batch.labels, 2).float()
    for name, kind in (("mixup", v2.MixUp), ("cutmix", v2.CutMix)):
        if name in mixing:  # of a choice of one, which draws a number
            pixels, shares = v2.RandomChoice([kind(alpha=mixing[name], num_classes=2)])(pixels, batch.labels)
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-30  # lost to any variance; torch 2.10 takes no 0
    with torch.no_grad():
        mean = torch.tensor(BGR_255.mean).view(3, 1, 1)
        t = theirs(torch.stack([image[[2, 1, 0]] - mean for image in pixels]))
    s = model(PixelInput(RGB_UNIT, torch.device("cpu"))(pixels))
    (log_s, p_s), (log_t, p_t) = (((x / 2).log_softmax(1), (x / 2).softmax(1)) for x in (s, t))
    far = F.kl_div(log_s, p_t, reduction="batchmean") + F.kl_div(log_t, p_s, reduction="batchmean")
    want = {"distill": 0.75 * 4 * far / 2, "labels": 0.25 * F.cross_entropy(s, shares, label_smoothing=0.1)}
    assert losses.keys() == want.keys()
    for name in want:
        torch.testing.assert_close(losses[name], want[name], rtol=1e-4, atol=1e-6)
    sum(losses.values()).backward()
    assert all(p.grad is None and not p.requires_grad for p in task.teacher.model.parameters())
    assert not task.teacher.model.training
    assert all(p.grad is not None for p in model.parameters())


def test_a_picture_without_a_label_counts_for_the_teacher_alone(recipe, tmp_path):
    write_teacher(tmp_path / "teacher.pth")
    settings = recipe(labels=0.4, label_smoothing=0.2)
    task, run = prepare(settings, tmp_path / "out", resume=False)
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    model = run.model.eval()

    def losses(labels):
        return task.losses(model, LabelledImages(images, torch.tensor(labels)))

    whole, parts = losses([1, 0, 1]), losses([1, UNLABELLED, UNLABELLED])
    assert whole["distill"] == parts["distill"]
    alone = F.cross_entropy(model(task.prepare(images[:1])), torch.tensor([1]), label_smoothing=0.2)
    torch.testing.assert_close(parts["labels"], 0.4 * alone / 3)
    assert losses([UNLABELLED] * 3)["labels"] == 0
    settings.labels = 0.0
    assert losses([1, 0, 1]) == losses([0, UNLABELLED, 1]) == {"distill": whole["distill"] / 0.6}

    # without a teacher the same student would begin
    _, plain = prepare(recipe(teacher="", teacher_weight="", distill=""), tmp_path / "out", resume=False)
    assert same_bits(plain.model.state_dict(), model.state_dict())


@pytest.mark.parametrize(("amp", "teacher_amp"), [("bf16", "off"), pytest.param("off", "bf16", marks=pytest.mark.slow)])
def test_the_teacher_computes_in_its_own_precision(recipe, tmp_path, amp, teacher_amp):
    write_teacher(tmp_path / "teacher.pth")
    task, run = prepare(recipe(amp=amp, teacher_amp=teacher_amp), tmp_path / "out", resume=False)
    seen = {}
    for who, model in (("student", run.model), ("teacher", task.teacher.model)):
        model.fc.register_forward_hook(lambda _, x, y, who=who: seen.update({who: y.dtype}))
    with autocast(task.device, amp):
        losses = task.losses(run.model, next(iter(task.batches(0, 1))))
    kinds = {"bf16": torch.bfloat16, "off": torch.float32}
    assert seen == {"student": kinds[amp], "teacher": kinds[teacher_amp]}
    assert losses["distill"].dtype == torch.float32


def test_a_taught_run_resumes_to_the_same_bits_and_with_no_other_teacher(recipe, data, tmp_path):
    write_teacher(tmp_path / "teacher.pth")
    write_teacher(tmp_path / "other.pth", seed=1)
    more = {"unlabelled": (str(data / "more"),), "batch_size": 4, "mixup": 0.2, "labels": 0.3, "ema": 0.5}
    train_classifier(recipe(**more, output=str(tmp_path / "whole")))
    out = tmp_path / "out"
    out.mkdir()
    task, run = prepare(recipe(**more), out, resume=False)
    first = next(iter(task.batches(0, 4)))
    run.model.train()
    update(run, task, plan(recipe(**more), 2), first, list(run.model.parameters()), Statistics(run.model))
    run.save()
    (tmp_path / "teacher.pth").unlink()
    write_teacher(tmp_path / "moved.pth", step=7)  # the same tensors in another file
    with pytest.raises(ValueError, match=r"was trained with a teacher whose tensors have the SHA-256 \w{16}\.\., this"):
        train_classifier(recipe(**more, teacher_weight=str(tmp_path / "other.pth")), resume=True)
    more["teacher_weight"] = str(tmp_path / "moved.pth")
    with pytest.raises(ValueError, match=r"as many pictures of other names, in train/ or --unlabelled \(SHA"):
        train_classifier(recipe(**{**more, "unlabelled": (str(data / "more/of"),)}), resume=True)
    shutil.copytree(data / "more", tmp_path / "elsewhere")
    train_classifier(recipe(**{**more, "unlabelled": (str(tmp_path / "elsewhere"),)}), resume=True)
    resumed, uninterrupted = (read(tmp_path / name / "model_0000004.pth") for name in ("out", "whole"))
    assert all(same_bits(resumed[part], uninterrupted[part]) for part in ("model", "average"))
    settings = resumed["settings"]
    assert (settings["teacher"], settings["images"]) == ("resnet10", 8)
    assert settings["teacher_sha256"] == task.teacher.digest
    steps = [r for r in records(out) if "distill" in r]
    assert steps
    assert all(r["loss"] == pytest.approx(r["distill"] + r["labels"], rel=1e-4) for r in steps)


def test_checkpoints_of_before_go_on_without_a_teacher_and_with_none_else(recipe, tmp_path, caplog):
    plain = {"teacher": "", "teacher_weight": "", "distill": "", "lr": 0.01}
    now = {**asdict(recipe(**plain)), "images": 6, "teacher_sha256": ""}
    new = ("teacher", "teacher_weight", "distill", "temperature", "labels", "teacher_amp", "unlabelled")
    was = {k: v for k, v in now.items() if k not in (*new, "stage_lr_factors", "teacher_sha256")}
    compare(tmp_path, was, now)
    assert not caplog.text
    with pytest.raises(ValueError, match="was trained with teacher none, this run has resnet10: resume with none"):
        compare(tmp_path, was, {**asdict(recipe()), "images": 6, "teacher_sha256": "ab"})
    with pytest.raises(ValueError, match=r"was trained with stage-lr-factors \(\), this run has"):
        compare(tmp_path, was, {**now, "stage_lr_factors": (1.0, 1.0, 1.0, 1.0, 2.0)})
    taught = {**asdict(recipe()), "images": 6, "teacher_sha256": "ab"}
    compare(tmp_path, taught, {**taught, "temperature": 3.0, "teacher_weight": "elsewhere"})
    assert "trained with temperature 1.0; it goes on with 3.0" in caplog.text
    assert caplog.text.count("goes on with") == 1


@pytest.mark.parametrize("norm", ["bn", pytest.param("gn", marks=pytest.mark.slow)])
def test_a_checkpoint_of_a_pre_training_teaches_as_its_average_predicts(recipe, tmp_path, caffe, norm):
    """Of a network whose record has another eps than a batch norm: weights.pth and the checkpoint say the same."""
    plain = {"teacher": "", "teacher_weight": "", "distill": "", "epochs": 1}
    train_classifier(recipe(**plain, backbone="caffe", norm=norm, ema=0.5))
    average = read(tmp_path / "out" / "model_0000002.pth")["average"]
    model = build_classifier("caffe", 2, norm).eval()
    model.load_state_dict({k.removeprefix("module."): v for k, v in average.items() if k != "n_averaged"})
    images = torch.rand(2, 3, 32, 32) * 255
    with torch.no_grad():
        want = model(PixelInput(BGR_255, torch.device("cpu"))(images))
    digests = set()
    for name, eps in (("model_0000002.pth", 1e-5), ("weights.pth", 0.0)):
        taught = recipe(teacher="caffe", teacher_weight=str(tmp_path / "out" / name))
        task, _ = prepare(taught, tmp_path / "next", resume=False)
        torch.testing.assert_close(task.teacher.logits(images), want, rtol=1e-4, atol=1e-5)
        assert {m.eps for m in task.teacher.model.modules() if isinstance(m, FrozenBatchNorm2d)} <= {eps}
        digests.add(task.teacher.digest)
    assert len(digests) == 1  # a run goes on with either


def test_a_teacher_that_does_not_fit_is_said_with_its_own_flags(recipe, tmp_path):
    def answer(**settings):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text follows
            prepare(recipe(**settings), tmp_path / "out", resume=False)
        return str(caught.value)

    assert answer().startswith("--teacher-weight: there is no file")
    assert "unknown backbone 'resnet5'" in answer(teacher="resnet5")
    assert "no weights are published for resnet10; set --teacher-weight to a file" in answer(teacher_weight="imagenet")
    write_teacher(tmp_path / "teacher.pth", classes=["dark", "red"])
    assert "class 1 is red there and light here: name a folder with the classes" in answer()
    write_teacher(tmp_path / "teacher.pth", backbone="resnet18")
    assert answer().endswith("was trained as resnet18: write --teacher resnet18")
    model = write_teacher(tmp_path / "teacher.pth", outputs=5)
    torch.save(model.state_dict(), tmp_path / "teacher.pth")
    assert "has 2 class folders" in answer()
    assert "has 5 outputs and does not name them" in answer()
    assert "Set --teacher to the network that the file was made for" in answer(teacher="resnet18")
    bare = {key: value for key, value in model.state_dict().items() if not key.startswith("fc.")}
    torch.save(bare, tmp_path / "teacher.pth")
    assert "holds a backbone without classifier" in answer()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_processes_are_taught_as_one(recipe, data, tmp_path):
    """Steps of 3 pictures, of 2 and 1; some of them without a label. Without norms that measure a batch."""
    write_teacher(tmp_path / "teacher.pth")
    more = str(data / "more")
    want = train_classifier(recipe(norm="gn", labels=0.5, distill="soft_ce", unlabelled=(more,)))
    words = ["--backbone", "resnet10", "--data", data, "--output", tmp_path / "two", "--epochs", 2, "--batch-size", 3]
    words += ["--crop", 32, "--lr", 0.01, "--workers", 0, "--device", "cpu", "--norm", "gn", "--labels", 0.5]
    words += ["--teacher", "resnet10", "--teacher-weight", tmp_path / "teacher.pth", "--distill", "soft_ce"]
    ran = torchrun(2, "-m", "detector", "pretrain", *map(str, words), "--unlabelled", more)
    assert ran.returncode == 0, ran.stderr
    one, two = (read(tmp_path / name / "weights.pth") for name in ("out", "two"))
    assert two["metrics"] == pytest.approx(want, rel=1e-4)
    for name, tensor in one["model"].items():
        torch.testing.assert_close(two["model"][name], tensor, rtol=1e-4, atol=1e-5)
