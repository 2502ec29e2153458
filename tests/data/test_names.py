import logging
import unicodedata

import numpy as np
import pytest

from detector.data.catalog import check_inside, load_dataset
from detector.data.formats import voc
from detector.data.names import CLASH, ELSEWHERE, readings, real_names
from detector.data.problems import Problems
from detector.errors import UserError


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "images"
    for name in ("a.jpg", "b.jpg", "sub/a.jpg", "sub/c d.jpg", "Odd.JPG", "twin.png", "TWIN.png", "a%20b.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (tmp_path / "outside.jpg").touch()
    return folder


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("a.jpg", "a.jpg"),
        ("sub/a.jpg", "sub/a.jpg"),
        ("images\\a.jpg", "a.jpg"),
        ("..\\..\\label-studio\\media\\upload\\4\\b.jpg", "b.jpg"),
        ("sub\\a.jpg", "sub/a.jpg"),  # not that in the folder itself
        ("D:\\export\\sub\\c d.jpg", "sub/c d.jpg"),
        ("/home/me/images/b.jpg", "b.jpg"),
        ("images/b.jpg", "b.jpg"),
        ("./b.jpg", "./b.jpg"),  # there as it stands
        ("/data/local-files/?d=photos%20of%20june/b.jpg", "b.jpg"),
        ("/data/local-files/?x=1&d=sub%2Fc%20d.jpg", "sub/c d.jpg"),
        ("/data/local-files/?d=sub\\a.jpg", "sub/a.jpg"),
        ("http://host/data/sub/a.jpg?X-Amz-Date=1", "sub/a.jpg"),
        ("sub/c%20d.jpg", "sub/c d.jpg"),
        ("a%20b.jpg", "a%20b.jpg"),
        ("odd.jpg", "Odd.JPG"),
        ("x/ODD.jpg", "Odd.JPG"),
        ("Twin.png", "Twin.png"),  # two files differ in the case of letters
        ("../images/b.jpg", "b.jpg"),
        ("../outside.jpg", "../outside.jpg"),
        ("nowhere\\e.jpg", "nowhere\\e.jpg"),
        ("sub", "sub"),
        ("x\\..", "x\\.."),
        ("", ""),
        ("a\0b", "a\0b"),
        ("x" * 1000 + "/e.jpg", "x" * 1000 + "/e.jpg"),
    ],
)
def test_what_a_name_means(folder, name, meant):
    names, changed = real_names(folder, np.array(["b.png", name]))
    assert names.tolist() == ["b.png", meant]
    assert changed.tolist() == ([1] if name != meant else [])


def test_a_file_outside_is_not_taken_for_one_inside(folder):
    (folder.parent / "a.jpg").touch()
    for name, meant in (
        ("../a.jpg", "../a.jpg"),
        (str(folder.parent / "a.jpg"), str(folder.parent / "a.jpg")),
        (str(folder / "b.jpg"), "b.jpg"),
    ):
        assert real_names(folder, np.array([name]))[0].tolist() == [meant]


def test_two_names_never_become_one_file(folder):
    names = np.array(["train\\a.jpg", "val\\a.jpg", "x\\b.jpg", "x\\b.jpg", "odd.jpg", "Odd.JPG"])
    real, changed = real_names(folder, names)
    assert real.tolist() == ["train\\a.jpg", "val\\a.jpg", "b.jpg", "b.jpg", "Odd.JPG", "Odd.JPG"]
    assert changed.tolist() == [2, 3, 4]


