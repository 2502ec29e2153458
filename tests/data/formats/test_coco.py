"""Files that are not quite COCO's: what is taken, what is measured, what is refused with the remedy that fits."""

import json
import logging

import pytest

from detector.data.catalog import load_dataset
from detector.data.formats import coco as reader
from detector.data.formats import pieces
from detector.data.index import load_index
from detector.data.plausible import check_units
from detector.data.problems import KINDS, Problems
from detector.errors import UserError

BOX = [1, 2, 30, 40]


def tree(number=3):
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 60, "width": 80} for i in range(1, number + 1)],
        "annotations": [
            {"id": i, "image_id": 1 + i % number, "category_id": 7 + i % 2, "bbox": BOX, "area": 99.5, "iscrowd": i % 2}
            for i in range(1, 2 * number + 1)
        ],
        "categories": [{"id": 7, "name": "5"}, {"id": 8, "name": "dog"}],
    }


@pytest.fixture
def write(coco):
    def write(content):
        path = coco.folder / "a.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def fields(index):
    return (
        [index.classes, index.category_ids]
        + [x.tolist() for x in (index.image_ids, index.file_names, index.heights, index.widths, index.offsets)]
        + [x.tolist() for x in (index.annotation_ids, index.labels, index.boxes_xywh, index.areas, index.crowd)]
    )


def each(key, field, change):
    def apply(content):
        for record in content[key]:
            record[field] = change(record[field])

    return apply


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (each("annotations", "bbox", lambda box: [str(x) for x in box]), "6 of `annotations` hold numbers as texts in"),
        (each("annotations", "bbox", lambda box: [f" {x}.0e0" for x in box]), "annotations[0].bbox is ' 1.0e0'"),
        (each("annotations", "area", str), "annotations[0].area is '99.5'"),
        (each("annotations", "iscrowd", float), "6 of `annotations` hold whole numbers as floats in iscrowd"),
        (each("annotations", "iscrowd", str), "6 of `annotations` hold numbers as texts in iscrowd"),
        (each("annotations", "id", float), "6 of `annotations` hold whole numbers as floats in id"),
        (each("annotations", "image_id", float), "annotations[0].image_id is 2.0"),
        (each("annotations", "category_id", float), "annotations[0].category_id is 8.0"),
        (each("images", "id", float), "3 of `images` hold whole numbers as floats in id"),
        (each("images", "width", float), "images[0].width is 80.0"),
        (each("images", "height", str), "3 of `images` hold numbers as texts in height"),
        (each("categories", "id", float), "2 of `categories` hold whole numbers as floats in id"),
        (each("annotations", "image_id", str), "6 annotations have image_id as a text, where an id of `images` is a n"),
        (each("annotations", "image_id", lambda i: f"{i}.0"), "(the first: '2.0' of annotations[0])"),
        (each("annotations", "category_id", str), "6 annotations have category_id as a text"),
        (each("annotations", "image_id", lambda i: str(i) if i == 1 else i), "2 annotations have image_id as a text"),
        (each("images", "id", lambda i: str(i) if i == 2 else i), "1 of 3 ids of `images` are texts beside numbers"),
        (each("categories", "id", str), "2 ids of `categories` are texts"),
    ],
)
def test_values_whose_meaning_is_plain_are_taken(write, caplog, change, line):
    expected = fields(load_index(write(tree())))
    caplog.clear()
    content = tree()
    change(content)
    index = load_index(write(content))
    assert fields(index) == expected
    assert any(line in message for message in caplog.messages), caplog.messages
    assert all(str(index.path) in message for message in caplog.messages)


def test_numbers_with_exponents_and_nulls(write):
    text = json.dumps(tree()).replace('"id": 1,', '"id": 1e0,').replace('"iscrowd": 0', '"iscrowd": null')
    assert fields(load_index(write(text))) == fields(load_index(write(tree())))


