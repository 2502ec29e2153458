import math

import cv2
import numpy as np
import pytest
import torch
from helpers import ROOT
from helpers.kills import run_killed
from helpers.ranks import torchrun
from helpers.runs import read, records
from torch import nn

from detector.config import load_config
from detector.data.image_folder import ImageFolder, train_loader, train_transform
from detector.errors import NonFiniteError
from detector.models.backbones import BACKBONES, BGR_255, RGB_UNIT, Weights, build_classifier
from detector.models.backbones.base import BackboneEntry
from detector.models.build import build_detector
from detector.tasks.accuracy import PixelInput
from detector.tasks.classification import prepare, train_classifier
from detector.tasks.recipe import Recipe
from detector.tasks.trained import load_weights

CLASSES = ["blue", "green", "red"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of train/ (3 classes of 4 pictures) and val/ (of 2), coloured with noise."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for part, number in (("train", 4), ("val", 2)):
        for channel, name in enumerate(CLASSES):
            (root / part / name).mkdir(parents=True)
            for i in range(number):
                image = rng.integers(0, 120, (40, 44, 3), dtype=np.uint8)
                image[..., channel] += 120
                cv2.imwrite(str(root / part / name / f"{i}.png"), image)
    return root


@pytest.fixture
def recipe(data, tmp_path):
    """recipe(epochs=1, ..): a run of 3 epochs of 3 steps on these pictures, in tmp_path / "out"."""

    def build(**more):
        settings = {
            "backbone": "resnet10",
            "data": str(data),
            "output": str(tmp_path / "out"),
            "epochs": 3,
            "batch_size": 4,
            "crop": 32,
            "lr": 0.01,
            "workers": 0,
            "device": "cpu",
        }
        return Recipe(**{**settings, **more})

    return build


def test_a_run_leaves_all_its_files(recipe, tmp_path):
    metrics = train_classifier(recipe(checkpoint_steps=2))
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir()} == {"log.jsonl", "model_0000009.pth", "weights.pth", "weights_best.pth"}
    assert metrics.keys() == {"top1", "top3", "loss"}
    weights = read(out / "weights.pth")
    assert {k: v for k, v in weights.items() if k != "model"} == {
        "backbone": "resnet10", "classes": CLASSES, "norm": "bn", "passes": 0, "crop": 32, "step": 9,
        "metrics": metrics,
    }  # fmt: skip
    assert weights["model"].keys() == build_classifier("resnet10", 3).state_dict().keys()
    start, *others = records(out)
    assert start["event"] == "start"
    assert (start["settings"]["lr"], start["settings"]["images"]) == (0.01, 12)
    evaluations = [r for r in others if r.get("event") == "evaluation"]
    assert [r["step"] for r in evaluations] == [3, 6, 9]
    best = max(evaluations, key=lambda r: r["metrics"]["top1"])  # the first of equals
    assert read(out / "weights_best.pth")["step"] == best["step"]
    (steps,) = (r for r in others if "event" not in r)
    assert {"step", "lr", "loss", "grad_norm", "data_s", "step_s", "memory_mb"} <= set(steps)


