"""What a scan of a folder passes over is said, and which picture goes with which annotation file."""

import unicodedata

import pytest
from helpers.voc import picture, thing, write_xml

from detector.data.catalog import load_dataset
from detector.data.formats import voc_layout
from detector.data.formats.voc import read
from detector.data.problems import KINDS, Problems
from detector.errors import UserError

X = [thing("x", (1, 1, 5, 5))]


def scanned(folder, split):
    """Ids, and lines and findings of the scan."""
    problems = Problems(everything=True)
    index = read(folder, split, problems=problems)
    return index, problems.lines, [(one.kind, one.record) for one in problems.findings]


def test_files_that_no_list_names_are_counted(voc):
    for name in "abcd":
        voc.add(name, X)
    picture(voc.pictures / "bare.png")
    picture(voc.pictures / "listed.png")
    voc.split("train", "a")
    voc.split("val", "b", "listed")
    index, lines, found = scanned(voc.folder, "train")
    assert index.image_ids.tolist() == ["a"]
    assert lines == [
        f"{voc.pictures}: 1 picture without an annotation file is passed over (files: bare.png)",
        f"{voc.annotations}: 2 annotation files are named by no list and passed over (files: c.xml, d.xml)",
    ]
    assert found == [
        ("voc-passed-picture", str(voc.pictures / "bare.png")),
        ("voc-unlisted", str(voc.annotations / "c.xml")),
        ("voc-unlisted", str(voc.annotations / "d.xml")),
    ]
    index, lines, _ = scanned(voc.folder, "all")
    assert len(index) == 4
    assert lines == [
        f"{voc.pictures}: 2 pictures without an annotation file are passed over (files: bare.png, listed.png)"
    ]
    (voc.folder / "ImageSets" / "Main" / "other.txt").write_bytes(b"\xff")  # whoever reads that split says so
    assert len(scanned(voc.folder, "train")[1]) == 2


def test_pictures_without_annotations_that_a_list_names_have_no_objects(voc):
    voc.add("a", X)
    picture(voc.pictures / "b.png", (30, 50))
    voc.split("train", "b.png", "a")
    index, lines, found = scanned(voc.folder, "train")
    assert index.image_ids.tolist() == ["b", "a"]
    assert index.num_boxes().tolist() == [0, 1]
    assert (index.size(0), index.file_names[0]) == ((30, 50), "b.png")
    assert lines == [
        f"{voc.pictures}: 1 picture without an annotation file counts as picture without objects, of 2 in split "
        "'train' (files: b.png)"
    ]
    assert found == [("voc-without-xml", str(voc.pictures / "b.png"))]


def test_that_is_a_note_unless_none_has_annotations(voc, caplog):
    caplog.set_level("INFO", "detector")
    voc.add("a", X)
    picture(voc.pictures / "b.png", (30, 50))
    for names, levels in ((("b.png", "a"), ["INFO"]), (("b.png",), ["INFO", "WARNING"])):
        voc.split("train", *names)
        for _ in range(2):
            load_dataset(f"voc:{voc.folder}:train", ".")
        said = [one for one in caplog.records if "counts as picture without objects" in one.getMessage()]
        assert list(dict.fromkeys(one.levelname for one in said)) == levels
        assert len(said) == {1: 1, 2: 3}[len(levels)]