def test_text_ids_on_the_side_of_the_images(write):
    content = tree()
    each("images", "id", str)(content)
    index = load_index(write(content))
    assert index.image_ids.tolist() == ["1", "2", "3"]  # as the file has them
    assert index.offsets.tolist() == [0, 2, 4, 6]
    each("categories", "id", str)(content)
    each("annotations", "category_id", str)(content)
    assert load_index(write(content)).category_ids == [7, 8]


def test_names_that_are_numbers(write):
    content = tree()
    content["categories"][0]["name"] = 5
    content["categories"][1]["name"] = 5.5
    assert load_index(write(content)).classes == ["5", "5.5"]


def test_ids_that_may_be_either_are_not_guessed(write):
    content = tree(2)
    content["images"][0]["id"], content["images"][1]["id"] = "1", "01"
    each("annotations", "image_id", lambda i: 1)(content)
    with pytest.raises(UserError, match=r"annotations\[0\] has image_id 1, which no record of `images`.*is a text"):
        load_index(write(content))
    content["annotations"] = [{**a, "image_id": "1"} for a in content["annotations"]]
    assert load_index(write(content)).offsets.tolist() == [0, 4, 4]
    content = tree(2)
    content["images"][0]["id"] = "x"
    with pytest.raises(UserError, match=r"partly numbers, partly texts \(that of images\[0\] is the text 'x'\)"):
        load_index(write(content))
    content = tree(2)
    content["categories"][0]["id"] = content["categories"][1]["id"] = "7"
    with pytest.raises(UserError, match=r"categories\[0\] and categories\[1\] both have id 7"):
        load_index(write(content))


def drop(key, place, field, **more):
    def apply(content):
        content[key][place].pop(field)
        content[key][place].update(more)

    return apply


def put(key, place, **more):
    return lambda content: content[key][place].update(more)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("annotations", 3, category_id=None), r"category_id is null - at `\$\.annotations\[3\]\.category_id`"),
        (put("annotations", 3, category_id=None), "write the id of its class in `categories`, or leave the record out"),
        (
            drop("annotations", 3, "image_id", item_id=2),
            r"field `image_id` - at `\$\.annotations\[3\]`; the record has id, category_id, bbox, area, iscrowd, "
            "item_id; rename `item_id` to `image_id`",
        ),
        (drop("annotations", 0, "image_id", imageId=2), "rename `imageId` to `image_id`"),
        (drop("annotations", 0, "image_id", item_id=None), "write the id of its picture"),
        (drop("annotations", 0, "bbox", segmentation=[[1, 2, 3]]), "write bbox .x, y, width, height. of the object"),
        (drop("annotations", 0, "bbox", box=BOX), "rename `box` to `bbox`"),
        (drop("annotations", 0, "category_id", categoryID=7), "rename `categoryID` to `category_id`"),
        (drop("images", 1, "file_name", filename="2.png"), "rename `filename` to `file_name`"),
        (drop("categories", 1, "id"), "give each of `categories` an id of its own"),
        (drop("images", 1, "file_name"), "write the name of its file"),
        (drop("categories", 1, "name", label="dog"), "rename `label` to `name`"),
        (put("annotations", 0, image_id=1.5), r"Expected `int`, got `float` - at `\$\.annotations\[0\]\.image_id`"),
        (put("annotations", 0, image_id=1e17), "Expected `int`, got `float`"),
        (put("annotations", 0, image_id=True), "Expected `int`, got `bool`"),
        (put("annotations", 0, image_id=2**63), "of 64 bits"),
        (put("annotations", 0, image_id="seven"), "it is a text, an id of `images` is a number"),
        (put("annotations", 0, bbox=[1, 2, 3, "nan"]), r"Expected `float`, got `str` .*bbox\[3\]`; it is 'nan'"),
        (put("annotations", 0, bbox="1 2 3 4"), "Expected `array`, got `str`"),
        (put("annotations", 0, bbox=[1, 2, 3, None]), r"got `null` - at `\$\.annotations\[0\]\.bbox\[3\]`"),
        (put("annotations", 0, area={}), r"got `object` - at `\$\.annotations\[0\]\.area`"),
        (put("images", 2, width="80 px"), r"Expected `int`, got `str` - at `\$\.images\[2\]\.width`"),
        (put("images", 2, width=80.5), "Expected `int`, got `float`"),
        (put("images", 2, width=2**31), "Expected `int` <= 2147483647"),
        (put("images", 2, file_name=7), "Expected `str`, got `int`"),
        (put("categories", 1, name=None), "name is null"),
        (each("categories", "id", "class {}".format), "has the text 'class 7' as its id; number the classes"),
    ],
)
@pytest.mark.parametrize("size", [200, 1 << 20])
def test_what_cannot_be_taken_is_explained(write, monkeypatch, change, message, size):
    monkeypatch.setattr(pieces, "SIZE", size)
    content = tree()
    change(content)
    with pytest.raises(UserError, match=message) as error:
        load_index(write(content))
    assert "a.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_record_that_is_no_object(write):
    content = tree()
    content["annotations"][4] = [1]
    with pytest.raises(UserError, match=r"Expected `object`, got `array` - at `\$\.annotations\[4\]`; images need"):
        load_index(write(content))


