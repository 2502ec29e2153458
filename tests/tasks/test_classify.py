import math

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision import transforms as v1

from detector.data.image_folder import LabelledImages
from detector.errors import NonFiniteError
from detector.models.backbones import (
    BACKBONES,
    BGR_255,
    RGB_UNIT,
    Classifier,
    Weights,
    build_backbone,
    build_classifier,
    load_backbone,
)
from detector.models.backbones.base import BackboneEntry
from detector.tasks.accuracy import PixelInput, evaluate, measure_accuracy
from detector.tasks.classifier_weights import export_state, load_start, read_facts
from detector.weights.load import count_outputs
from detector.weights.read import read_file

CPU = torch.device("cpu")
CLASSES = ["ape", "bat", "cat", "dog"]


@pytest.fixture
def folder(tmp_path):
    """Five pictures of noise, of different sizes, in four class folders."""
    rng = np.random.default_rng(0)
    for i, name in enumerate((*CLASSES, "dog")):
        (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 256, (60 + 10 * i, 90, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "data" / name / f"{i}.png")
    return tmp_path / "data"


@pytest.fixture
def caffe(monkeypatch):
    """A small network whose record is of the Caffe line: BGR pixels, frozen norm with eps 0."""
    entry = BackboneEntry("caffe", BACKBONES["resnet10"].build, Weights(pixels=BGR_255, norm_eps=0.0))
    monkeypatch.setitem(BACKBONES, "caffe", entry)
    return entry


def measured(model, norm_seed=0):
    """A network whose batch norms have seen data: small variances, in which eps counts."""
    generator = torch.Generator().manual_seed(norm_seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(1e-5, 1e-3, generator=generator)
    return model.eval()


class Table(nn.Module):
    """Logits by the first pixel's value."""

    def __init__(self, rows):
        super().__init__()
        self.rows = torch.tensor(rows)

    def forward(self, images):
        assert not self.training
        return self.rows[images[:, 0, 0, 0].round().long()]


def batches(labels, size):
    """Batches of 1x1 pictures whose value is their place."""
    for start in range(0, len(labels), size):
        part = torch.tensor(labels[start : start + size])
        values = torch.arange(start, start + len(part), dtype=torch.uint8).view(-1, 1, 1, 1)
        yield LabelledImages(values.expand(-1, 3, 1, 1), part)


def prepare():
    return PixelInput(RGB_UNIT._replace(mean=(0, 0, 0), std=(1, 1, 1)), CPU)


def test_top_1_and_top_5_by_hand():
    # Six classes; the place of the label among the sorted logits: 1, 2, 5, 6, 1.
    rows = [
        [9.0, 1, 2, 3, 4, 5],
        [6.0, 7, 1, 2, 3, 4],
        [3.0, 1, 7, 6, 5, 4],
        [1.0, 2, 3, 4, 5, 6],
        [0.0, 0.1, 0.2, 0.3, 0.4, 2.0],
    ]
    labels = [0, 0, 0, 0, 5]
    model = Table(rows).train()
    accuracy = evaluate(model, batches(labels, 2), prepare())
    assert accuracy.images == 5
    assert accuracy.k == 5
    assert accuracy.top1 == pytest.approx(40)
    assert accuracy.topk == pytest.approx(80)
    losses = [math.log(sum(math.exp(v - row[label]) for v in row)) for row, label in zip(rows, labels)]
    assert accuracy.loss == pytest.approx(sum(losses) / 5, rel=1e-6)
    assert accuracy.numbers().keys() == {"top1", "top5", "loss"}
    assert model.training


def test_with_fewer_than_five_classes_k_is_their_number():
    accuracy = evaluate(Table([[1.0, 2, 3], [3.0, 2, 1]]).eval(), batches([1, 0], 2), prepare())
    assert (accuracy.k, accuracy.top1, accuracy.topk) == (3, 50, 100)
    assert accuracy.numbers().keys() == {"top1", "top3", "loss"}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_network_is_no_accuracy(value):
    with pytest.raises(NonFiniteError, match=r"the loss of the evaluation is (nan|inf)"):
        evaluate(Table([[0.0, value], [0.0, 1.0]]), batches([0, 0], 2), prepare())


def test_pixels_are_normalised_and_ordered_as_the_record_says():
    image = torch.tensor([200, 100, 50], dtype=torch.uint8).view(1, 3, 1, 1)
    rgb = PixelInput(RGB_UNIT, CPU)(image).flatten().tolist()
    assert rgb == pytest.approx([(200 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (50 / 255 - 0.406) / 0.225])
    bgr = PixelInput(BGR_255, CPU)(image).flatten().tolist()
    assert bgr == pytest.approx([50 - 102.9801, 100 - 115.9465, 200 - 122.7717])


def test_accuracy_and_loss_are_those_of_torchvisions_network_and_pipeline(folder, tmp_path):
    torch.manual_seed(3)
    network = measured(torchvision.models.resnet18(num_classes=4))
    nn.init.normal_(network.fc.weight, std=0.2)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    pipeline = v1.Compose(
        [v1.Resize(73), v1.CenterCrop(64), v1.ToTensor(), v1.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )
    images, labels = zip(*torchvision.datasets.ImageFolder(str(folder), pipeline))
    with torch.no_grad():
        logits = network(torch.stack(images))
    want = 100 * (logits.argmax(1) == torch.tensor(labels)).float().mean().item()
    loss = nn.functional.cross_entropy(logits, torch.tensor(labels)).item()
    for norm in ("frozen_bn", "bn"):
        weight = str(tmp_path / "weights.pth")
        got = measure_accuracy("resnet18", folder, weight, norm=norm, crop=64, workers=0, device="cpu", batch_size=2)
        assert got["top1"] == pytest.approx(want)
        assert got["loss"] == pytest.approx(loss, rel=1e-4)
        assert (got["images"], got["classes"], got["crop"], got["resize"], got["top4"]) == (5, 4, 64, 73, 100)
        assert got["published"] is None


def test_exported_weights_compute_in_the_frozen_norm_what_was_trained(caffe, tmp_path):
    images = torch.randn(2, 3, 64, 64)
    for name in ("caffe", "resnet10"):
        model = measured(build_classifier(name, 4, "bn"))
        torch.save({"model": export_state(model, "bn", BACKBONES[name].weights.norm_eps)}, tmp_path / "weights.pth")
        torch.save({"model": model.state_dict()}, tmp_path / "plain.pth")
        frozen, plain = build_backbone(name, "frozen_bn"), build_backbone(name, "frozen_bn")
        load_backbone(frozen, BACKBONES[name].weights, read_file(tmp_path / "weights.pth"))
        load_backbone(plain, BACKBONES[name].weights, read_file(tmp_path / "plain.pth"))
        with torch.no_grad():
            want, got, naive = model.features(images), frozen.eval()(images), plain.eval()(images)
        for level in want:
            scale = want[level].abs().max()
            assert (got[level] - want[level]).abs().max() <= 1e-5 * scale
        # Without the export the eps would be missing: the check above is no matter of course.
        apart = (naive["c5"] - want["c5"]).abs().max() / want["c5"].abs().max()
        assert apart > 0.01 if name == "caffe" else apart < 1e-5


@pytest.mark.parametrize(("name", "norm"), [("resnet10", "gn"), ("resnet10", "frozen_bn"), ("skresnet50", "gn")])
def test_the_export_is_a_copy_and_leaves_other_norms_alone(name, norm):
    model = build_classifier(name, 2, norm)
    state = export_state(model, norm, 0.0)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    state["fc.bias"] += 1
    assert not torch.equal(model.fc.bias, state["fc.bias"])


def write(path, model, **facts):
    known = {"backbone": "resnet10", "classes": CLASSES, "norm": "bn", "passes": 0, "crop": 64}
    torch.save({"model": model.state_dict(), **known, **facts}, path)
    return str(path)


def measure(folder, weight, backbone="resnet10", **more):
    return measure_accuracy(backbone, folder, weight, **{"workers": 0, "device": "cpu", "crop": 64, **more})


def test_a_weight_file_names_its_crop_and_passes(folder, tmp_path):
    backbone = build_backbone("resnet10", "bn", passes=1)
    model = measured(Classifier(backbone, 4))
    weight = write(tmp_path / "own.pth", model, crop=48, passes=1)
    got = measure(folder, weight, crop=0)
    assert (got["crop"], got["resize"]) == (48, 55)
    eighteen = build_classifier("resnet18", 4)
    once = measure(folder, write(tmp_path / "once.pth", eighteen, backbone="resnet18", passes=1), "resnet18")["loss"]
    twice = measure(folder, write(tmp_path / "twice.pth", eighteen, backbone="resnet18", passes=2), "resnet18")["loss"]
    asked = measure(folder, str(tmp_path / "once.pth"), "resnet18", passes=2)["loss"]
    assert twice == asked
    assert twice != pytest.approx(once, rel=1e-3)


def test_files_that_do_not_fit_are_refused_with_the_remedy(folder, tmp_path):
    model = build_classifier("resnet10", 4)
    good = write(tmp_path / "good.pth", model)
    assert measure(folder, good)["images"] == 5
    with pytest.raises(KeyError, match=r"unknown backbone 'resnet11'; close: resnet1"):
        measure(folder, good, "resnet11")
    with pytest.raises(ValueError, match=r"--weight is empty"):
        measure(folder, "")
    with pytest.raises(ValueError, match=r"no weights are published for resnet10"):
        measure(folder, "imagenet")
    with pytest.raises(ValueError, match=r"good\.pth was trained as resnet10: write --backbone resnet10"):
        measure(folder, good, "resnet18")
    with pytest.raises(ValueError, match=r"good\.pth was trained with --norm bn: leave --norm out"):
        measure(folder, good, norm="gn")
    grouped = write(tmp_path / "gn.pth", build_classifier("resnet10", 4, "gn"), norm="gn")
    with pytest.raises(ValueError, match=r"gn\.pth was trained with --norm gn: write --norm gn"):
        measure(folder, grouped)
    other = write(tmp_path / "other.pth", model, classes=["ape", "bat", "cow", "dog"])
    with pytest.raises(ValueError, match=r"other\.pth was trained on 4 classes.*class 2 is cow there and cat here"):
        measure(folder, other)
    torch.save(build_classifier("resnet10", 1000).state_dict(), tmp_path / "plain.pth")
    with pytest.raises(ValueError, match=r"data has 4 class folders, .*plain\.pth has 1000 outputs.*ImageNet"):
        measure(folder, str(tmp_path / "plain.pth"))
    torch.save(build_backbone("resnet10").state_dict(), tmp_path / "headless.pth")
    with pytest.raises(ValueError, match=r"headless\.pth holds a backbone without classifier"):
        measure(folder, str(tmp_path / "headless.pth"))
    torch.save(torchvision.models.resnet18(num_classes=4).state_dict(), tmp_path / "eighteen.pth")
    with pytest.raises(ValueError, match=r"eighteen\.pth does not fit the model"):
        measure(folder, str(tmp_path / "eighteen.pth"))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ValueError, match=r"text\.pth is truncated or no weight file"):
        measure(folder, str(tmp_path / "text.pth"))
    with pytest.raises(ValueError, match=r"--crop is 16"):
        measure(folder, good, crop=16)
    with pytest.raises(ValueError, match=r"--batch-size is 0 and --workers 0"):
        measure(folder, good, batch_size=0)


def test_published_numbers_stand_beside_those_of_published_weights(folder, tmp_path, monkeypatch):
    torch.save(build_classifier("resnet10", 4).state_dict(), tmp_path / "here.pth")
    record = Weights(((tmp_path / "here.pth").as_uri(),), top1=70.0, top5=90.0)
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(BACKBONES, "known", BackboneEntry("known", BACKBONES["resnet10"].build, record))
    assert measure(folder, "imagenet", "known")["published"] == {"top1": 70.0, "top5": 90.0}
    assert measure(folder, "imagenet", "known", passes=2)["published"] is None


def test_published_weights_are_measured_on_their_crop(folder, tmp_path, monkeypatch):
    torch.save(build_classifier("resnet10", 4).state_dict(), tmp_path / "here.pth")
    record = Weights(((tmp_path / "here.pth").as_uri(),), crop=64)
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(BACKBONES, "known", BackboneEntry("known", BACKBONES["resnet10"].build, record))
    got = measure_accuracy("known", folder, workers=0, device="cpu")
    assert (got["crop"], got["resize"]) == (64, 73)
    assert measure_accuracy("known", folder, crop=96, workers=0, device="cpu")["crop"] == 96
    got = measure_accuracy("known", folder, str(tmp_path / "here.pth"), workers=0, device="cpu")
    assert got["crop"] == 224


def test_only_files_of_the_pre_training_name_their_classes(tmp_path):
    model = build_classifier("resnet10", 4)
    write(tmp_path / "own.pth", model)
    facts = read_facts(read_file(tmp_path / "own.pth"))
    assert facts == {"backbone": "resnet10", "classes": CLASSES, "norm": "bn", "passes": 0, "crop": 64}
    torch.save(model.state_dict(), tmp_path / "plain.pth")
    torch.save({"model": model.state_dict(), "classes": CLASSES}, tmp_path / "detector.pth")
    plain, detector = (read_file(tmp_path / f"{name}.pth") for name in ("plain", "detector"))
    assert [read_facts(file) for file in (plain, detector)] == [{}, {}]
    assert count_outputs(model, Weights(), plain) == 4


def test_a_start_keeps_a_classifier_of_the_same_classes_and_drops_any_other(tmp_path, caplog):
    caplog.set_level("INFO", "detector")
    source = build_classifier("resnet10", 4)
    path = tmp_path / "own.pth"
    write(path, source)

    def start(classes, file=path):
        backbone = build_backbone("resnet10", "bn")
        model = Classifier(backbone, len(classes))
        load_start(backbone, model, Weights(), read_file(file), "bn", classes)
        assert torch.equal(model.layer4[0].conv1.weight, source.layer4[0].conv1.weight)
        return len(classes) == 4 and torch.equal(model.fc.weight, source.fc.weight)

    assert start(CLASSES)
    assert "starts anew" not in caplog.text
    assert not start(["ape", "bat", "cat", "elk"])
    assert not start(["ape", "bat"])
    assert "a classifier of 4 other classes, which is dropped: that of these 2 classes starts anew" in caplog.text
    torch.save({k: v for k, v in source.state_dict().items() if not k.startswith("fc.")}, tmp_path / "headless.pth")
    assert not start(CLASSES, tmp_path / "headless.pth")
    assert "has no classifier: that of these 4 classes starts anew" in caplog.text
    with pytest.raises(ValueError, match=r"own\.pth was trained with --norm bn: leave --norm out"):
        load_start(build_backbone("resnet10", "gn"), source, Weights(), read_file(path), "gn", CLASSES)
