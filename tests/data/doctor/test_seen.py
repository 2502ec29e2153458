"""What is seen of single pictures."""

import os
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from detector.data.doctor import seen
from detector.data.doctor.pictures import faults
from detector.data.doctor.sets import read_sets, with_pictures


def look(sets, pictures="all"):
    (part,), found = read_sets([(sets.write()[0], "")], sets.folder)
    assert found == []
    (part,) = with_pictures([part], pictures)
    return part.seen


@pytest.mark.parametrize("pictures", ["all", "headers"])
@pytest.mark.parametrize("tag", [2, 3, 5, 6, 8])
def test_a_tag_is_told_where_the_record_has_the_size_without_it(sets, tag, pictures):
    exif = Image.Exif()
    exif[0x0112] = tag
    with Image.open(sets.picture("train")) as image:
        image.save(sets.picture("train"), exif=exif)
    assert {image: kind for image, (kind, _) in look(sets, pictures).faults.items()} == {0: seen.TURNED_BY_TAG}
    assert not look(sets, pictures).unusable.any()
    if tag > 4:  # with the size as viewers show it, it is read so
        record = sets.content["train"]["images"][0]
        record["height"], record["width"] = record["width"], record["height"]
        sets.content["train"]["annotations"] = []
        assert look(sets, pictures).faults == {}


def test_a_turned_copy_looks_alike(sets):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(sets.picture("train")) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(sets.picture("train", 1), exif=exif)
    sets.content["train"]["annotations"] = []
    found = look(sets)
    assert found.hashes[0] == found.hashes[1] != found.hashes[2]
    assert found.decoded.all()


def test_what_is_no_file_or_no_picture(sets):
    sets.picture("train", 0).unlink()
    sets.picture("train", 0).mkdir()
    sets.picture("train", 1).unlink()
    os.mkfifo(sets.picture("train", 1))
    sets.picture("train", 2).write_bytes(b"")
    sets.picture("train", 4).write_bytes(b"\xff\xd8\xff\xd9")
    sets.content["train"]["images"][5]["file_name"] = "nul\0.jpg"
    found = look(sets)
    assert {image: kind for image, (kind, _) in found.faults.items()} == dict.fromkeys((0, 1, 2, 4, 5), seen.UNREADABLE)
    assert found.unusable.tolist() == [image in found.faults for image in range(10)]
    assert not found.digests[[0, 1, 2, 4, 5]].any()
    assert found.digests[3].any()


def test_a_missing_picture_that_a_tool_named_otherwise_is_said_to_be_there(sets):
    first, second = sets.picture("train"), sets.picture("train", 1)
    first.rename(first.with_name(f"{first.stem}_jpg.rf.0a1b.jpg"))
    second.unlink()  # whose likely partner is the file of another record
    sets.content["train"]["images"][1]["file_name"] = f"8a7b6c5d-{sets.picture('train', 2).name}"
    (part,) = with_pictures(read_sets([(sets.write()[0], "")], "")[0], "headers")
    told = [finding.text for finding in faults([part]) if finding.kind == seen.MISSING]
    assert len(told) == 2
    assert f"{first.stem}_jpg.rf.0a1b.jpg for {first.name}: take the annotations of that export" in told[0]
    assert told[1].endswith(f"there is no picture {sets.images}/8a7b6c5d-{sets.picture('train', 2).name}")


def test_a_picture_that_cannot_be_decoded_is_found_by_decoding(sets):
    """A PNG with header, size and end, and pixels that are none."""
    _, data = cv2.imencode(".png", np.zeros((96, 128, 3), np.uint8))
    data = bytearray(data.tobytes())
    start = data.index(b"IDAT") + 4
    data[start : start + 8] = bytes(8)
    sets.picture("train").write_bytes(data)
    assert look(sets, "headers").faults == {}
    assert look(sets).faults[0][0] == seen.UNREADABLE


def test_a_picture_of_too_many_pixels_is_refused_without_decoding(sets, monkeypatch):
    monkeypatch.setattr(seen, "MAX_PIXELS", 96 * 128 - 1)
    monkeypatch.setattr(seen, "_decode", lambda *_: pytest.fail("it must not be decoded"))
    assert set(look(sets).faults) == set(range(10))
    monkeypatch.setattr(seen, "MAX_PIXELS", 96 * 128)
    monkeypatch.setattr(seen, "_decode", lambda data, flags: np.zeros((64, 64), np.uint8))
    assert look(sets).faults == {}


def test_what_is_left_out_is_not_opened(sets, monkeypatch):
    (part,), _ = read_sets([(sets.write()[0], "")], sets.folder)
    opened = []
    monkeypatch.setattr(seen, "_look_at", lambda path, *_: opened.append(os.path.basename(path)))
    leave = np.ones(10, bool)
    leave[3] = False
    seen.look(part.source.folder, part.index, leave=leave)
    assert opened == ["train3.jpg"]


def test_with_none_no_picture_is_looked_at(sets, monkeypatch):
    monkeypatch.setattr(seen, "look", lambda *_: pytest.fail("nothing is to be opened"))
    assert look(sets, "none") is None


def test_where_all_is_read_upright_no_tag_is_told(sets):
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(sets.picture("train")) as image:
        image.save(sets.picture("train"), exif=exif)
    (part,), _ = read_sets([(sets.write()[0], "")], sets.folder)
    assert set(seen.look(part.source.folder, part.index).faults) == {0}
    assert seen.look(part.source.folder, replace(part.index, kind="yolo")).faults == {}