def test_sizes_that_are_missing_are_measured(coco, write, caplog):
    sizes = [(30, 40), (50, 60), (70, 90), (20, 21), (33, 34)]
    content = tree(5)
    for image, (height, width) in zip(content["images"], sizes, strict=True):
        coco.picture(image["file_name"], height, width)
    first, second, third, fourth, fifth = content["images"]
    first.pop("height")
    second.update(height=None, width=None)
    third.update(height=0, width=0.0)
    fourth.update(height="", width=-1)
    fifth.update(height=33, width=34, file_name="images\\5.png")
    path = write(content)
    with caplog.at_level(logging.WARNING, "detector"):
        index = load_dataset(f"{coco.images}:{path}", ".").index
    assert [index.size(i) for i in range(5)] == sizes
    (line,) = [message for message in caplog.messages if "measured" in message]
    assert (
        f"{path}: 4 images have no height and width; they are measured from the pictures (image ids: 1, 2, 3, 4)"
        in line
    )


def test_sizes_of_names_from_another_machine_are_measured(coco, write):
    content = tree(1)
    coco.picture("1.png", 30, 40)
    content["images"] = [{"id": 1, "file_name": "C:\\x\\1.png"}]
    index = load_dataset(f"{coco.images}:{write(content)}", ".").index
    assert (index.size(0), index.file_names.tolist()) == ((30, 40), ["1.png"])


def test_sizes_that_cannot_be_measured_name_the_picture(coco, write):
    content = tree(2)
    del content["images"][1]["width"]
    (coco.images / "2.png").write_text("no picture")
    path = write(content)
    with pytest.raises(
        UserError, match=r"a\.json: images\[1\], id 2 has no height and width, and they cannot .*2\.png"
    ):
        load_index(path, coco.images)
    with pytest.raises(
        UserError, match=r"images\[1\], id 2: '2\.png' has no height and width \(1 such .*name the fold"
    ):
        load_index(path)


def test_files_without_a_record_that_can_be_used(coco, write):
    content = tree(1)
    content["images"][0]["height"] = 0
    with pytest.raises(UserError, match=r"not even its one picture can be measured; are they in .*images"):
        load_index(write(content), coco.images, Problems(everything=True))
    content["images"][0]["id"] = None
    with pytest.raises(UserError, match="`images` has no record that can be used"):
        load_index(write(content), coco.images, Problems(everything=True))


