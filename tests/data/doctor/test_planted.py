"""One defect of every kind, planted into data sets without any: it is found, and nothing else is."""

import importlib
import pkgutil
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from detector.data import doctor, packed, plausible, shares
from detector.data.doctor import folder, mend
from detector.data.problems import KINDS
from detector.tasks.doctor import examine

PLANTERS = {}


def plants(kind, *also):
    """also: kinds that cannot but come with it."""

    def add(function):
        PLANTERS[kind] = function, also
        return function

    return add


def declared():
    """The kinds that the doctor declares, or all readers share. Those of one reader may have a planter here too."""
    names = [found.name for found in pkgutil.iter_modules(doctor.__path__, "detector.data.doctor.")]
    modules = [packed, plausible, shares, *map(importlib.import_module, names)]
    return {value for module in modules for value in vars(module).values() if isinstance(value, str)} & set(KINDS)


def test_every_kind_has_a_planter():
    assert declared() - set(PLANTERS) == set()
    assert set(PLANTERS) <= set(KINDS)
    assert len(declared()) > 25


def test_every_kind_is_mended_or_not():
    assert declared() == mend.MENDED | mend.STAYS


def test_clean_sets_have_no_finding(sets):
    assert examine(sets.write(), sets.folder).findings == []


@pytest.mark.parametrize("kind", PLANTERS)
def test_what_is_planted_is_found_and_nothing_else(sets, kind):
    plant, also = PLANTERS[kind]
    more = plant(sets) or []
    entries = sets.write()
    diagnosis = examine([str(sets.folder)] if kind == folder.PASSED_OVER else [*entries, *more], sets.folder)
    own = {one: number for one, number in diagnosis.counts.items() if one not in also}
    assert own == {kind: 1}, [finding.text for finding in diagnosis.findings]
    assert set(diagnosis.counts) == {kind, *also}
    for finding in diagnosis.findings:
        assert str(sets.folder) in finding.text or "class" in finding.record
        assert finding.box is not None or not kind.startswith(("box-", "flat-", "crowd-"))
        assert finding.picture or not kind.startswith(("box-", "flat-", "crowd-", "picture-"))


# ---------------------------------------------------------------------------- pictures


@plants("areas-unlike-boxes")
def _(sets):
    for row in sets.content["train"]["annotations"]:
        row["area"] = row["bbox"][2] * row["bbox"][3] / (96 * 128)


@plants("picture-missing")
def _(sets):
    sets.picture("train").unlink()


@plants("picture-unreadable")
def _(sets):
    sets.picture("train").write_bytes(b"no picture")


@plants("picture-cut-short")
def _(sets):
    path = sets.picture("train")
    path.write_bytes(path.read_bytes()[:-400])


@plants("picture-without-end")
def _(sets):
    path = sets.picture("train")
    path.write_bytes(path.read_bytes()[:-2])


@plants("picture-wrong-size")
def _(sets):
    sets.content["train"]["images"][0]["width"] += 9


@plants("picture-turned")
def _(sets):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(sets.picture("train")) as image:
        image.save(sets.picture("train"), exif=exif)


@plants("picture-outside-folder")
def _(sets):
    shutil.move(sets.picture("train"), sets.folder / "outside.jpg")
    sets.content["train"]["images"][0]["file_name"] = "../outside.jpg"


@plants("picture-twice")
def _(sets):
    shutil.copy(sets.picture("train", 0), sets.picture("train", 1))


@plants("file-in-both")
def _(sets):
    shutil.copy(sets.picture("train", 0), sets.picture("val", 1))


@plants("sets-the-same")
def _(sets):
    sets.content["val"]["images"] = sets.content["train"]["images"]


@plants("pictures-not-named")
def _(sets):
    for number in range(17):  # beside 16 that are named
        shutil.copy(sets.picture("train"), sets.images / f"more{number}.jpg")


def test_pictures_that_another_set_may_name_are_not_told(sets):
    for number in range(16):
        shutil.copy(sets.picture("train"), sets.images / f"more{number}.jpg")
    assert examine(sets.write(), sets.folder).findings == []


