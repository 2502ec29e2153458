"""The look at the pictures before the first step, and what is remembered of it."""

import io
import logging
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from detector.config import load_config
from detector.data import check, headers, look
from detector.data.catalog import load_dataset
from detector.data.check import check_tests, check_training, look_at
from detector.data.dataset import CocoDetection, JoinedDataset
from detector.data.known import Known
from detector.data.remembered import KEPT
from detector.data.transforms import Compose
from detector.errors import UserError
from detector.files import cache_folder


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path / "cache"))


def open_set(entry, folder):
    return CocoDetection(load_dataset(entry, folder), Compose([]))


@pytest.fixture
def six(coco, tmp_path):
    """Six pictures of 20 x 30."""
    return open_set(coco.dataset([(20, 30)] * 6), tmp_path)


@pytest.fixture
def opened(monkeypatch):
    """Names of the pictures that are opened."""
    names, look = [], check.look_at_file

    def noted(path, *rest):
        names.append(os.path.basename(path))
        return look(path, *rest)

    monkeypatch.setattr(check, "look_at_file", noted)
    return names


def rename(dataset, item, name):
    """Give a record another file name."""
    names = dataset.index.file_names.astype("U20")
    names[item] = name
    dataset.index = replace(dataset.index, file_names=names)


def save(path, size=(20, 30), kind=None, **options):
    grid = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(grid).save(path, kind, **options)
    return path


def faults(dataset):
    return {dataset.file_name(item): look.fault for item, look in look_at(dataset).looks.items() if not look.usable}


