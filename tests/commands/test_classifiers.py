"""The commands for classifiers as a user calls them: pretrain, a kill, --resume, classify; bad input in one line."""

import inspect
import json
import os
import signal
import sys
import time
from dataclasses import fields

import cv2
import numpy as np
import pytest
import torch
from helpers.fresh import Fresh, fresh
from helpers.runs import read

from detector.commands import classify, pretrain
from detector.data.image_folder import INTERPOLATIONS
from detector.engine.device import AMP
from detector.models.backbones import BACKBONES, build_classifier
from detector.ops.soft_targets import DISTILL
from detector.tasks.accuracy import measure_accuracy
from detector.tasks.classification import train_classifier
from detector.tasks.recipe import BASE, Recipe

REQUIRED = ["--backbone", "b", "--data", "d", "--output", "o"]
TEXTURES = ("checks", "columns", "plain", "rows")
SETTINGS = {
    "backbone": "resnet10", "epochs": 5, "batch_size": 16, "crop": 32, "lr": 0.02, "ema": 0.8, "mixup": 0.1,
    "workers": 1, "checkpoint_steps": 4, "device": "cpu", "seed": 5,
}  # fmt: skip


def draw(texture, rng):
    """Light marks on a dark ground, uint8 [56, 64, 3]."""
    image = np.empty((56, 64, 3), np.uint8)
    image[:] = rng.integers(0, 90, 3)
    rows, columns = np.indices((56, 64)) // 5 % 2 == 0
    marks = {"checks": rows ^ columns, "columns": columns, "plain": np.zeros_like(rows), "rows": rows}[texture]
    image[marks] = rng.integers(160, 256, 3)
    return image


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("textures")
    rng = np.random.default_rng(0)
    for part, number in (("train", 20), ("val", 10)):
        for texture in TEXTURES:
            (root / part / texture).mkdir(parents=True)
            for i in range(number):
                cv2.imwrite(str(root / part / texture / f"{i}.png"), draw(texture, rng))
    return root


def flags(**settings):
    return [text for name, value in settings.items() for text in (f"--{name.replace('_', '-')}", str(value))]


def test_train_kill_resume_test(data, tmp_path, capsys):
    common = {**SETTINGS, "data": str(data)}
    out = tmp_path / "out"
    run = Fresh("-m", "detector", "pretrain", *flags(**common, output=out))
    deadline = time.monotonic() + 120
    while not list(out.glob("model_*.pth")):
        assert run.runs()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)  # somewhere between two checkpoints, or in one
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait().returncode == -signal.SIGKILL
    assert not (out / "weights.pth").exists()

    resumed = fresh("-m", "detector", "pretrain", *flags(**common, output=out), "--resume")
    assert resumed.returncode == 0, resumed.stderr
    train_classifier(Recipe(**common, output=str(tmp_path / "whole")))
    resumed, whole = read(out / "weights.pth"), read(tmp_path / "whole" / "weights.pth")
    assert not [key for key, value in whole["model"].items() if not torch.equal(value, resumed["model"][key])]
    assert resumed["metrics"] == whole["metrics"]
    events = [json.loads(line).get("event") for line in (out / "log.jsonl").read_text().splitlines()]
    assert events.count("resume") == 1

    capsys.readouterr()
    file = tmp_path / "result.json"
    test = ["--data", str(data / "val"), "--backbone", "resnet10", "--weight", str(out / "weights.pth")]
    classify.main([*test, "--workers", "0", "--device", "cpu", "--json", str(file)])
    text, result = capsys.readouterr().out, json.loads(file.read_text())
    assert result["top1"] >= 90
    assert result["top1"] == pytest.approx(whole["metrics"]["top1"])
    assert result["loss"] == pytest.approx(whole["metrics"]["loss"], rel=1e-4)  # frozen_bn computes what bn did
    assert (result["crop"], result["resize"], result["images"], result["top4"]) == (32, 37, 40, 100)
    assert f"top-1 {result['top1']:.3f} %   top-4 100.000 %" in text
    assert "only 4 classes: top-4 stands for top-5" in text


def error(command, args):
    """The line that a command ends with."""
    with pytest.raises(SystemExit) as caught:
        command.main(args)
    text = caught.value.code
    del caught  # its traceback holds this frame; collected later as a cycle, a loader waits 5 s for its workers
    assert isinstance(text, str), text
    assert text.startswith("error: ")
    return text


