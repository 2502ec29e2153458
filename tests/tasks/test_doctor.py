"""Data sets examined, as text and as a document."""

import json
import logging
import shutil
import sys
from types import ModuleType

import pytest

from detector.data.doctor.mend import mend
from detector.data.formats.records import LAYOUT
from detector.data.problems import KINDS, Finding
from detector.errors import UserError
from detector.tasks.doctor import (
    Fix,
    document,
    errors_left,
    examine,
    fix,
    left_out,
    not_mended,
    short_names,
    verdict,
)
from detector.tasks.doctor_text import example, text


@pytest.fixture
def reached(monkeypatch):
    """What is asked of the heads: config and number of images; each answer is one finding."""
    asked = []
    one, other = ModuleType("detector.analysis.reach"), ModuleType("detector.analysis.reach_findings")

    def reach(cfg, index, *, difficult):
        asked.append((cfg.MODEL.HEAD.NAME, len(index), difficult))
        return index

    one.reach = reach
    other.reach_findings = lambda index: [Finding("box-one-pixel", f"{index.path}: out of reach")]
    monkeypatch.setitem(sys.modules, "detector.analysis.reach", one)
    monkeypatch.setitem(sys.modules, "detector.analysis.reach_findings", other)
    return asked


def test_errors_come_first_and_what_is_of_a_kind_stands_together(sets):
    sets.box("train", [0, 0, 128, 96])
    sets.picture("val").unlink()
    sets.box("train", [60, 70, 1, 5])
    sets.box("train", [60, 70, 0, 5])
    sets.box("val", [60, 70, 1, 5])
    sets.picture("train", 1).unlink()
    diagnosis = examine(sets.write(), sets.folder)
    assert diagnosis.counts == {"picture-missing": 2, "flat-box": 1, "box-one-pixel": 2, "box-of-whole-picture": 1}
    assert [*diagnosis.counts] == ["picture-missing", "flat-box", "box-one-pixel", "box-of-whole-picture"]
    assert [diagnosis.number(severity) for severity in ("error", "warning", "note")] == [2, 3, 1]
    kinds = [finding.kind for finding in diagnosis.findings]
    assert kinds == sorted(kinds, key=[*diagnosis.counts].index)
    assert verdict(diagnosis) == "error"


def test_the_text_shows_five_of_a_kind_the_document_all(sets):
    for place in range(7):
        sets.picture("train", place).unlink()
    diagnosis = examine(sets.write(), sets.folder)
    lines = text(diagnosis).splitlines()
    _, what, remedy = KINDS["picture-missing"]
    assert lines[0] == f"error picture-missing (7): {what}. {remedy}"
    assert [str(sets.picture("train", place)) in lines[place + 1] for place in range(5)] == [True] * 5
    assert lines[6] == "    and 2 more"
    assert lines[-1] == "Mend the errors before a training: 7 errors."
    found = document(diagnosis)
    assert [one["picture"] for one in found["findings"]] == [f"train{place}.jpg" for place in range(7)]
    assert found["kinds"] == [
        {"id": "picture-missing", "count": 7, "severity": "error", "what": what, "remedy": remedy}
    ]
    assert (found["verdict"], found["errors"], found["warnings"], found["notes"]) == ("error", 7, 0, 0)


def test_the_numbers(sets):
    sets.box("train", [50, 40, 30, 30], iscrowd=1)
    diagnosis = examine(sets.write(), sets.folder)
    found = document(diagnosis)
    assert found["verdict"] == "clean"
    assert found["resize"] is None
    assert [one["resized"] for one in found["sets"]] == [None, None]
    assert [(one["small"], one["medium"], one["large"]) for one in found["sets"]] == [(30, 0, 0), (18, 0, 0)]
    one, other = found["sets"]
    assert (one["name"], one["images"], one["objects"], one["crowds"], one["mean"]) == ("train", 10, 30, 1, 3)
    assert (other["name"], other["images"], other["objects"], other["crowds"]) == ("val", 6, 18, 0)
    assert found["classes"][0] == {"name": "cat", "objects": [10, 6], "images": [10, 6]}
    lines = text(diagnosis).splitlines()
    assert ["images", "10", "6"] in [line.split() for line in lines]
    assert "small, below 32^2 30 (100%) 18 (100%)".split() in [line.split() for line in lines]
    assert (
        "Small, medium and large are areas in the pictures as they are, in pixels, as APs, APm and APl count them."
        in lines
    )
    assert "resize" not in text(diagnosis)
    assert "cat 10 in 10 6 in 6".split() in [line.split() for line in lines]
    assert lines[-1] == "Nothing is wrong: 1 note."