def test_every_kind_of_broken_picture_is_told_apart(six):
    folder = six.folder
    (folder / "1.png").unlink()
    (folder / "2.png").write_bytes(b"")
    data = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(data[:-8])
    save(folder / "4.png", (30, 20))
    (folder / "5.png").unlink()
    (folder / "5.png").mkdir()
    (folder / "6.png").write_text("no picture at all")
    found = faults(six)
    assert found["1.png"] == "there is no such picture"
    assert "empty" in found["2.png"]
    assert "cut short" in found["3.png"]
    assert "20 wide and 30 high, its annotation file says 30 wide and 20 high" in found["4.png"]
    assert found["5.png"] == "it is no file"
    assert "cannot be decoded" in found["6.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_is_no_picture_and_is_not_waited_for(six):
    (six.folder / "1.png").unlink()
    os.mkfifo(six.folder / "1.png")
    assert faults(six) == {"1.png": "it is no file"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_picture_that_may_not_be_read_is_said_to_be(six):
    (six.folder / "1.png").chmod(0)
    assert faults(six) == {"1.png": "it cannot be opened: Permission denied"}


def test_names_that_no_file_can_have_are_faults(six):
    rename(six, 0, "a\0b")
    assert "cannot be opened" in faults(six)["a\0b"]


@pytest.mark.parametrize("name", ["a.bmp", "a.tif", "a.webp", "a.ppm", "a.gif", "a.jpg", "a.png"])
def test_formats_that_training_reads_are_good(six, name):
    rename(six, 0, name)
    save(six.folder / name)
    assert faults(six) == {}
    save(six.folder / name, (21, 30))
    assert "21 high" in faults(six)[name]


@pytest.fixture
def one_jpeg(coco, tmp_path):
    """A function that writes a JPEG and opens the data set of it alone."""

    def build(data, size=(20, 30)):
        (coco.images / "a.jpg").write_bytes(data)
        images = [{"id": 1, "file_name": "a.jpg", "height": size[0], "width": size[1]}]
        path = coco.annotate([{"bbox": [2, 3, 10, 8]}], images)
        return open_set(f"{coco.images}:{path}", tmp_path)

    return build


def jpeg(size=(20, 30), **options):
    buffer = io.BytesIO()
    save(buffer, size, "JPEG", **options)
    return buffer.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize(("orientation", "good"), [(1, False), (3, False), (6, True), (8, True)])
def test_a_turn_by_the_tag_is_allowed_as_training_allows_it(one_jpeg, orientation, good, monkeypatch):
    monkeypatch.setattr(look, "read_rgb", lambda *_: pytest.fail("nothing needs to be decoded"))
    dataset = one_jpeg(jpeg(exif=exif(orientation)), (30, 20))
    assert bool(faults(dataset)) is not good


def test_a_long_header_and_bytes_behind_the_end_do_no_harm(one_jpeg, monkeypatch):
    monkeypatch.setattr(look, "read_rgb", lambda *_: pytest.fail("nothing needs to be decoded"))
    data = jpeg()
    comment = b"\xff\xfe\xff\xff" + bytes(65533)
    for number in (1, 5):  # more than is read at first, and at second
        assert faults(one_jpeg(data[:2] + comment * number + data[2:])) == {}
    assert faults(one_jpeg(data + b"trailer" * 1000)) == {}


def test_jpegs_without_end_are_named_and_read_again_and_again(one_jpeg, caplog):
    data = jpeg()
    dataset = one_jpeg(data[:-2])
    for _ in range(2):  # the second time it is remembered
        caplog.clear()
        assert check_training(dataset, {}, "stop") == (dataset, {})
        assert "pictures that can be read though their files end too soon: 1; " in caplog.text
        assert "a.jpg: lacks only its end marker" in caplog.text
    whole, _ = one_jpeg(data)[0]
    assert (dataset[0][0] == whole).all()
    dataset = one_jpeg(data[:-40])
    with pytest.raises(UserError, match=r"1 of 1 picture cannot be used:\n  .*a\.jpg: .*cut short"):
        check_training(dataset, {}, "stop")


def test_that_an_end_is_missing_is_not_forgotten_when_another_picture_changes(six, caplog):
    rename(six, 0, "a.jpg")
    (six.folder / "a.jpg").write_bytes(jpeg()[:-2])
    for time in range(1, 4):
        caplog.clear()
        os.utime(six.folder / "2.png", ns=(time, time))
        check_tests({"a": six}, "stop")
        assert "a.jpg: lacks only its end marker" in caplog.text


def test_a_huge_declared_size_is_refused_without_decoding(one_jpeg, monkeypatch):
    monkeypatch.setattr(look, "read_rgb", lambda *_: pytest.fail("it must not be decoded"))
    data = jpeg()
    frame = data.index(b"\xff\xc0")
    huge = data[: frame + 5] + b"\x7d\x00\x7d\x00" + data[frame + 9 :]
    assert "32000 wide and 32000 high" in faults(one_jpeg(huge))["a.jpg"]


def test_all_bad_files_are_listed_at_once_and_the_rest_counted(coco, tmp_path):
    dataset = open_set(coco.dataset([(20, 30)] * 25), tmp_path)
    for path in dataset.folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="25 of 25 pictures cannot be used") as error:
        check_tests({"a": dataset, "again": dataset}, "stop")  # the same files count once
    lines = str(error.value).splitlines()
    assert [line for line in lines if ".png" in line] == sorted(line for line in lines if ".png" in line)
    assert sum(".png: " in line for line in lines) == 20
    assert "  and 5 more" in lines
    assert "DATALOADER.BROKEN skip" in lines[-1]


def test_broken_pictures_are_skipped_counted_and_named(coco, tmp_path, caplog):
    first = open_set(coco.dataset([(20, 30)] * 3, name="first.json"), tmp_path)
    other = coco.images.with_name("others")
    shutil.copytree(coco.images, other)
    second = open_set(f"{other}:{tmp_path / 'first.json'}", tmp_path)
    (first.folder / "2.png").unlink()
    (second.folder / "1.png").write_bytes(b"")
    train, tests = check_training(JoinedDataset([first, second]), {"val": second}, "skip")
    assert (len(train), len(tests["val"])) == (4, 2)
    assert [d.image_ids for d in train.datasets] == [[1, 3], [2, 3]]
    assert tests["val"].image_ids == [2, 3]
    assert len(tests["val"].index) == 3  # so that evaluation misses its objects
    assert len(train.aspect_ratios) == 4
    assert [train[i][1]["image_id"] for i in range(4)] == [1, 3, 2, 3]
    assert (len(first), len(second)) == (3, 3)
    (text,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert text.startswith(
        "pictures that cannot be used: 2 (2 left out of training, 1 in the tests, where they count as images"
    )
    assert "2.png: there is no such picture" in text


def test_nothing_left_to_train_on_is_an_error_and_an_empty_part_goes(coco, tmp_path):
    good = open_set(coco.dataset([(20, 30)] * 2, name="good.json"), tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    bad = open_set(f"{empty}:{tmp_path / 'good.json'}", tmp_path)
    with pytest.raises(UserError, match="no picture is left to train on: all 2 cannot be used"):
        check_training(bad, {}, "skip")
    assert check_training(JoinedDataset([bad, good]), {}, "skip")[0] is good


def test_the_second_look_opens_nothing_and_notices_what_changed(six, opened):
    look_at(six)
    assert sorted(opened) == [f"{i}.png" for i in range(1, 7)]
    opened.clear()
    look_at(six)
    assert opened == []
    data = (six.folder / "3.png").read_bytes()
    os.utime(six.folder / "2.png", ns=(1, 1))  # another time
    (six.folder / "3.png").write_bytes(data + b"\0")  # another size
    time = (six.folder / "4.png").stat().st_mtime_ns
    save(six.folder / "4.png", (9, 9))
    os.utime(six.folder / "4.png", ns=(time, time))
    six.index.heights[4] = 21  # another record
    assert set(faults(six)) == {"4.png", "5.png"}
    assert sorted(opened) == ["2.png", "3.png", "4.png", "5.png"]
    opened.clear()
    assert set(faults(six)) == {"4.png", "5.png"}  # what is broken is looked at each time
    assert sorted(opened) == ["4.png", "5.png"]


def test_good_pictures_are_remembered_beside_broken_ones_and_by_name(six, opened):
    (six.folder / "1.png").write_bytes(b"")
    look_at(six)
    opened.clear()
    some = six.without([0, 1])
    some.index.file_names[:] = some.index.file_names[::-1].copy()  # a record moves to another place
    look_at(some)
    assert opened == ["1.png"]


@pytest.mark.parametrize("damage", [lambda d: b"", lambda d: d[:-9], lambda d: b"\xc1" + d, lambda d: d[:9] + d[17:]])
def test_a_damaged_memory_is_ignored_and_written_anew(six, opened, damage):
    look_at(six)
    (path,) = (cache_folder() / "pictures").iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    opened.clear()
    assert faults(six) == {}
    assert len(opened) == 6
    assert path.read_bytes() == whole


def test_flipped_bits_never_make_a_broken_picture_good(six):
    (six.folder / "1.png").write_bytes(b"")
    look_at(six)
    (path,) = (cache_folder() / "pictures").iterdir()
    whole = path.read_bytes()
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0x10]) + whole[i + 1 :])
        assert set(faults(six)) == {"1.png"}