def test_everything_is_told_and_the_rest_is_read(coco, write, monkeypatch):
    for size in (150, 1 << 20):
        monkeypatch.setattr(pieces, "SIZE", size)
        content = tree(6)
        images, annotations, categories = content["images"], content["annotations"], content["categories"]
        del images[1]["file_name"]  # with it, silently, its two annotations
        images[2]["height"] = 0
        images[4]["id"] = 4  # so that there is no 5, which annotations[3] names
        annotations[0]["bbox"] = [1, 2, 3]
        annotations[2] = 7
        annotations[3]["id"] = 2
        annotations[4].update(image_id=99)
        annotations[5].update(category_id=9)
        annotations[8].update(bbox=[1, 2, 1e12, 3])
        categories.append({"id": 10})
        annotations[9].update(image_id=1, category_id=10)  # of the class that is an error itself
        problems = Problems(everything=True)
        index = load_index(write(content), coco.images, problems)
        told = {(one.kind, one.record.split(": ")[1].split(",")[0]) for one in problems.findings}
        assert len(told) == len(problems.findings)
        assert told == {
            ("field-type", "images[1]"),
            ("size-unknown", "images[2]"),
            ("id-twice", "images[4]"),
            ("field-type", "annotations[0]"),
            ("field-type", "annotations[2]"),
            ("id-twice", "annotations[3]"),
            ("id-unknown", "annotations[3]"),
            ("id-unknown", "annotations[4]"),
            ("id-unknown", "annotations[5]"),
            ("box-far", "annotations[8]"),
            ("id-unclear", "annotations[8]"),  # 4 is the id of two images
            ("field-type", "categories[2]"),
        }
        assert {one.kind for one in problems.findings} <= set(KINDS)
        assert all(str(index.path) in one.text for one in problems.findings)
        assert index.image_ids.tolist() == [1, 4, 6]
        assert index.annotation_ids.tolist() == [12, 11]


def test_an_id_of_several_records_stands_for_none_of_them(coco, write):
    content = tree(4)
    per = len(content["annotations"]) // 4
    for number, image in enumerate(content["images"]):
        image.update(id=number % 2 + 1, file_name=f"{number}.png")
    for annotation in content["annotations"]:
        annotation["image_id"] = (annotation["image_id"] - 1) % 2 + 1
    problems = Problems(everything=True)
    index = load_index(write(content), coco.images, problems)
    assert len(index.labels) == 0
    unclear = [one for one in problems.findings if one.kind == "id-unclear"]
    assert len(unclear) == 4 * per
    assert {one.picture for one in unclear} == {"0.png", "1.png"}
    for image in content["images"][2:]:  # the same again is no other
        image["file_name"] = content["images"][image["id"] - 1]["file_name"]
    problems = Problems(everything=True)
    assert len(load_index(write(content), coco.images, problems).labels) == 4 * per
    assert {one.kind for one in problems.findings} == {"id-twice"}
    content = tree(4)
    content["categories"].append({"id": content["categories"][0]["id"], "name": "zebra"})
    problems = Problems(everything=True)
    kept = load_index(write(content), coco.images, problems).labels.tolist()
    assert 0 not in kept
    assert len(kept) < 4 * per


@pytest.mark.parametrize("make", [int, str])
def test_annotations_whose_ids_start_again_are_numbered_anew(coco, write, make):
    content = tree(4)
    number = len(content["annotations"])
    for place, annotation in enumerate(content["annotations"]):
        annotation["id"] = make(place % 2 + 1)
    problems = Problems(everything=True)
    index = load_index(write(content), coco.images, problems)
    assert len(set(index.annotation_ids.tolist())) == number
    assert index.annotation_ids.dtype.kind == ("i" if make is int else "U")
    assert [one.kind for one in problems.findings] == ["id-twice"] * (number - 2)


def test_findings_on_annotations_know_their_picture(coco, write):
    content = tree(4)
    images, annotations = content["images"], content["annotations"]
    annotations[0]["bbox"] = [1, 2]
    annotations[2]["category_id"] = 99
    problems = Problems(everything=True)
    load_index(write(content), coco.images, problems)
    names = {image["id"]: image["file_name"] for image in images}
    assert [one.picture for one in problems.findings] == [names[annotations[i]["image_id"]] for i in (0, 2)]


