"""Reads mutated files of one kind, with little memory and time for each, and prints what became of them as JSON.

Run by test_readers.py: mutated.py KIND NUMBER FOLDER.
"""

import copy
import io
import json
import logging
import pickle
import random
import re
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import nn

from detector.config import load_config, save_config
from detector.data.formats import yolo as yolo_format
from detector.data.formats.voc import read
from detector.data.images import read_rgb
from detector.data.index import load_index
from detector.engine.ema import average_weights
from detector.engine.optim import make_optimizer
from detector.engine.run import Run
from detector.errors import UserError
from detector.weights.checkpoint import read_checkpoint, save_checkpoint
from detector.weights.read import read_file

SECONDS, MEMORY = 10, 2 << 30
NUMBERS = [
    "-1",
    "0",
    "1e308",
    "1e999",
    "NaN",
    "2147483648",
    "9223372036854775808",
    "1" * 400,
    '"x"',
    "null",
    "[]",
    "{}",
]
VALUES = [True, None, -1, 2**31, 2**63, 10**30, 1e308, "", "x" * 3000, [], {}, [[]], {"a": 1}, 0.5, "\0", "../../x"]


class SlowError(BaseException):
    """A case took too long."""


def bytes_of(rng, data, text=False):
    """Some bytes changed, gone, doubled or put in; of a text also numbers, which become extremes."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        if not data:
            return bytes(data)
        at, length = rng.randrange(len(data)), rng.choice((1, 2, 8, 40))
        what = rng.randrange(6 if text else 5)
        if what == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            del data[at : at + length]
        elif what == 2:
            data[at:at] = data[max(at - length, 0) : at] * rng.choice((1, 2, 50))
        elif what == 3:
            data[at : at + length] = rng.randbytes(length)
        elif what == 4:
            del data[at:]
        elif numbers := list(re.finditer(rb"-?\d+(?:\.\d+)?", data)):
            one = rng.choice(numbers)
            data[one.start() : one.end()] = rng.choice(NUMBERS).encode()
    return bytes(data)


def places_of(tree, above=()):
    """The ways to all entries of nested dicts and lists."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [way for key, value in pairs for way in [(*above, key), *places_of(value, (*above, key))]]


def changed(rng, tree, values):
    """The tree with another value at one place, or without it, and that place."""
    tree = copy.deepcopy(tree)
    place = rng.choice(places_of(tree))
    inner = tree
    for key in place[:-1]:
        inner = inner[key]
    value = rng.choice(values)
    if value is ... or (isinstance(inner, list) and place[-1] >= len(inner)):
        del inner[place[-1]]
    else:
        inner[place[-1]] = value(inner[place[-1]]) if callable(value) else value
    return tree, place


def valid_index(index):
    """What holds for every index, whatever file it is of."""
    limits = np.stack([index.widths, index.heights] * 2, 1).repeat(np.diff(index.offsets), 0)
    assert len(index) > 0
    assert np.isfinite(index.boxes_xywh).all()
    assert np.isfinite(index.areas).all()
    assert (index.boxes >= 0).all()
    assert (index.boxes <= limits.astype(np.float32)).all()
    assert ((index.labels >= 0) & (index.labels < len(index.classes))).all()
    assert (index.boxes[index.usable, 2:] > index.boxes[index.usable, :2]).all()
    assert index.offsets[-1] == len(index.labels)


# ---------------------------------------------------------------------------- kinds: name -> cases

COCO = {
    "images": [{"id": i, "file_name": f"{i}.png", "height": 40, "width": 60} for i in range(4)],
    "annotations": [
        {
            "id": i,
            "image_id": i % 3,
            "category_id": 1 + i % 2,
            "bbox": [i, 2.5, 20, 11],
            "area": 220,
            "iscrowd": i % 5 == 0,
        }
        for i in range(8)
    ],
    "categories": [{"id": 2, "name": "dog"}, {"id": 1, "name": "cat"}],
}