def save_anew(source, target):
    image = cv2.resize(cv2.imread(str(source)), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    image = np.clip(cv2.resize(image, (128, 96)).astype(int) + 9, 0, 255).astype(np.uint8)
    cv2.imwrite(str(target), image, [cv2.IMWRITE_JPEG_QUALITY, 60])


@plants("picture-alike")
def _(sets):
    save_anew(sets.picture("train", 2), sets.picture("train", 5))


@plants("picture-alike-in-two-sets")
def _(sets):
    save_anew(sets.picture("train", 2), sets.picture("val", 5))


@plants("file-twice")
def _(sets):
    sets.content["train"]["images"][1]["file_name"] = "train0.jpg"
    sets.content["train"]["annotations"][3:6] = []


# ---------------------------------------------------------------------------- boxes


@plants("boxes-as-fractions")
def _(sets):
    for row in sets.content["train"]["annotations"]:
        x, y, width, height = row["bbox"]
        row["bbox"] = [x / 128, y / 96, width / 128, height / 96]


@plants("boxes-partly-fractions")
def _(sets):
    for row in sets.content["train"]["annotations"][:12]:
        x, y, width, height = row["bbox"]
        row["bbox"] = [x / 128, y / 96, width / 128, height / 96]


@plants("boxes-not-to-scale")
def _(sets):
    for place, row in enumerate(sets.content["train"]["annotations"]):
        x, y, width, height = row["bbox"]
        row["bbox"] = [(x + place / 10) / 2, (y + place / 10) / 2, width / 2, height / 2]


@plants("many-crowds")
def _(sets):
    for row in sets.content["train"]["annotations"][:12:3]:
        row["iscrowd"] = 1


@plants("many-without-objects")
def _(sets):
    sets.grow("train", 12, ())


@plants("many-difficult", "class-missing-in-a-set", "class-lists-differ")
def _(sets):
    voc = sets.folder / "voc"
    (voc / "JPEGImages").mkdir(parents=True)
    (voc / "Annotations").mkdir()
    for place in range(2):
        image = np.random.default_rng(place).integers(0, 256, (96, 128, 3), dtype=np.uint8)
        cv2.imwrite(str(voc / "JPEGImages" / f"{place}.jpg"), image)
        things = [
            f"<object><name>cow</name><difficult>{int(x > 10)}</difficult><bndbox><xmin>{x}</xmin><ymin>9</ymin>"
            f"<xmax>{x + 20}</xmax><ymax>40</ymax></bndbox></object>"
            for x in (4, 40, 80)
        ]
        size = "<size><width>128</width><height>96</height></size>"
        (voc / "Annotations" / f"{place}.xml").write_text(f"<annotation>{size}{''.join(things)}</annotation>")
    return [f"voc:{voc}:all"]


@plants("boxes-as-corners", "box-beyond-edge")
def _(sets):
    for row in sets.content["train"]["annotations"]:
        x, y, width, height = row["bbox"]
        row["bbox"] = [x, y, x + width, y + height]


@plants("flat-box")
def _(sets):
    sets.box("train", [60, 70, 0, 5])


@plants("box-outside")
def _(sets):
    sets.box("train", [130, 10, 20, 20])


@plants("box-beyond-edge")
def _(sets):
    sets.box("train", [110, 10, 25, 20])


@plants("box-far")
def _(sets):
    sets.box("train", [10, 10, 1e12, 20])


@plants("box-repeated")
def _(sets):
    rows = sets.content["train"]["annotations"]
    sets.box("train", rows[0]["bbox"], rows[0]["category_id"])


@plants("box-twice")
def _(sets):
    x, y, width, height = sets.content["train"]["annotations"][0]["bbox"]
    sets.box("train", [x + 0.25, y, width, height])


@plants("box-of-two-classes")
def _(sets):
    sets.box("train", sets.content["train"]["annotations"][0]["bbox"], 2)


@plants("box-of-whole-picture")
def _(sets):
    sets.box("train", [0, 0, 128, 96])


@plants("box-one-pixel")
def _(sets):
    sets.box("train", [60, 70, 1, 8])


@plants("crowd-region")
def _(sets):
    sets.box("train", [50, 40, 30, 30], iscrowd=1)


# ---------------------------------------------------------------------------- classes


@plants("class-unused")
def _(sets):
    sets.category("fox")


@plants("class-of-crowds", "crowd-region")
def _(sets):
    number = sets.category("fox")
    for image in range(2):
        sets.box("train", [60, 70, 9, 9], number, image, iscrowd=1)


@plants("classes-from-one", "yolo-class", "class-lists-differ", "class-missing-in-a-set")
def _(sets):
    (sets.folder / "other").mkdir()
    (sets.folder / "other" / "classes.txt").write_text("cat\ndog\nbird\n")
    for place in range(2):
        image = np.random.default_rng(place).integers(0, 256, (96, 128, 3), dtype=np.uint8)
        cv2.imwrite(str(sets.folder / "other" / f"{place}.jpg"), image)
        lines = [f"{label} 0.{2 * label} 0.5 0.1 0.2\n" for label in (1, 2, 3)]
        (sets.folder / "other" / f"{place}.txt").write_text("".join(lines))
    return [f"yolo:{sets.folder / 'other'}:all"]


@plants("class-with-one-object")
def _(sets):
    sets.box("train", [60, 70, 9, 9], sets.category("fox"))


@plants("class-names-alike")
def _(sets):
    number = sets.category("Cats ")
    for part in ("train", "val"):
        sets.box(part, [60, 70, 9, 9], number)


@plants("class-missing-in-a-set")
def _(sets):
    number = sets.category("fox")
    for image in (0, 1):
        sets.box("val", [60, 70, 9, 9], number, image)


@plants("class-skew")
def _(sets):
    sets.grow("train", 40, (1, 2))
    sets.grow("val", 40)


# ---------------------------------------------------------------------------- data sets


@plants("class-lists-differ")
def _(sets):
    first, second, _ = sets.content["val"]["categories"]
    first["name"], second["name"] = second["name"], first["name"]


@plants("set-without-objects")
def _(sets):
    sets.content["val"]["annotations"] = []


@plants("test-without-objects")
def _(sets):
    sets.content["test"] = {**sets.content["val"], "images": [], "annotations": []}
    sets.grow("test", 2, ())
    for place in range(2):
        image = np.random.default_rng(place).integers(0, 256, (96, 128, 3), dtype=np.uint8)
        cv2.imwrite(str(sets.picture("test", place)), image)
    return [f"{sets.images}:{sets.folder / 'test.json'}"]


@plants("set-unreadable")
def _(sets):
    sets.content["val"] = "[1, 2"


@plants("file-passed-over")
def _(sets):
    (sets.folder / "notes.json").write_text("{}")


@plants("set-named-twice")
def _(sets):
    return [sets.entries[0]]