def test_names_that_differ_by_a_blank_are_told_apart_in_the_table(sets):
    for content in sets.content.values():
        content["categories"][1]["name"] = "cat "
    lines = text(examine(sets.write(), sets.folder)).splitlines()
    assert any(line.startswith("'cat ' ") for line in lines)


def test_a_set_that_cannot_be_read_is_a_finding_beside_the_others(sets, caplog):
    sets.content["val"] = "{"
    diagnosis = examine([*sets.write(), "voc:nowhere:train", "no_such_name"], sets.folder)
    assert diagnosis.counts == {"set-unreadable": 3}
    assert [part.entry for part in diagnosis.parts] == sets.entries[:1]
    assert [finding.record for finding in diagnosis.findings] == [sets.entries[1], "voc:nowhere:train", "no_such_name"]
    assert "train" in text(diagnosis)
    alone = examine(["no_such_name"], sets.folder)
    assert alone.parts == []
    assert text(alone).startswith("error: unknown dataset 'no_such_name'; ")
    assert len(text(alone).splitlines()) == 1
    assert document(alone)["sets"] == []
    assert caplog.records == []


def test_a_folder_without_data_sets_is_a_finding_too(sets):
    sets.write()
    (sets.folder / "empty").mkdir()
    diagnosis = examine([str(sets.folder / "empty"), sets.entries[0]], "")
    assert diagnosis.counts == {"set-unreadable": 1}
    assert diagnosis.findings[0].record == str(sets.folder / "empty")
    assert [part.entry for part in diagnosis.parts] == sets.entries[:1]
    assert "\n    '" in text(diagnosis)
    assert document(examine([str(sets.folder / "empty")], ""))["verdict"] == "error"


def test_the_text_lists_the_data_sets_as_one_writes_them(sets):
    for part in ("train", "val"):
        shutil.move(sets.images, sets.folder / part) if part == "train" else shutil.copytree(
            sets.folder / "train", sets.folder / part
        )
        (sets.folder / part / "_annotations.coco.json").write_text(json.dumps(sets.content[part]))
    diagnosis = examine([str(sets.folder)], "")
    assert short_names(diagnosis.parts) == ["train", "val"]
    lines = text(diagnosis).splitlines()
    place = lines.index(f"train  {sets.folder}/train:{sets.folder}/train/_annotations.coco.json")
    assert lines[place + 1] == f"val    {sets.folder}/val:{sets.folder}/val/_annotations.coco.json"
    assert lines[place + 3].split() == ["train", "val"]


def test_an_example_names_picture_record_and_box_once():
    whole = Finding("flat-box", "a.json: its box [1, 2] is flat (a.jpg)", "a.jpg", "a.json", (1.0, 2.0, 3.0, 4.0))
    assert example(whole) == whole.text
    line = Finding("yolo-line", "a.txt, line 3: it is odd", record="a.txt:3")
    assert example(line) == line.text
    field = Finding("field-type", f"a.json: Expected `int` - at `$.images[0].id`; {LAYOUT}", record="a.json: images[0]")
    assert example(field) == "a.json: Expected `int` - at `$.images[0].id`; a.json: images[0]"
    bare = Finding("flat-box", "it is flat", "a.jpg", "a.json", (1.0, 2.0, 3.0, 4.0))
    assert example(bare) == "it is flat; picture a.jpg; a.json; box [1.0, 2.0, 3.0, 4.0]"