def coco(rng, folder):
    path = folder / "a.json"
    if rng.random() < 0.5:
        path.write_text(json.dumps(changed(rng, COCO, [*VALUES, ...])[0]))
    else:
        path.write_bytes(bytes_of(rng, json.dumps(COCO, indent=1).encode(), text=True))
    index = load_index(path)
    valid_index(index)


def voc(rng, folder):
    home = folder / "voc"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (home / name).mkdir(parents=True, exist_ok=True)
    files = {home / "ImageSets/Main/train.txt": b"0\n1\n2\n", home / "classes.txt": b"cat\ndog\n"}
    for i in range(3):
        size = "" if i == 2 else "<size><width>60</width><height>40</height></size>"
        edges = "<xmin>3</xmin><ymin>4.5</ymin><xmax>20</xmax><ymax>30</ymax>"
        thing = f"<object><name>cat</name><difficult>{i % 2}</difficult><bndbox>{edges}</bndbox></object>"
        files[home / f"Annotations/{i}.xml"] = f"<annotation>{size}{thing * 2}</annotation>".encode()
        files[home / f"JPEGImages/{i}.png"] = cv2.imencode(".png", np.zeros((40, 60, 3), np.uint8))[1].tobytes()
    for path, data in files.items():
        path.write_bytes(data)
    path = rng.choice(list(files))
    what = rng.random()
    if what < 0.15:
        path.unlink()
    elif what < 0.25:
        depth = rng.choice((10, 1000, 100_000))
        (home / "Annotations/1.xml").write_text(f"<annotation>{'<a>' * depth}{'</a>' * depth}</annotation>")
    else:
        path.write_bytes(bytes_of(rng, files[path], text=path.suffix != ".png"))
    valid_index(read(home, "train"))


def yolo(rng, folder):
    home = folder / "yolo"
    for name in ("images/train", "labels/train"):
        (home / name).mkdir(parents=True, exist_ok=True)
    files = {
        home
        / "data.yaml": b"path: .\ntrain: [train.txt, images/train]\nval: images/val\nnames: {0: cat, 1: dog}\nnc: 2\n",
        home / "train.txt": b"./images/train/0.png\nimages/train/1.png\n",
        home / "labels/train/0.txt": b"0 0.5 0.5 0.25 0.5\n1 0.3 0.3 0.1 0.1\n" * 3,
        home / "labels/train/1.txt": b"1 0.1 0.1 0.5 0.1 0.5 0.5\n0 0.5 0.5 0.2 0.2\n",
    }
    for i in range(3):
        files[home / f"images/train/{i}.png"] = cv2.imencode(".png", np.zeros((40, 60, 3), np.uint8))[1].tobytes()
    for path, data in files.items():
        path.write_bytes(data)
    path = rng.choice(list(files))
    if rng.random() < 0.15:
        path.unlink()
    else:
        path.write_bytes(bytes_of(rng, files[path], text=path.suffix != ".png"))
    for place in (home, home / "data.yaml"):
        valid_index(yolo_format.read(place, rng.choice(("train", "all"))))


def config(rng, folder):
    path = folder / "a.yaml"
    what = rng.random()
    if what < 0.6:
        shipped = rng.choice(sorted((Path(sys.argv[4]) / "configs").rglob("*.yaml"))).read_bytes()
        path.write_bytes(bytes_of(rng, shipped, text=True))
    elif what < 0.8:
        save_config(load_config(None), path)
        path.write_bytes(bytes_of(rng, path.read_bytes(), text=True))
    elif what < 0.85:
        depth = rng.choice((5, 40, 20_000))
        path.write_text(f"SOLVER: {'[' * depth}1{']' * depth}\n")
    elif what < 0.9:
        width, levels = rng.choice(((2, 3), (10, 9)))
        rows = (f"A{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]\n" for i in range(1, levels))
        path.write_text("A0: &a0 [x]\n" + "".join(rows))
    elif what < 0.95:
        length = rng.choice((3, 33, 200))
        for i in range(length):
            (folder / f"b{i}.yaml").write_text(f"_BASE_: b{i + 1}.yaml\n")
        (folder / f"b{length}.yaml").write_text("SEED: 1\n")
        path = folder / "b0.yaml"
    else:
        opener, number = rng.choice(("(", "-", "[", "1,", "{", "'")), rng.choice((10, 1000, 200_000))
        return load_config(None, ["SOLVER.STEPS", opener * number + "1"])
    return load_config(path)