@pytest.fixture
def weight(tmp_path):
    model = build_classifier("resnet10", 4)
    facts = {"backbone": "resnet10", "classes": list(TEXTURES), "norm": "bn", "passes": 0, "crop": 32}
    torch.save({"model": model.state_dict(), **facts}, tmp_path / "own.pth")
    torch.save(model.state_dict(), tmp_path / "plain.pth")
    return tmp_path / "own.pth"


def test_the_tester_answers_bad_input_in_one_line(data, tmp_path, weight):
    def answer(**settings):
        common = {"backbone": "resnet10", "data": data / "val", "weight": weight, "workers": 0, "device": "cpu"}
        return error(classify, flags(**{**common, **settings}))

    assert "unknown backbone 'resnet5'; close: " in answer(backbone="resnet5")
    assert "there is no such folder" in answer(data=tmp_path / "nowhere")
    assert f"{data} holds no class folders but {data / 'val'}" in answer(data=data)
    assert "--weight: there is no file" in answer(weight=tmp_path / "nothing.pth")
    assert "set --weight to a file" in answer(weight="imagenet")
    assert "write --backbone resnet10" in answer(backbone="resnet18")
    assert "set --backbone to" in answer(backbone="resnet18", weight=tmp_path / "plain.pth").lower()
    assert "--device tpu" in answer(device="tpu").replace("'", "")
    assert "--crop is 31" in answer(crop=31)
    assert "--resize is 31" in answer(resize=31)
    (tmp_path / "two" / "checks").mkdir(parents=True)
    (tmp_path / "two" / "plain").mkdir()
    assert f"{tmp_path / 'two' / 'checks'}: this class folder holds no picture" in answer(data=tmp_path / "two")
    for name in ("checks", "plain"):
        cv2.imwrite(str(tmp_path / "two" / name / "0.png"), draw(name, np.random.default_rng(0)))
    few = answer(data=tmp_path / "two", weight=tmp_path / "plain.pth")
    assert "2 class folders" in few
    assert "4 outputs and does not name them" in few
    assert "class 1 is columns there and plain here" in answer(data=tmp_path / "two")
    torch.save({"model": {"conv1.weight": torch.ones(1)}}, tmp_path / "other.pth")
    assert "other.pth does not fit the model" in answer(weight=tmp_path / "other.pth")
    bare = {k: v for k, v in torch.load(tmp_path / "plain.pth", weights_only=True).items() if not k.startswith("fc.")}
    torch.save(bare, tmp_path / "bare.pth")
    assert "holds a backbone without classifier" in answer(weight=tmp_path / "bare.pth")


def test_the_trainer_answers_bad_input_in_one_line(data, tmp_path, monkeypatch):
    def answer(*more, **settings):
        common = {**SETTINGS, "data": data, "output": tmp_path / "out", "epochs": 1}
        return error(pretrain, [*flags(**{**common, **settings}), *more])

    assert "unknown backbone 'resnet5'; close: " in answer(backbone="resnet5")
    assert f"{data / 'val' / 'train'}: there is no such folder" in answer(data=data / "val")
    assert "--crop is 31" in answer(crop=31)
    assert "--lr is 0.0; it must be above 0" in answer(lr=0)
    assert "write --batch-size 80 or less" in answer(batch_size=97)
    assert "--weight: there is no file" in answer(weight=tmp_path / "nothing.pth")
    (tmp_path / "file").write_text("")
    assert "--output" in answer(output=tmp_path / "file" / "out")
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert answer("--tensorboard").startswith("error: --tensorboard needs a package that cannot be imported")
    assert not list(tmp_path.glob("out/model*"))