def test_the_memory_is_bounded_and_no_condition_of_a_start(six, monkeypatch, tmp_path, caplog):
    folder = cache_folder() / "pictures"
    folder.mkdir(parents=True)
    for i in range(KEPT + 5):
        (folder / f"{i}.bin").touch()
        os.utime(folder / f"{i}.bin", (i, i))
    look_at(six)
    left = {path.name for path in folder.iterdir()}
    assert len(left) == KEPT
    assert {Known(six).path.name, f"{KEPT + 4}.bin"} < left
    (tmp_path / "file").touch()
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path / "file"))
    caplog.set_level(logging.INFO, "detector")
    assert faults(six) == {}
    assert "cannot be kept for the next time" in caplog.text


def test_names_that_are_no_utf8_and_odd_names_are_listed_harmlessly(six, opened):
    rename(six, 0, "odd\udcff\x1b[2J.png")
    shutil.move(six.folder / "1.png", six.folder / "odd\udcff\x1b[2J.png")
    look_at(six)
    opened.clear()
    assert faults(six) == {}
    assert opened == []
    (six.folder / "odd\udcff\x1b[2J.png").write_bytes(b"")
    with pytest.raises(UserError) as error:
        check_tests({"a": six}, "stop")
    assert "\x1b" not in str(error.value)
    str(error.value).encode()


def test_the_key_takes_two_words():
    with pytest.raises(ValueError, match=r"DATALOADER\.BROKEN: 'ignore' is not allowed; allowed: stop \| skip"):
        load_config(None, ["DATALOADER.BROKEN", "ignore"])


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_picture_larger_than_any_that_is_decoded_is_found_before_the_first_step(coco, tmp_path, monkeypatch, kind):
    dataset = open_set(coco.dataset([(20, 30), (20, 31)]), tmp_path)
    for item in range(2):
        save(dataset.folder / f"{item + 1}.{kind}", (20, 30 + item))
        rename(dataset, item, f"{item + 1}.{kind}")
    for module in (look, headers):
        monkeypatch.setattr(module, "MAX_PIXELS", 600)
    with pytest.raises(UserError, match=rf"1 of 2 pictures .*\n.*2\.{kind}: the picture is 31 wide and 20 high, more"):
        check_tests({"a": dataset}, "stop")
    assert len(check_tests({"a": dataset}, "skip")["a"]) == 1


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((30, 20), "have width and height swapped in their records .*; swap them in the records"),
        (
            (40, 60),
            r"have 0\.50 times their real .* \(30 wide and 20 high for 60 and 40 of .*\.png\); where the pictures",
        ),
        ((10, 15), r"have 2\.00 times their real width and height in their records"),
    ],
)
def test_pictures_that_are_all_of_another_size_have_one_line(six, size, said):
    for item in range(len(six)):
        save(six.folder / six.file_name(item), size)
    with pytest.raises(UserError, match=rf"all 6 pictures {said}") as caught:
        check_training(six, {}, "stop")
    assert "\n" not in str(caught.value)
    save(six.folder / six.file_name(3))
    with pytest.raises(UserError, match="5 of 6 pictures cannot be used"):
        check_training(six, {}, "stop")
    save(six.folder / six.file_name(3), (31, 17))
    with pytest.raises(UserError, match="6 of 6 pictures cannot be used"):
        check_training(six, {}, "stop")