def test_the_loop_is_the_recipe_spelled_out(recipe, data, tmp_path):
    train_classifier(recipe(epochs=2, warmup_epochs=1.0, weight_decay=0.01, label_smoothing=0.2, seed=4))
    got = read(tmp_path / "out" / "weights.pth")["model"]

    torch.manual_seed(4)
    model = build_classifier("resnet10", 3, "bn").to(memory_format=torch.channels_last).train()
    norms = [p for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]
    bare = [*norms, model.fc.bias]
    decayed = [p for p in model.parameters() if not any(p is other for other in bare)]
    optimizer = torch.optim.SGD([{"params": decayed, "weight_decay": 0.01}, {"params": bare}], lr=0.01, momentum=0.9)
    rates = [0.01 / 3, 0.02 / 3, 0.01, *(0.005 * (1 + math.cos(math.pi * k / 3)) for k in range(3))]
    batches = train_loader(ImageFolder(data / "train", train_transform(32), 4), 4, 0, 0, 6, False)
    for batch, rate in zip(batches, rates):
        for group in optimizer.param_groups:
            group["lr"] = rate
        logits = model(PixelInput(RGB_UNIT, torch.device("cpu"))(batch.images))
        target = 0.8 * nn.functional.one_hot(batch.labels, 3) + 0.2 / 3
        loss = -(target * logits.log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(got[key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_tensorboard_sees_the_run(recipe, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    metrics = train_classifier(recipe(epochs=1, tensorboard=True))
    events = accumulator.EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("test/top1")] == [(3, pytest.approx(metrics["top1"]))]
    assert [e.step for e in events.Scalars("train/loss")] == [3]
    (text,) = events.Tensors("config/text_summary")
    assert "    backbone: resnet10\n" in text.tensor_proto.string_val[0].decode()
    assert records(tmp_path / "out")[0]["settings"]["tensorboard"] is True


# They follow one another in one run.
KILLS = (
    *("after_the_best_weights", "in_an_epoch", "while_a_checkpoint_is_written", "during_an_evaluation"),
    "before_an_old_checkpoint_goes",
)
SCRIPT = """
import detector.tasks.classification as pretrain
from detector.engine.run import Run
from detector.tasks.recipe import Recipe

def in_an_epoch():
    die_after_step(5)

def during_an_evaluation():
    pretrain.evaluate = lambda *given: die()

def after_the_best_weights():
    real = Run.keep_best
    Run.keep_best = lambda *given: (real(*given), die())

def before_an_old_checkpoint_goes():
    Path.unlink = lambda path, *rest: die() if path.name.startswith("model_") else None

def train_in(name):
    pretrain.train_classifier(Recipe(**{settings!r}), resume=True)

def folder_of(name):
    return {output!r}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"mixup": 0.2, "cutmix": 1.0, "ema": 0.7, "workers": 1},
        {"optimizer": "adamw", "ema": 0.7, "norm": "gn", "amp": "bf16"},
    ],
)
def test_a_run_killed_five_times_ends_with_the_same_bits(recipe, tmp_path, settings):
    settings = {**vars(recipe(**settings)), "checkpoint_steps": 2}
    train_classifier(Recipe(**{**settings, "output": str(tmp_path / "whole")}))
    output = str(tmp_path / "killed")
    settings = {**settings, "output": output}
    rows, told = run_killed(tmp_path, SCRIPT.format(settings=settings, output=output), KILLS)
    assert rows == [
        ("after_the_best_weights", -9, ["model_0000003.pth"]),
        ("in_an_epoch", -9, ["model_0000004.pth"]),
        ("while_a_checkpoint_is_written", -9, ["model_0000004.pth", "model_0000006.pth.tmp"]),
        ("during_an_evaluation", -9, ["model_0000006.pth"]),
        ("before_an_old_checkpoint_goes", -9, ["model_0000006.pth", "model_0000008.pth"]),
    ], told[-3000:]
    assert not (tmp_path / "killed" / "weights.pth").exists()
    train_classifier(Recipe(**settings), resume=True)
    for name in ("model_0000009.pth", "weights.pth", "weights_best.pth"):
        resumed, whole = read(tmp_path / "killed" / name), read(tmp_path / "whole" / name)
        for part in {"model", "average"} & whole.keys():
            assert list(resumed[part]) == list(whole[part])
            assert not [k for k, v in whole[part].items() if not torch.equal(v, resumed[part][k])], (name, part)
        assert [resumed.get(k) for k in ("step", "best", "metrics")] == [
            whole.get(k) for k in ("step", "best", "metrics")
        ]
    assert {p.name for p in (tmp_path / "killed").iterdir()} == {p.name for p in (tmp_path / "whole").iterdir()}
    other = Recipe(**{**settings, "output": str(tmp_path / "other"), "seed": 1})
    train_classifier(other)
    assert not torch.equal(read(tmp_path / "other" / "weights.pth")["model"]["fc.weight"], whole["model"]["fc.weight"])


@pytest.fixture
def caffe(monkeypatch):
    """A small network whose record is of the Caffe line: BGR pixels, frozen norm with eps 0."""
    entry = BackboneEntry("caffe", BACKBONES["resnet10"].build, Weights(pixels=BGR_255, norm_eps=0.0))
    monkeypatch.setitem(BACKBONES, "caffe", entry)


@pytest.mark.parametrize(("name", "norm"), [("caffe", "bn"), ("resnet10", "bn"), ("resnet10", "gn")])
def test_the_detector_sees_the_features_that_were_trained(recipe, tmp_path, caffe, name, norm):
    train_classifier(recipe(backbone=name, norm=norm, epochs=1, ema=0.5))
    average = read(tmp_path / "out" / "model_0000003.pth")["average"]
    model = build_classifier(name, 3, norm).eval()
    model.load_state_dict({k.removeprefix("module."): v for k, v in average.items() if k != "n_averaged"})
    opts = ["MODEL.BACKBONE.NAME", name, "MODEL.WEIGHT", tmp_path / "out" / "weights.pth", "MODEL.DEVICE", "cpu"]
    opts += ["MODEL.BACKBONE.NORM", "frozen_bn" if norm == "bn" else norm, "MODEL.NECK.OUT_CHANNELS", 32]
    cfg = load_config(str(ROOT / "configs" / "base" / "fcos.yaml"), list(map(str, opts)))
    detector = build_detector(cfg).eval()
    load_weights(detector, cfg)
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    pixels = BACKBONES[name].weights.pixels
    with torch.no_grad():
        want = model.features(PixelInput(pixels, torch.device("cpu"))(images))
        got = detector.backbone(detector.normalize(images, [(64, 96), (64, 96)]))
    for level in want:
        assert (got[level] - want[level]).abs().max() <= 1e-5 * want[level].abs().max(), level


def test_a_batch_of_one_is_for_networks_without_batch_norm(recipe):
    with pytest.raises(ValueError, match=r"--batch-size 1 leaves the batch norms of resnet10 no statistics: write 2"):
        train_classifier(recipe(batch_size=1))
    with pytest.raises(ValueError, match=r"--batch-size 1 leaves the batch norms of skresnet50"):
        train_classifier(recipe(batch_size=1, backbone="skresnet50", norm="gn"))  # of its attention
    assert train_classifier(recipe(batch_size=1, norm="gn", epochs=1))


def test_a_diverging_run_stops_and_keeps_its_checkpoints(recipe, tmp_path):
    with pytest.raises(NonFiniteError, match=r"^(loss|gradient norm) is (nan|inf) at step \d, learning rate \d") as e:
        train_classifier(recipe(lr=1e30, warmup_epochs=0.0, checkpoint_steps=1))
    assert "Lower --lr" in str(e.value)
    (path,) = (tmp_path / "out").glob("model_*.pth")
    assert all(torch.isfinite(v).all() for v in read(path)["model"].values())


def test_another_run_in_the_same_folder_is_refused(recipe):
    train_classifier(recipe(epochs=1))
    with pytest.raises(ValueError, match=r"out already holds a run \(weights_best\.pth\): add --resume"):
        train_classifier(recipe(epochs=1))


def test_a_finished_run_resumes_to_the_same_result(recipe, tmp_path):
    metrics = train_classifier(recipe(epochs=1))
    before = read(tmp_path / "out" / "weights.pth")["model"]
    (tmp_path / "out" / "weights.pth").unlink()
    assert train_classifier(recipe(epochs=1), resume=True) == metrics
    after = read(tmp_path / "out" / "weights.pth")["model"]
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_resumed_run_knows_the_best_so_far(recipe, tmp_path):
    train_classifier(recipe(epochs=1))
    checkpoint = tmp_path / "out" / "model_0000003.pth"
    torch.save({**read(checkpoint), "best": 100.5}, checkpoint)
    train_classifier(recipe(epochs=2), resume=True)
    assert read(tmp_path / "out" / "weights_best.pth")["step"] == 3
    assert read(tmp_path / "out" / "model_0000006.pth")["best"] == 100.5


def test_epochs_without_a_better_one_end_a_run(recipe, tmp_path, caplog):
    caplog.set_level("INFO", "detector")
    settings = {"lr": 1e-12, "epochs": 6, "patience": 1}  # of which every epoch finds the same
    train_classifier(recipe(**settings))
    assert read(tmp_path / "out" / "weights.pth")["step"] == 6
    assert [r["step"] for r in records(tmp_path / "out") if r.get("event") == "patience"] == [6]
    caplog.clear()
    train_classifier(recipe(**settings), resume=True)
    assert "nothing is left to train: no better one in 1 evaluation in a row, so training ends at step 6 of 18" in (
        caplog.text
    )
    assert read(tmp_path / "out" / "weights.pth")["step"] == 6


def test_resuming_as_something_else_is_refused(recipe, data, tmp_path, caplog):
    caplog.set_level("INFO", "detector")
    train_classifier(recipe(epochs=1, warmup_epochs=0.0), resume=True)
    assert "holds no checkpoint to resume from" in caplog.text
    for settings, match in (
        ({"backbone": "resnet18"}, "backbone resnet10, this run has resnet18: resume with resnet10"),
        ({"optimizer": "adamw"}, "optimizer sgd, this run has adamw"),
        ({"norm": "gn"}, "norm bn, this run has gn"),
        ({"batch_size": 6}, "batch-size 4, this run has 6"),
        ({"ema": 0.9}, r"ema 0\.0, this run has 0\.9"),
    ):
        with pytest.raises(ValueError, match=rf"model_0000003\.pth was trained with {match}"):
            train_classifier(recipe(**{"epochs": 2, **settings}), resume=True)
    other = tmp_path / "other"
    for part in ("train", "val"):
        for name in ("blue", "green", "yellow"):
            (other / part / name).mkdir(parents=True)
            for i in range(4):
                (other / part / name / f"{i}.png").write_bytes((data / "train" / "red" / "0.png").read_bytes())
    with pytest.raises(ValueError, match=r"has 3 class folders; class 2 is red there and yellow here"):
        train_classifier(recipe(data=str(other), warmup_epochs=0.0), resume=True)
    caplog.clear()
    train_classifier(recipe(epochs=2, warmup_epochs=0.0, lr=0.02), resume=True)
    assert "trained with lr 0.01; it goes on with 0.02" in caplog.text
    assert "trained with epochs 1; it goes on with 2" in caplog.text
    assert caplog.text.count("goes on with") == 2
    last = [r for r in records(tmp_path / "out") if "lr" in r][-1]
    assert last["lr"] == pytest.approx(0.02 * 0.5 * (1 + math.cos(math.pi * 5 / 6)), rel=1e-4)


def test_a_run_with_fewer_epochs_than_are_done_is_refused(recipe):
    train_classifier(recipe(epochs=2))
    with pytest.raises(ValueError, match=r"model_0000006\.pth is at step 6, beyond the 3 of --epochs 1"):
        train_classifier(recipe(epochs=1), resume=True)


def test_a_checkpoint_of_the_detector_is_refused(recipe, tmp_path):
    (tmp_path / "out").mkdir()
    torch.save({"model": {"head.x": torch.ones(1)}, "step": 1, "optimizer": {}}, tmp_path / "out" / "model_0000001.pth")
    with pytest.raises(ValueError, match=r"model_0000001\.pth is a checkpoint of another task"):
        train_classifier(recipe(), resume=True)


def test_an_unwritable_output_is_named(recipe, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file.inside cannot be written"):
        train_classifier(recipe(output=str(tmp_path / "file" / "inside")))


@pytest.mark.parametrize("settings", [{"amp": "bf16", "mixup": 0.2}, {"amp": "fp16"}, {"norm": "frozen_bn"}])
def test_precisions_and_norms_run(recipe, settings):
    assert train_classifier(recipe(epochs=1, **settings))["loss"] > 0


def test_a_run_starts_from_the_weights_of_another(recipe, tmp_path, caplog):
    caplog.set_level("INFO", "detector")
    train_classifier(recipe(epochs=1))
    first = read(tmp_path / "out" / "weights.pth")["model"]
    start = {"weight": str(tmp_path / "out" / "weights.pth"), "lr": 1e-12, "epochs": 1}
    train_classifier(recipe(output=str(tmp_path / "next"), **start))
    second = read(tmp_path / "next" / "weights.pth")["model"]
    assert "starts anew" not in caplog.text
    for key in ("conv1.weight", "fc.weight"):
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_two_processes_train_as_one(recipe, data, tmp_path):
    """Steps of 5 pictures, of 3 and 2; 6 pictures to evaluate in batches of 5. Without norms that measure a batch."""
    want = train_classifier(recipe(norm="gn", epochs=2, batch_size=5))
    flags = {"backbone": "resnet10", "data": data, "output": tmp_path / "two", "epochs": 2, "batch-size": 5, "crop": 32}
    flags |= {"lr": 0.01, "workers": 0, "device": "cpu", "norm": "gn"}
    words = [word for name, value in flags.items() for word in (f"--{name}", value)]
    ran = torchrun(2, "-m", "detector", "pretrain", *words)
    assert ran.returncode == 0, ran.stderr
    one, two = (read(tmp_path / name / "weights.pth") for name in ("out", "two"))
    assert two["metrics"] == pytest.approx(want, rel=1e-4)
    assert two["step"] == one["step"] == 6
    for name, tensor in one["model"].items():
        torch.testing.assert_close(two["model"][name], tensor, rtol=1e-4, atol=1e-5)


def test_stages_that_are_computed_again_change_no_bit(recipe, tmp_path):
    plain, again = recipe(epochs=1, output=str(tmp_path / "a")), recipe(epochs=1, output=str(tmp_path / "b"))
    again.checkpoint_stages = (1, 2, 3, 4)
    train_classifier(plain)
    train_classifier(again)
    one, other = (torch.load(tmp_path / name / "weights.pth", weights_only=True)["model"] for name in "ab")
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert [r["loss"] for r in records(tmp_path / "a") if "loss" in r] == [
        r["loss"] for r in records(tmp_path / "b") if "loss" in r
    ]


def test_parts_of_a_batch_are_all_of_it(recipe, data, tmp_path):
    task, _ = prepare(recipe(), tmp_path / "out", resume=False)
    batch = next(iter(task.batches(0, 1)))
    assert task.parts(batch, 1) == [batch]
    one, two, three = task.parts(batch, 3)
    assert torch.equal(torch.cat([one.labels, two.labels, three.labels]), batch.labels[[0, 3, 1, 2]])
    assert torch.equal(two.images[0], batch.images[1])