def picture(rng, folder):
    path = folder / "a.jpg"
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    kind = rng.choice(("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"))
    image.save(buffer, kind, **({"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0"} if kind == "JPEG" else {}))
    data = bytearray(bytes_of(rng, buffer.getvalue()) if rng.random() < 0.7 else buffer.getvalue())
    side = rng.choice((1000, 8000, 32000))
    if kind == "JPEG" and rng.random() < 0.5 and (at := data.find(b"\xff\xc0")) > 0 and at + 9 < len(data):
        data[at + 5 : at + 9] = struct.pack(">HH", side, side)
    path.write_bytes(data)
    expected = rng.choice((None, (48, 64)))
    found = read_rgb(path, expected)
    assert found.dtype == np.uint8
    assert found.ndim == 3
    assert expected is None or found.shape == (48, 64, 3)


def run_of(folder, optimizer="adamw", channels=1):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4))
    groups = [{"params": list(model.parameters()), "lr": 0.1, "base_lr": 0.1, "weight_decay": 0.0}]
    facts = {"config": "SEED: 1\n", "classes": ["a", "b"], "category_ids": [3, 7]}
    made = make_optimizer(optimizer, groups, 0.9)
    return Run(folder, model, made, torch.amp.GradScaler("cpu"), facts, average_weights(model, 0.5))


def trained(folder, optimizer="adamw", channels=1):
    run = run_of(folder, optimizer, channels)
    run.scaler.scale(run.model(torch.randn(2, channels, 5, 5)).square().sum()).backward()
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.average.update_parameters(run.model)
    run.step, run.metrics = 1, {"val": {"AP": 0.5}}
    return run


def when_tensor(change):
    return lambda value: change(value) if isinstance(value, torch.Tensor) else "text"


ODD = [
    *(True, None, "x", -1, 0.5, float("nan"), float("inf"), [], {}, [1], {"a": 1}, {1: 2}, ..., 2**70, b"x", (1, 2)),
    *map(
        when_tensor,
        (
            torch.Tensor.half,
            torch.Tensor.bool,
            torch.Tensor.double,
            lambda t: t.to_sparse() if t.ndim else t.half(),
            lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.quint8),
            lambda t: torch.nested.nested_tensor([t.flatten(), t.flatten()]),
            lambda t: t.to("meta"),
            lambda t: t * float("nan"),
            lambda t: t[None],
            lambda t: t.to(torch.complex64),
        ),
    ),
]
OWN = ("model", "average", "optimizer", "scaler", "step", "evaluated", "best")


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) and one.dtype == other.dtype if isinstance(one, torch.Tensor) else one == other


def own_checkpoint(rng, folder):
    kind = rng.choice(("adamw", "sgd"))
    want = trained(folder, kind).content()
    content, place = changed(rng, want, ODD)
    if place[:2] == ("optimizer", "state") and len(place) == 3 and place[-1] not in content["optimizer"]["state"]:
        content["optimizer"]["state"][place[-1]] = {}  # a parameter without a gradient has none: no fault by itself
    save_checkpoint(folder / "x.pth", content)
    run = run_of(folder, kind)
    run.restore(read_checkpoint(folder / "x.pth", "step", "optimizer"))
    got = run.content()
    for entry in OWN:
        if place[0] == entry == "scaler":
            continue  # another number that a scaler may have, as every one is its own
        if place != (entry,):
            assert same(got[entry], want[entry]), f"{entry} differs after a change at {place}"
        elif entry in ("step", "evaluated", "best"):
            assert type(got[entry]) in (int, float)
            assert np.isfinite(got[entry])