def test_names_in_files_cannot_steer_the_terminal(sets):
    sets.content["train"]["images"][0]["file_name"] = "\x1b[31m.jpg"
    number = sets.category("\x1b[2J")
    for part in ("train", "val"):
        sets.box(part, [60, 70, 9, 9], number)
    shown = text(examine(sets.write(), sets.folder))
    assert "\x1b" not in shown
    assert "\\x1b[31m.jpg" in shown
    assert "\\x1b[2J" in shown


def test_a_config_gives_roles_sizes_and_head(sets, tiny, reached):
    entries = sets.write()
    shutil.copy(sets.picture("train"), sets.picture("val"))
    cfg = tiny("DATASETS.TRAIN", entries[0], "DATASETS.TEST", entries[1], "INPUT.MIN_SIZE_TEST", "96")
    diagnosis = examine([], "", cfg=cfg)
    assert [part.role for part in diagnosis.parts] == ["train", "test"]
    assert diagnosis.counts == {"file-in-both": 1, "box-one-pixel": 1}
    assert reached == [("fcos", 10, False)]  # what is trained on
    assert document(diagnosis)["resize"] == {"short": 96, "long": 96, "square": 0}
    assert document(diagnosis)["sets"][0]["resized"] == {"small": 30, "medium": 0, "large": 0}
    assert document(diagnosis)["sets"][0]["small"] == 30
    for size in ("below 32^2", "32^2 to 96^2", "above 96^2"):
        assert f"\n  after the resize {size} " in text(diagnosis)
    assert "After the resize: of a test by the config's INPUT, shorter side 96, longer at most 96." in text(diagnosis)
    cfg = tiny("DATASETS.TRAIN", tuple(entries), "DATASETS.TEST", ())
    assert examine([], "", cfg=cfg).counts == {"box-one-pixel": 2}  # both are trained on: no leak
    assert examine(entries[1:], "", cfg=cfg).parts[0].role == "train"
    cfg = tiny("DATASETS.TRAIN", entries[0], "DATASETS.TEST", entries[0])
    assert "set-named-twice" in examine([], "", cfg=cfg).counts
    with pytest.raises(UserError, match=r"DATASETS\.TRAIN and DATASETS\.TEST are empty"):
        examine([], "", cfg=tiny("DATASETS.TRAIN", (), "DATASETS.TEST", ()))


def test_pictures_outside_are_not_opened_unless_the_config_allows_it(sets, tiny, reached):
    shutil.move(sets.picture("train"), sets.folder / "outside.jpg")
    sets.content["train"]["images"][0]["file_name"] = "../outside.jpg"
    (sets.folder / "outside.jpg").write_bytes(b"no picture")
    entries = sets.write()
    assert examine(entries, sets.folder).counts == {"picture-outside-folder": 1}


def test_names_with_a_number_are_no_others(sets):
    for name in ("a", "b"):
        (sets.folder / name).mkdir()
        shutil.copy(sets.folder / "train.json" if sets.write() else "", sets.folder / name / "c.json")
    shutil.copy(sets.folder / "train.json", sets.folder / "c_2.json")
    shutil.copy(sets.folder / "train.json", sets.folder / "a" / "_annotations.coco.json")
    files = ("a/c.json", "b/c.json", "c_2.json", "a/_annotations.coco.json")
    diagnosis = examine([f"{sets.images}:{sets.folder / file}" for file in files], "", "none")
    names = short_names(diagnosis.parts)
    assert len(set(names)) == 4
    assert (names[0], *names[2:]) == ("c_1", "c_2", "a")


@pytest.mark.parametrize("number", [1, 2])
def test_names_of_several_sets_are_told_apart(sets, number):
    other = sets.folder / "other"
    other.mkdir()
    entries = sets.write()
    shutil.copy(sets.folder / "train.json", other / "train.json")
    diagnosis = examine(
        [entries[0], f"{sets.images}:{other / 'train.json'}", entries[1]][: 2 * number - 1], sets.folder
    )
    assert short_names(diagnosis.parts) == (["train"] if number == 1 else ["train_1", "train_2", "val"])