def test_a_damaged_picture_is_named_by_the_trainer(data, tmp_path, monkeypatch):
    for part in ("train", "val"):
        for i, name in enumerate(("a", "b")):
            (tmp_path / part / name).mkdir(parents=True)
            for j in range(2):
                cv2.imwrite(str(tmp_path / part / name / f"{j}.png"), draw(TEXTURES[i], np.random.default_rng(j)))
    settings = {**SETTINGS, "data": tmp_path, "output": tmp_path / "out", "epochs": 1, "batch_size": 4}
    (tmp_path / "train" / "b" / "1.png").write_text("no picture")
    text = error(pretrain, flags(**settings))
    assert text == f"error: {tmp_path / 'train' / 'b' / '1.png'}: the file is empty or no picture; " + (
        "fetch it again or delete it"
    )


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    (tmp_path / "tiny_plugin.py").write_text(
        "from detector.models.backbones import BACKBONES, Weights, register_backbone\n"
        "register_backbone('tiny_plugin_net', Weights())(BACKBONES['resnet10'].build)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    BACKBONES.pop("tiny_plugin_net", None)


def test_a_plugin_s_backbone_trains_and_tests(data, tmp_path, capsys, plugin):
    settings = {
        **SETTINGS,
        "backbone": "tiny_plugin_net",
        "import": "tiny_plugin",
        "workers": 0,
        "epochs": 1,
        "batch_size": 40,
    }
    pretrain.main(flags(**{**settings, "data": data, "output": tmp_path / "out", "crop": 32}))
    weight = tmp_path / "out" / "weights_best.pth"
    common = {"backbone": "tiny_plugin_net", "import": "tiny_plugin", "workers": 0, "device": "cpu"}
    classify.main(flags(**common, data=data / "val", weight=weight))
    assert "tiny_plugin_net" in capsys.readouterr().out


def test_the_flags_are_the_recipe_s_fields_with_its_defaults():
    parser = pretrain.build_parser()
    own = {
        name: default
        for name, default in vars(parser.parse_args(REQUIRED)).items()
        if name not in ("imports", "resume")
    }
    assert own == {
        field.name: {"backbone": "b", "data": "d", "output": "o"}.get(field.name, field.default)
        for field in fields(Recipe)
    }
    text = " ".join(parser.format_help().split())
    for name, (rate, decay) in BASE.items():
        assert f"{rate:g} ({name})" in text
        assert f"{decay:g} ({name})" in text


def test_stages_are_written_with_commas(capsys):
    parser = pretrain.build_parser()
    assert parser.parse_args([*REQUIRED, "--checkpoint-stages", "1,3"]).checkpoint_stages == (1, 3)
    assert parser.parse_args([*REQUIRED, "--stage-lr-factors", "1,.5"]).stage_lr_factors == (1.0, 0.5)
    for flag, text, answer in (
        ("--checkpoint-stages", "one", "'one' is no list of whole numbers: write e.g. 1,2"),
        ("--stage-lr-factors", "abc", "'abc' is no list of numbers: write e.g. 0.05,0.05,0.05,0.1,0.15"),
    ):
        with pytest.raises(SystemExit):
            parser.parse_args([*REQUIRED, flag, text])
        assert f"{flag}: {answer}" in capsys.readouterr().err


def test_the_flags_of_the_measurement_are_its_arguments():
    parser = classify.build_parser()
    given = vars(parser.parse_args(REQUIRED[:4])).keys() - {"imports", "json"}
    assert given == inspect.signature(measure_accuracy).parameters.keys()


def test_home_is_expanded_in_paths(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    args = classify.build_parser().parse_args(["--backbone", "resnet10", "--data", "~/val", "--json", "~/numbers.json"])
    assert (args.data, args.json) == ("/home/me/val", "/home/me/numbers.json")


def test_choices_are_what_there_is():
    choices = {
        (parser.prog, action.dest): action.choices
        for parser in (pretrain.build_parser(), classify.build_parser())
        for action in parser._actions
        if action.choices
    }
    assert choices == {
        ("detector pretrain", "norm"): ("bn", "gn", "frozen_bn"),
        ("detector pretrain", "optimizer"): tuple(BASE),
        ("detector pretrain", "amp"): tuple(AMP),
        ("detector pretrain", "distill"): DISTILL,
        ("detector pretrain", "teacher_amp"): tuple(AMP),
        ("detector classify", "norm"): ("frozen_bn", "bn", "gn"),
        ("detector classify", "interpolation"): tuple(INTERPOLATIONS),
        ("detector classify", "amp"): tuple(AMP),
    }


def test_help_explains_the_crops(capsys):
    with pytest.raises(SystemExit):
        classify.main(["--help"])
    assert "224; 256, 320, 416 for resnest101, 200, 269" in " ".join(capsys.readouterr().out.split())