def test_good_files_are_not_decoded_record_by_record(write, monkeypatch):
    monkeypatch.setattr(reader.Mending, "records", None)
    load_index(write(tree()))
    content = tree()
    each("images", "id", lambda i: f"picture {i}")(content)
    each("annotations", "image_id", lambda i: f"picture {i}")(content)
    assert load_index(write(content)).offsets.tolist() == [0, 2, 4, 6]


def test_pieces_make_no_difference(write, monkeypatch):
    content = tree(60)
    each("annotations", "id", lambda i: str(i) if i > 100 else i)(content)  # numbers first, then texts
    for change in (lambda content: None, each("images", "id", str)):
        change(content)
        path = write(content)
        whole = fields(load_index(path))
        assert whole[7][:4] == [60, 120, 1, 61]
        monkeypatch.setattr(pieces, "SIZE", 300)
        assert fields(load_index(path)) == whole
        monkeypatch.undo()


@pytest.mark.parametrize("kind", [int, str])
@pytest.mark.parametrize("shift", [1, -1])
@pytest.mark.parametrize(("field", "key"), [("image_id", "images"), ("category_id", "categories")])
def test_ids_that_are_one_off_are_not_to_be_removed(coco, write, field, key, shift, kind):
    content = tree()
    for one in content["annotations"]:
        one[field] = kind(one[field] + shift)
    word = "subtract 1 from" if shift > 0 else "add 1 to"
    with pytest.raises(UserError, match=f"; {word} the {field} of every annotation, then each of the 6 has one"):
        load_index(write(content))
    problems = Problems(everything=True)
    load_index(write(content), coco.images, problems)
    assert {one.kind for one in problems.findings} - {"id-as-text"} == {"id-shifted"}
    content["annotations"][0][field] = kind(99)
    with pytest.raises(UserError, match=f"; remove them or add the missing {key}"):
        load_index(write(content))


@pytest.mark.parametrize(
    ("field", "key", "value", "record"),
    [
        ("image_id", "images", lambda id_: f"{id_}.png", {}),
        ("image_id", "images", str, {"file_name": "sub/x{}.png"}),
        ("image_id", "images", str, {"file_name": "pictures/{}.png", "id": "{}.png"}),
        ("category_id", "categories", lambda id_: {7: "5", 8: "dog"}[id_], {}),
    ],
)
def test_names_in_place_of_ids_are_told_as_such(coco, write, field, key, value, record):
    content = tree()
    for one in content["annotations"]:
        one[field] = value(one[field]) if "x" not in str(record) else f"x{one[field]}"
    for one in content[key]:
        one |= {name: text.format(one["id"]) for name, text in record.items()}
    with pytest.raises(UserError, match=r"; it is the name of the record with id .*: write ids, not names"):
        load_index(write(content))
    problems = Problems(everything=True)
    load_index(write(content), coco.images, problems)
    assert "id-is-name" in {one.kind for one in problems.findings}


def test_an_area_of_nothing_is_that_of_the_box(coco, write):
    content = tree()
    for place, area in enumerate((0, -3, 0.5)):
        content["annotations"][place]["area"] = area
    content["annotations"][3].update(area=0, bbox=[1, 2, 0, 5])
    problems = Problems(everything=True)
    index = load_index(write(content), coco.images, problems)
    areas = dict(zip(index.annotation_ids.tolist(), index.areas.tolist(), strict=True))
    assert areas == {1: 1200, 2: 1200, 3: 0.5, 4: 0, 5: 99.5, 6: 99.5}
    assert [one.kind for one in problems.findings] == ["area-not-positive"] * 2 + ["flat-box"]
    assert (
        "2 annotations have an area of zero or less; that of the box is taken (annotation ids: 1, 2)"
        in (problems.lines[0])
    )