def flipped_bit(rng, folder):
    """Of a file as a run writes it; not noticed is only what changes nothing."""
    want = trained(folder, channels=4096).content()
    path = folder / "x.pth"
    save_checkpoint(path, want)
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    run = run_of(folder, channels=4096)
    run.restore(read_checkpoint(path, "step", "optimizer"))
    assert all(same(run.content()[entry], want[entry]) for entry in OWN)


STATE = {"conv1.weight": torch.arange(24.0).view(2, 3, 4), "bn1.bias": torch.ones(3)}


def torch_file(rng, folder):
    state, _ = changed(rng, {"model": STATE, "epoch": 3}, ODD)
    torch.save(state, folder / "x.pth", _use_new_zipfile_serialization=rng.random() < 0.5)
    if rng.random() < 0.3:
        (folder / "x.pth").write_bytes(bytes_of(rng, (folder / "x.pth").read_bytes()))
    plain(read_file(folder / "x.pth"))


def safetensors_file(rng, folder):
    from safetensors.torch import save

    data = save(STATE)
    size = struct.unpack("<Q", data[:8])[0]
    header = bytes_of(rng, data[8 : 8 + size], text=True) if rng.random() < 0.7 else data[8 : 8 + size]
    length = rng.choice((len(header), len(header), len(header), 2**62, 0, size))
    path = folder / "x.safetensors"
    path.write_bytes(struct.pack("<Q", length) + header + data[8 + size :])
    plain(read_file(path))


def pickle_file(rng, folder):
    arrays = {key: value.numpy() for key, value in STATE.items()}
    odd = [
        np.array([{}], object),
        np.array(["x"]),
        np.array([1j]),
        np.zeros(2, [("a", "<f4")]),
        np.float16(3),
        *ODD[:16],
    ]
    content, _ = changed(rng, {"blobs": arrays}, odd) if rng.random() < 0.4 else ({"blobs": arrays}, None)
    data = pickle.dumps(content, rng.choice((2, 4, 5)))
    path = folder / "x.pkl"
    path.write_bytes(bytes_of(rng, data) if rng.random() < 0.7 else data)
    plain(read_file(path))


def plain(file):
    for key, value in file.state.items():
        assert isinstance(key, str)
        assert value.layout == torch.strided
        value.double().sum()


KINDS = {
    one.__name__: one
    for one in (
        coco,
        voc,
        yolo,
        config,
        picture,
        own_checkpoint,
        flipped_bit,
        torch_file,
        safetensors_file,
        pickle_file,
    )
}


def main(kind, number, folder):
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    case = KINDS[kind]

    def late(*_):
        raise SlowError

    signal.signal(signal.SIGALRM, late)
    # What was imported counts for nothing; what a case takes is bounded.
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    told = {"right": 0, "refused": 0, "slowest": 0.0, "failures": []}
    for seed in range(number):
        place = folder / str(seed)
        place.mkdir()
        started = time.perf_counter()
        signal.alarm(SECONDS)
        try:
            case(random.Random(f"{kind} {seed}"), place)
            told["right"] += 1
        except UserError as error:
            told["refused"] += 1
            listed = kind == "config" and re.match(r"\d+ problems in the config\n", str(error))
            several = "not fit the model" in str(error)
            if ("\n" in str(error) and not listed and not several) or len(str(error)) > 5000:
                told["failures"].append(f"seed {seed}: no line: {str(error)[:500]}")
        except BaseException as error:
            told["failures"].append(f"seed {seed}: {traceback.format_exc()[-1500:]}")
            if isinstance(error, KeyboardInterrupt):
                raise
        finally:
            signal.alarm(0)
            told["slowest"] = max(told["slowest"], time.perf_counter() - started)
    told["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
