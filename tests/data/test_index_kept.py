"""The index that is kept of a large annotation file."""

import logging
import multiprocessing
import os
import pickle

import numpy as np
import pytest
from helpers.fresh import fresh

from detector.data import index as module
from detector.data.formats import coco as reader
from detector.data.index import load_index
from detector.data.mapped import open_arrays, write_arrays


@pytest.fixture(autouse=True)
def every_size(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "SMALL", 0)
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def path(coco):
    return coco.annotate([{"bbox": [1, 2, 30, 40]}, {"bbox": [3, 3, 0, 5]}, {"bbox": [5, 6, 7, 8], "iscrowd": 1}])


@pytest.fixture
def decoded(monkeypatch):
    """The files that were decoded."""
    paths, read = [], reader.read
    monkeypatch.setattr(reader, "read", lambda path, *rest: paths.append(path) or read(path, *rest))
    return paths


def kept(path):
    return path.with_name(f".{path.name}.index")


def same(first, other):
    for name, value in vars(first).items():
        theirs = getattr(other, name)
        if isinstance(value, np.ndarray):
            assert value.dtype == theirs.dtype, name
            assert np.array_equal(value, theirs), name
        elif name != "mapped":
            assert value == theirs, name


def test_the_second_time_nothing_is_decoded_and_the_same_is_said(path, decoded, caplog):
    fresh = reader.read(path)
    del decoded[:]
    first = load_index(path)
    said = caplog.messages.copy()
    second = load_index(path)
    assert decoded == [path]
    same(fresh, first)
    same(fresh, second)
    assert len(said) == 1
    assert "1 box has a width or height of zero" in said[0]
    assert caplog.messages == said * 2
    assert first.mapped.path == second.mapped.path == kept(path)
    assert second.rows(0) == slice(0, 3)


def test_small_files_are_decoded_each_time(path, decoded, monkeypatch):
    monkeypatch.setattr(module, "SMALL", path.stat().st_size)
    assert load_index(path).mapped is None
    load_index(path)
    assert decoded == [path, path]
    assert not kept(path).exists()


@pytest.mark.parametrize(
    "change", ["time", "first MiB", "last MiB", "length", "no arrays", "other arrays", "cut", "bit", "reader"]
)
def test_what_is_stale_or_damaged_is_written_anew(path, decoded, change, monkeypatch):
    monkeypatch.setattr(module, "_ENDS", 40)
    load_index(path)
    state, data, place = path.stat(), path.read_bytes(), kept(path)
    if change == "time":
        os.utime(path, ns=(1, 1))
    elif change.endswith("MiB"):
        old, new = (b'{"images": ', b'{"images" :') if change == "first MiB" else (b'"dog"', b'"cow"')
        path.write_bytes(data.replace(old, new))
        os.utime(path, ns=(state.st_mtime_ns, state.st_mtime_ns))
        assert path.stat().st_size == len(data)
        assert path.read_bytes() != data
    elif change == "length":
        path.write_bytes(data + b" ")
        os.utime(path, ns=(state.st_mtime_ns, state.st_mtime_ns))
    elif change == "reader":
        monkeypatch.setattr(module, "_reader", lambda: "of another build")
    elif change == "no arrays":
        write_arrays(place, {}, open_arrays(place).values)
    elif change == "other arrays":
        write_arrays(place, open_arrays(place).arrays, {"stamp": 5})
    elif change == "cut":
        place.write_bytes(place.read_bytes()[:-1])
    else:
        broken = bytearray(place.read_bytes())
        broken[60] ^= 1
        place.write_bytes(broken)
    index = load_index(path)
    assert decoded == [path, path]
    assert index.classes == ["cat", "cow" if change == "last MiB" else "dog"]
    load_index(path)
    assert decoded == [path, path]


def test_where_the_folder_cannot_be_written_the_cache_folder_serves(path, decoded, monkeypatch, tmp_path):
    place = kept(path)
    monkeypatch.setattr(module, "write_arrays", lambda at, *rest: refuse() if at == place else write_arrays(at, *rest))

    def refuse():
        raise PermissionError(13, "Permission denied", str(place))

    first, second = load_index(path), load_index(path)
    assert decoded == [path]
    assert second.mapped.path.is_relative_to(tmp_path / "cache" / "indexes")
    same(first, second)


def test_of_the_indexes_in_the_cache_folder_the_newest_stay(path, monkeypatch, tmp_path):
    kept(path).mkdir()  # nothing can be written there
    monkeypatch.setattr(module, "KEPT", 3)
    folder = tmp_path / "cache" / "indexes"
    folder.mkdir(parents=True)
    for i in range(5):
        (folder / f"{i}.index").write_bytes(b"")
        os.utime(folder / f"{i}.index", (i, i))
    mine = load_index(path).mapped.path.name
    assert {one.name for one in folder.iterdir()} == {"3.index", "4.index", mine}


def test_where_nothing_can_be_written_it_is_decoded_each_time(path, decoded, monkeypatch, caplog):
    def refuse(*args):
        raise OSError(28, "No space left on device")

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "write_arrays", refuse)
    assert load_index(path).mapped is None
    assert load_index(path).num_boxes().tolist() == [1]
    assert decoded == [path, path]
    assert any("cannot be kept" in message for message in caplog.messages)


def test_a_folder_in_its_place_is_no_index(path):
    kept(path).mkdir()
    assert load_index(path).num_boxes().tolist() == [1]


def test_a_pickled_index_carries_no_arrays(coco):
    many = [{"bbox": [1, 2, 30, 40 + i / 1000]} for i in range(2000)]
    path = coco.annotate(many)
    index = load_index(path)
    data = pickle.dumps(index)
    assert len(data) < 4000
    other = pickle.loads(data)
    same(index, other)
    assert other.mapped.path == index.mapped.path
    plain = reader.read(path)
    same(plain, pickle.loads(pickle.dumps(plain)))


@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_a_file_that_is_gone_is_no_hindrance(path, change):
    index = load_index(path)
    boxes = index.boxes.copy()
    if change == "replaced":
        write_arrays(kept(path), {}, None)
    else:
        kept(path).unlink()
    other = pickle.loads(pickle.dumps(index))
    assert other.mapped is None
    assert np.array_equal(other.boxes, boxes)
    assert np.array_equal(index.boxes, boxes)


def _sum(index, queue):
    queue.put((float(index.boxes.sum()), index.mapped is not None))


def test_a_spawned_worker_maps_the_same_file(path):
    index = load_index(path)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=_sum, args=(index, queue))
    worker.start()
    assert queue.get(timeout=60) == (float(index.boxes.sum()), True)
    worker.join()


def test_no_torch_is_imported_for_an_index():
    code = "import sys, detector.data.index; print([m for m in ('torch', 'cv2', 'PIL', 'yacs') if m in sys.modules])"
    done = fresh("-c", code, torch=False)
    assert done.stdout.strip() == "[]"


def test_an_index_with_measured_sizes_is_not_kept(coco, decoded):
    coco.picture("1.png", 30, 40)
    path = coco.annotate([{"bbox": [1, 2, 3, 4]}], [{"id": 1, "file_name": "1.png"}])
    assert load_index(path, coco.images).size(0) == (30, 40)
    coco.picture("1.png", 50, 60)
    assert load_index(path, coco.images).size(0) == (50, 60)
    assert decoded == [path, path]
    assert not kept(path).exists()