def test_what_readers_leave_out_is_listed(sets):
    sets.content["train"]["annotations"][3]["image_id"] = 99
    sets.content["train"]["annotations"][4]["bbox"] = "none"
    diagnosis = examine(sets.write(), sets.folder)
    assert diagnosis.counts == {"field-type": 1, "id-unknown": 1}
    assert left_out(diagnosis) == ["field-type", "id-unknown"]
    assert not_mended(diagnosis) == []
    kinds = [line.split()[1] for line in text(diagnosis).splitlines() if line.startswith("error ")]
    assert kinds == ["field-type", "id-unknown"]
    (part,) = [one for one in diagnosis.parts if one.source.name == "train"]
    assert mend(part).done == ["field-type (1): left out", "id-unknown (1): left out"]


def test_fractions_are_mended_where_all_boxes_are_such(sets):
    for place, row in enumerate(sets.content["train"]["annotations"]):
        x, y, width, height = row["bbox"]
        row["bbox"] = [x / 128, y / 96, width / 128, height / 96 if place else 1.5]
    diagnosis = examine(sets.write(), sets.folder)
    assert diagnosis.counts == {"boxes-as-fractions": 1}
    assert not_mended(diagnosis) == ["boxes-as-fractions"]
    sets.content["train"]["annotations"][0]["bbox"][3] = 0.2
    diagnosis = examine(sets.write(), sets.folder)
    assert diagnosis.counts == {"boxes-as-fractions": 1}
    assert not_mended(diagnosis) == []


def test_by_the_config_crowds_are_objects(sets, tiny, reached):
    for row in sets.content["train"]["annotations"][:12:3]:
        row["iscrowd"] = 1
    entries = sets.write()
    cfg = tiny("DATASETS.TRAIN", entries[0], "DATASETS.TEST", entries[1], "DATASETS.CROWDS", "objects")
    diagnosis = examine([], "", cfg=cfg)
    assert diagnosis.counts == {"box-one-pixel": 1}  # of the head
    assert [numbers.objects for numbers in diagnosis.numbers] == [30, 18]
    assert mend(diagnosis.parts[0])[1] == ["4 crowd regions are taken as objects, by DATASETS.CROWDS"]
    assert mend(diagnosis.parts[1])[1] == []


def test_pictures_that_two_training_sets_name_are_named_twice(sets, tiny, reached):
    sets.content["val"]["images"][0]["file_name"] = "train0.jpg"
    entries = sets.write()
    cfg = tiny("DATASETS.TRAIN", tuple(entries), "DATASETS.TEST", ())
    assert examine([], "", cfg=cfg).counts == {"file-twice": 1, "box-one-pixel": 2}
    assert examine(entries, "").counts == {"file-in-both": 1}


def ends(diagnosis, *entries):
    """The last lines that are printed where the copies are called so."""
    fixes = [Fix(part.entry, entry, [], [], []) for part, entry in zip(diagnosis.parts, entries, strict=True)]
    return text(diagnosis, fixes).rpartition("\n\n")[2].splitlines()


def test_after_a_cleaned_copy_the_last_line_says_what_to_train_with(sets, tiny, reached):
    sets.picture("train").unlink()
    diagnosis = examine(sets.write(), sets.folder)
    assert verdict(diagnosis) == "error"
    assert ends(diagnosis, "new:train", "new:val") == ["Train with new:train, test with new:val."]
    assert not errors_left(diagnosis)
    blind = examine(sets.write(), sets.folder, "none")
    assert ends(blind, "a", "b") == ["Train with a, test with b; their pictures were not looked at."]
    sets.box("train", [60, 70, 1, 5], image=3)
    diagnosis = examine(sets.write(), sets.folder)
    left = ["Not mended: box-one-pixel (1).", "Train with a, test with b; what is not mended is left for you."]
    assert ends(diagnosis, "a", "b") == left
    shutil.copy(sets.picture("train", 1), sets.picture("val", 1))
    diagnosis = examine(sets.write(), sets.folder)
    assert ends(diagnosis, "a", "b")[-1] == "Mend the errors among these, then train with a, test with b."
    assert errors_left(diagnosis)
    cfg = tiny("DATASETS.TRAIN", tuple(sets.entries), "DATASETS.TEST", ())
    assert ends(examine([], "", cfg=cfg), "a", "b")[-1].endswith(
        "rain with a and b; what is not mended is left for you."
    )