def test_pictures_without_annotations_beside_those_of_others_have_no_objects(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for name in ("a", "b", "elsewhere/c"):
        picture(tmp_path / f"{name}.png")
    write_xml(tmp_path / "a.xml")
    index, lines, _ = scanned(tmp_path, "all")
    assert index.image_ids.tolist() == ["a", "b"]
    assert index.num_boxes().tolist() == [1, 0]
    assert ["b.png" in lines[0], "elsewhere/c.png" in lines[1], len(lines)] == [True, True, 2]


def test_files_of_other_kinds_are_counted_but_for_texts(voc):
    voc.add("a", X)
    for name in ("b.gif", "c.heic", "notes.txt", "list.json", ".hidden.gif"):
        (voc.pictures / name).write_bytes(b"?")
    (voc.annotations / "mask.png").write_bytes(b"?")
    _, lines, found = scanned(voc.folder, "all")
    assert lines == [
        f"{voc.folder}: 3 files are neither annotation files nor pictures that are read, and are passed over (files: "
        "Annotations/mask.png, JPEGImages/b.gif, JPEGImages/c.heic)"
    ]
    assert found[1] == ("voc-other-file", str(voc.pictures / "b.gif"))


@pytest.mark.parametrize("suffix", [".jfif", ".JPE", ".dib", ".gif", ".heic"])
def test_a_picture_of_any_suffix_goes_with_its_annotation_file(voc, suffix):
    voc.add("a", X, suffix=None)
    (voc.pictures / f"a{suffix}").write_bytes(b"?")
    index, lines, _ = scanned(voc.folder, "all")
    assert (index.file_names.tolist(), lines) == ([f"a{suffix}"], [])  # whoever looks at it says if it can be read


def test_a_missing_picture_gets_a_likely_name(voc):
    voc.add("a", X, suffix=None, filename="C:\\photos\\A.PNG")
    voc.add("b", X, suffix=None, filename="../../etc/passwd")
    voc.add("c.jpg", X, suffix=None)
    assert read(voc.folder, "all").file_names.tolist() == ["a.png", "b.jpg", "c.jpg"]


@pytest.mark.parametrize("said", ["1.png", "D:\\set\\1.png", "/home/me/1.png", "JPEGImages/1.png", "./1.png"])
@pytest.mark.parametrize("home", ["", "cam1/"])
def test_what_filename_says_may_be_a_path_of_another_machine(tmp_path, said, home):
    for place in ("JPEGImages", "Annotations"):
        (tmp_path / place / home).mkdir(parents=True)
    picture(tmp_path / "JPEGImages" / f"{home}1.png")
    text = f"<annotation><filename>{said}</filename></annotation>"
    (tmp_path / "Annotations" / f"{home}other.xml").write_text(text)
    assert read(tmp_path).file_names.tolist() == [f"{home}1.png"]
    text = text.replace("1.png", "cam2/1.png")
    (tmp_path / "Annotations" / f"{home}other.xml").write_text(text)
    (tmp_path / "JPEGImages" / "cam2").mkdir()
    picture(tmp_path / "JPEGImages" / "cam2" / "1.png")
    (tmp_path / "JPEGImages" / f"{home}1.png").unlink()
    assert read(tmp_path).file_names.tolist() == ["cam2/1.png"]


def test_what_filename_says_is_not_another_files_picture(voc):
    voc.add("a", X, filename="b.png")
    voc.add("c", X, suffix=None, filename="a.png")  # left over from a copy
    voc.add("e", X, suffix=None, filename="C:\\photos\\d.png")
    picture(voc.pictures / "d.png")
    voc.add("f", X, suffix=None, filename="d.png")
    assert read(voc.folder, "all").file_names.tolist() == ["a.png", "c.png", "d.png", "f.png"]


def test_all_that_is_broken_is_found_in_one_pass(voc):
    voc.add("a", [thing("x", (1, "wide", 5, 5)), *X, thing("", (1, 1, 5, 5))])
    voc.add("b", X)
    (voc.annotations / "c.xml").write_text("<annotation>")
    voc.add("d", X, filename="e.png")
    picture(voc.pictures / "d.bmp")
    voc.add("f", X, written_size=("tall", 3))
    voc.split("train", "a", "b", "c", "lost", "d", "b.png", "f")
    index, _, found = scanned(voc.folder, "train")
    assert (index.image_ids.tolist(), len(index.labels)) == (["a", "b"], 2)
    assert found == [
        ("voc-listed-twice", str(voc.folder / "ImageSets/Main/train.txt")),
        ("voc-lost-name", str(voc.folder / "ImageSets/Main/train.txt")),
        ("voc-object", str(voc.annotations / "a.xml#1")),
        ("voc-object", str(voc.annotations / "a.xml#3")),
        ("voc-file", str(voc.annotations / "c.xml")),
        ("voc-two-pictures", str(voc.annotations / "d.xml")),
        ("voc-file", str(voc.annotations / "f.xml")),
    ]
    assert {KINDS[kind].severity for kind, _ in found if kind != "voc-listed-twice"} == {"error"}
    with pytest.raises(UserError, match=r"lost\.xml: .* \(and 5 more: `detector check voc:.*cells:train` lists them\)"):
        read(voc.folder, "train")


def test_a_file_that_names_the_picture_of_another_one_is_told(voc):
    voc.add("a", X, filename="a.png")
    voc.add("a_user2", X, suffix=None, filename="a.png")
    voc.split("train", "a")
    voc.split("both", "a", "a_user2")
    index, lines, found = scanned(voc.folder, "both")
    assert index.file_names.tolist() == ["a.png", "a_user2.png"]
    assert found == [("voc-same-picture", str(voc.annotations / "a_user2.xml"))]
    assert lines == [
        f"{voc.annotations}: 1 annotation file names the picture of another one, and has none of its own "
        "(files: a_user2.xml)"
    ]
    assert scanned(voc.folder, "train")[2] == []


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_in_another_form_are_the_same(voc, form):
    one = {way: unicodedata.normalize(way, "bär") for way in ("NFC", "NFD")}
    there, said = one.pop(form), one.popitem()[1]
    voc.add(said, X, suffix=None)
    picture(voc.pictures / f"{there}.png")
    voc.add("b", X, suffix=None, filename=f"x{said}.png")
    picture(voc.pictures / f"x{there}.png")
    voc.split("train", there, "b")
    index, lines, found = scanned(voc.folder, "train")
    assert (index.file_names.tolist(), lines, found) == ([f"{there}.png", f"x{there}.png"], [], [])


@pytest.mark.parametrize("split", ["all", "train"])
def test_annotation_files_outside_the_folder_that_is_read_are_counted(voc, split):
    for name in "abcd":
        voc.add(name, X)
    for name in ("sub/Annotations/e", "loose", "labels/a"):
        path = voc.folder / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_xml(path)
    (voc.folder / "tool.xml").write_text("<project/>")
    index, lines, found = scanned(voc.folder, split)
    assert len(index) == (4 if split == "all" else 2)
    assert lines == [
        f"{voc.folder}: 3 annotation files lie outside the folder that is read, and are passed over "
        "(files: labels/a.xml, loose.xml, sub/Annotations/e.xml)"
    ]
    assert [kind for kind, _ in found] == ["voc-outside"] * 3


def test_a_folder_that_may_not_be_read_is_passed_over(voc, monkeypatch):
    voc.add("a", X)
    (voc.folder / "lost+found").mkdir()
    walk = voc_layout.files_below

    def below(root):
        if root.name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return walk(root)

    monkeypatch.setattr(voc_layout, "files_below", below)
    assert scanned(voc.folder, "all")[1:] == ([], [])


def test_the_annotation_files_of_a_split_s_folder_are_not_outside(voc):
    for part in ("train", "val"):
        (voc.pictures / part).mkdir()
        (voc.annotations / part).mkdir()
        voc.add(f"{part}/a", X)
    assert scanned(voc.folder, "train")[1:] == ([], [])


def test_a_second_picture_of_a_name_is_told(voc):
    voc.add("a", X, suffix=".jpg")
    picture(voc.pictures / "a.png")
    index, lines, found = scanned(voc.folder, "all")
    assert index.file_names.tolist() == ["a.jpg"]
    assert lines == [
        f"{voc.pictures}: 1 picture has the name of another one, which the annotation file names, and is passed "
        "over (files: a.png)"
    ]
    assert found == [("voc-second-picture", str(voc.pictures / "a.png"))]


def test_pictures_without_the_class_of_a_list_are_counted(voc):
    for name in "abc":
        voc.add(name, X)
    voc.split("x_train", "a  1", "b -1", "c  0", "b -1")
    path = voc.folder / "ImageSets/Main/x_train.txt"
    index, lines, found = scanned(voc.folder, "x_train")
    assert index.image_ids.tolist() == ["a", "b", "c"]
    assert found == [("voc-listed-twice", str(path)), *[("voc-absent-class", str(path))] * 2]
    assert lines[0] == f"{path}: 1 picture stands twice in a list (e.g.: b)"
    assert lines[1].startswith(f"{path}: 2 pictures stand with -1 in the list of one class")