@pytest.mark.parametrize(
    ("factor", "said"),
    [(0.009, True), (0.02, False), (1.4, False), (1.6, True)],
)
def test_areas_of_another_scale_are_told(write, caplog, factor, said):
    content = tree()
    for place, one in enumerate(content["annotations"]):
        one["area"] = 1200 * (factor if place else 1)
    check_units(load_index(write(content)))
    assert ("5 of 6 objects have an `area` that is less than a hundredth of their box" in caplog.text) == said


@pytest.mark.parametrize("ids", [[0] * 6, [1] * 6, ["a"] * 6, [None] * 6, [None, 3, None, 5, 1, 2]])
@pytest.mark.parametrize("lacks", [True, False])
def test_annotations_without_an_id_of_their_own_are_numbered(write, caplog, ids, lacks):
    content = tree()
    for one, id_ in zip(content["annotations"], ids, strict=True):
        one["id"] = id_
        if lacks and id_ is None:
            del one["id"]
    index = load_index(write(content))
    new = [6, 3, 7, 5, 1, 2] if 3 in ids else [1, 2, 3, 4, 5, 6]
    assert sorted(index.annotation_ids.tolist()) == sorted(new)
    assert index.annotation_ids.tolist() == [new[i] for i in (2, 5, 0, 3, 1, 4)]
    what = "have the same id" if None not in ids else "have no id"
    assert f"{ids.count(ids[0])} of 6 annotations {what}" in caplog.text


def test_two_annotations_of_one_id_stay_an_error(write):
    content = tree()
    del content["annotations"][2:]
    content["annotations"][1]["id"] = 1
    with pytest.raises(UserError, match="both have id 1"):
        load_index(write(content))


@pytest.mark.parametrize(
    ("value", "crowds", "line"),
    [
        (-1, 6, "6 of `annotations` hold numbers other than 0 and 1 in iscrowd"),
        (2, 6, "taken as 1, so that these are crowd regions"),
        ("false", 0, "hold numbers as texts"),
        ("True", 6, "hold numbers as texts"),
    ],
)
def test_a_flag_of_another_form_is_told(write, caplog, value, crowds, line):
    content = tree()
    for one in content["annotations"]:
        one["iscrowd"] = value
    index = load_index(write(content))
    assert index.crowd.sum() == crowds
    assert line in caplog.text


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"bbox": [], "segmentation": [[1, 2, 1, 2, 1, 2]]}, "the box around the polygons of its segmentation"),
        (
            {"bbox": None, "segmentation": {"counts": [1], "size": [1, 1]}},
            "the box around the mask of its segmentation",
        ),
        ({"bbox": {"x": 1, "y": 2}}, r"write its numbers as a list, \[x, y, width, height\]"),
        ({"bbox": "[1, 2, 3, 4]"}, "write a list of numbers without quotes around it"),
        ({"bbox": [[1, 2], [3, 4]]}, "write its four numbers in one list"),
        ({"bbox": [[1, 2, 3, 4]]}, "write its four numbers in one list"),
    ],
)
def test_a_box_of_another_form_has_the_remedy_that_fits(write, change, remedy):
    content = tree()
    content["annotations"][1] |= change
    with pytest.raises(UserError, match=f"; (write bbox .* of the object, )?{remedy}; images need id"):
        load_index(write(content))


@pytest.mark.parametrize("more", [{}, {"iscrowd": "0"}])  # as it should be, and mended
def test_labels_with_scores(coco, more):
    rows = [{"id": id_, "image_id": 1, "bbox": [1, 2, 10, 20], "score": id_ / 4, **more} for id_ in range(3)]
    for scored in (True, False):
        problems = Problems(everything=True)
        reader.read(coco.annotate(rows), problems=problems)
        assert ("labels-with-scores" in {one.kind for one in problems.findings}) is scored
        assert any("all `annotations` have a score" in line for line in problems.lines) is scored
        rows[1].pop("score", None)