def test_what_is_not_mended_is_listed(sets):
    shutil.copy(sets.picture("train", 0), sets.picture("val", 1))
    sets.box("train", [60, 70, 0, 5])
    sets.box("train", [60, 70, 1, 5])
    diagnosis = examine(sets.write(), sets.folder)
    assert not_mended(diagnosis) == ["file-in-both", "box-one-pixel"]


@pytest.fixture
def written(monkeypatch):
    """A writer that notes what it gets."""
    calls = []
    module = ModuleType("detector.data.convert")

    class Written:
        def __init__(self, splits):
            self.entries = [f"voc:somewhere:{split}" for split in splits]
            self.entry = self.entries[0]
            self.losses = ["3 ids"] if len(splits) == 1 else [f"{split}: 3 ids" for split in splits]

    def write_datasets(sources, form, folder):
        for split, source in sources.items():
            calls.append((source.name, len(source.index.labels), form, folder, split))
        return Written([*sources])

    module.write_datasets = write_datasets
    monkeypatch.setitem(sys.modules, "detector.data.convert", module)
    return calls


def test_copies_are_written_cleaned_into_one_folder(sets, written, tmp_path):
    sets.box("train", [60, 70, 0, 5])
    diagnosis = examine(sets.write(), sets.folder)
    fixes = fix(diagnosis, tmp_path / "new")
    assert written == [
        ("train", 30, "coco", tmp_path / "new", "train"),
        ("val", 18, "coco", tmp_path / "new", "val"),
    ]
    assert fixes[0].done == ["1 box without an area inside its picture is left out"]
    shown = text(diagnosis, fixes)
    assert f"{sets.entries[0]} is written as voc:somewhere:train" in shown
    assert "    3 ids" in shown
    assert [one.lost for one in fixes] == [["3 ids"]] * 2
    assert document(diagnosis, fixes)["fix"]["copies"][0]["written"] == "voc:somewhere:train"
    fix(examine(sets.entries[:1], sets.folder), tmp_path / "new")
    assert written[-1] == ("train", 30, "coco", tmp_path / "new", "train")


def test_copies_of_sets_with_other_classes_have_a_folder_each(sets, written, tmp_path):
    sets.content["val"]["categories"][0]["name"] = "lion"
    fix(examine(sets.write(), sets.folder), tmp_path / "new")
    assert [call[3:] for call in written] == [(tmp_path / "new" / name, name) for name in ("train", "val")]


def test_a_copy_goes_into_a_new_folder_elsewhere(sets, written):
    diagnosis = examine(sets.write(), sets.folder)
    with pytest.raises(UserError, match="it is there already"):
        fix(diagnosis, sets.folder)
    with pytest.raises(UserError, match="which stays as it is"):
        fix(diagnosis, sets.images / "new")
    with pytest.raises(UserError, match="no data set could be read"):
        fix(examine(["no_such_name"], sets.folder), sets.folder / "new")
    assert written == []


def test_the_document_is_plain_and_in_the_same_order_each_time(sets):
    sets.picture("train").unlink()
    sets.box("train", [60, 70, 1, 5])
    one, other = (json.dumps(document(examine(sets.write(), sets.folder))) for _ in range(2))
    assert one == other
    assert list(json.loads(one)) == [
        *("version", "verdict", "errors", "warnings", "notes", "resize", "sets", "classes", "kinds", "findings")
    ]


def test_what_readers_say_is_a_finding_and_no_line_of_the_log(sets, caplog):
    caplog.set_level(logging.INFO)
    sets.box("train", [60, 70, 0, 5])
    assert examine(sets.write(), sets.folder).counts == {"flat-box": 1}
    assert "zero or less" not in caplog.text