@pytest.mark.parametrize("other", ["odd.jpg", "images/Odd.JPG", "D:\\set\\Images\\odd.jpg", "Odd%2eJPG"])
def test_two_spellings_of_a_file_are_that_file(folder, other):
    assert real_names(folder, np.array([other, "Odd.JPG"]))[0].tolist() == ["Odd.JPG", "Odd.JPG"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_in_another_form_are_the_same(folder, form):
    there, said = (unicodedata.normalize(one, "Fotos é/bär.jpg") for one in (form, {"NFC": "NFD", "NFD": "NFC"}[form]))
    (folder / there).parent.mkdir()
    (folder / there).touch()
    for name in (said, f"C:\\x\\{said}", said.upper()):
        assert real_names(folder, np.array([name]))[0].tolist() == [there]


@pytest.mark.parametrize("names", [("1.png", "C:\\x\\1.png"), ("/u1/1.png", "/u2/1.png")])
def test_names_that_may_mean_the_file_of_another_are_told(coco, caplog, names):
    coco.picture("1.png", 60, 80)
    path = coco.annotate([{"image_id": 0, "bbox": [1, 2, 3, 4]}], records(*names))
    with caplog.at_level(logging.WARNING, "detector"):
        source = load_dataset(f"{coco.images}:{path}", ".")
    assert source.index.file_names.tolist() == list(names)
    (said,) = caplog.messages
    assert " a name that may mean the file of another image" in said
    problems = Problems(everything=True)
    load_dataset(f"{coco.images}:{path}", ".", problems)
    assert [(one.kind, one.picture) for one in problems.findings] == [
        (CLASH, name) for name in names if name != "1.png"
    ]


def test_no_reading_leads_out():
    for name in ("..\\..\\a.jpg", "/etc/a.jpg", "a/../../b.jpg", "C:\\a.jpg", "//a//b", "..", "?d=../../etc/a"):
        for one in readings(name):
            assert not one.startswith(("/", "..", "\\"))
            assert "/../" not in one


def records(*names):
    return [{"id": i, "file_name": name, "height": 60, "width": 80} for i, name in enumerate(names)]


def test_a_source_names_the_files_that_are_there(coco, caplog):
    for name in ("1.png", "2.png"):
        coco.picture(name, 60, 80)
    path = coco.annotate([{"image_id": 0, "bbox": [1, 2, 3, 4]}], records("1.png", "..\\images\\2.png"))
    with caplog.at_level(logging.WARNING, "detector"):
        source = load_dataset(f"{coco.images}:{path}", ".")
    check_inside(source)
    assert source.index.file_names.tolist() == ["1.png", "2.png"]
    (said,) = caplog.messages
    assert f"{path}: 1 of 2 images names files that are not in {coco.images} as they are written" in said
    assert "'..\\\\images\\\\2.png' (images[1]) is taken as '2.png'" in said
    problems = Problems(everything=True)
    load_dataset(f"{coco.images}:{path}", ".", problems)
    (finding,) = problems.findings
    assert (finding.kind, finding.picture) == (ELSEWHERE, "2.png")
    assert "images[1], id 1" in finding.record


def test_names_that_mean_nothing_here_are_still_refused(coco):
    path = coco.annotate([{"image_id": 0, "bbox": [1, 2, 3, 4]}], records("/home/me/9.png"))
    with pytest.raises(UserError, match="lies outside the folder of pictures"):
        check_inside(load_dataset(f"{coco.images}:{path}", "."))


@pytest.mark.parametrize("name", ["1.png", "D:\\set\\1.png", "/home/me/1.png", "JPEGImages/1.png"])
def test_file_names_in_voc_are_read_alike(tmp_path, name):
    for place in ("JPEGImages", "Annotations"):
        (tmp_path / place).mkdir()
    (tmp_path / "JPEGImages" / "1.png").touch()
    text = f"<annotation><filename>{name}</filename><size><width>9</width><height>9</height></size></annotation>"
    (tmp_path / "Annotations" / "other.xml").write_text(text)
    assert voc.read(tmp_path).file_names.tolist() == ["1.png"]


@pytest.mark.parametrize(
    ("said", "there"),
    [
        ("a", "a.jpg"),
        ("a.b", "a.b.JPG"),
        ("sub/a.png", "sub/a.jpg"),
        ("a.jpeg", "A.jpg"),
        ("a.jpg ", "a.jpg"),
        ("a:b|c.jpg", "a_b_c.jpg"),
        ("/home/x/a.png", "a.jpg"),
    ],
)
def test_a_picture_under_a_near_name_is_found(tmp_path, said, there):
    folder = tmp_path / "images"
    (folder / there).parent.mkdir(parents=True)
    for name in (there, "a.txt", "ab.jpg", "c.jpg"):
        (folder / name).write_bytes(b"x")
    names, changed = real_names(folder, np.array([said, "lost.png", "ab.png"]))
    assert names.tolist() == [there, "lost.png", "ab.jpg"]
    assert changed.tolist() == [0, 2]
    for other in ("lost.png", "c.jpg"):  # most are not like others, or one is there: then nothing is guessed
        assert real_names(folder, np.array([said, other]))[0].tolist() == [said, other]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a.jpg", "a.bmp"], ["a.png"]),  # which of them?
        (["a.jpg"], ["a.png", "a.jpg"]),  # the other record has it
        (["a.jpg"], ["a.png", "a.bmp"]),
        (["a.txt"], ["a.png"]),
        (["b.jpg"], ["a.png"]),
        (["a.jpg"], ["a.b"]),
    ],
)
def test_no_near_name_is_guessed_where_it_is_not_the_only_one(tmp_path, files, names):
    for name in files:
        (tmp_path / name).write_bytes(b"x")
    found, changed = real_names(tmp_path, np.array(names))
    assert found.tolist() == names
    assert not len(changed)
