"""One annotation file: broken ones, and objects however tools write them."""

import math

import numpy as np
import pytest
from helpers.voc import thing

from detector.data.formats.voc import read
from detector.data.formats.voc_xml import COMMA, EMPTY, SHAPE, THIN, WORD, read_annotation, read_objects, read_size
from detector.data.problems import Problems
from detector.errors import UserError

LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<annotation><filename>&b;</filename></annotation>"
)
FETCH = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><annotation><filename>&x;</filename></annotation>'
ONE = "<annotation><size><width>9</width><height>9</height></size>{}</annotation>"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not an XML file: no element found: line 1"),
        ("<annotation><size>", "not an XML file: no element found"),
        ("<annotation>\n<a></b></annotation>", "not an XML file: mismatched tag: line 2, column 5"),
        ('<?xml version="1.0" encoding="nosuch"?><annotation/>', "not an XML file: unknown encoding"),
        (
            '<?xml version="1.0" encoding="gbk"?><annotation/>',
            "not an XML file: multi-byte encodings are not supported",
        ),
        ("<annotation>&nothing;</annotation>", "not an XML file: undefined entity"),
        (LAUGHS, r"delete its <!DOCTYPE \.\.>: such declarations define entities and are never read"),
        (FETCH, r"delete its <!DOCTYPE \.\.>"),
        ("<html/>", "its outermost element is <html>"),
        (ONE.format("<object><bndbox><xmin>1</xmin></bndbox></object>"), r"object 1 \(''\): it has no <name>"),
        (ONE.format("<object><name>x</name></object>"), r"object 1 \('x'\): it has no <bndbox>, <xmin>"),
        (
            ONE.format(thing("x", (1, 1, 5, 5)) + thing("y", (1, "", 5, 5))),
            r"object 2 \('y'\): it has no <bndbox>, <ymin>",
        ),
        (ONE.format(thing("x", (1, 1, "wide", 5))), r"object 1 \('x'\): xmax is 'wide', which is no number"),
        (ONE.format(thing("x", (1, "nan", 5, 5))), r"object 1 \('x'\): ymin is 'nan', which is no number"),
        (ONE.format(thing("x", (1, 1, 5, 5), "maybe")), r"object 1 \('x'\): difficult is 'maybe'; it has to be 0 or 1"),
        (ONE.format(thing("x", (1, 1, 2**31, 5))), r"object 1 \('x'\): xmax is '2147483648', beyond 2147483647"),
        (ONE.format(thing("x", (1, -1e300, 5, 5))), r"object 1 \('x'\): ymin is '-1e\+300', beyond 2147483647"),
        (
            "<annotation><size><width>2147483648</width><height>9</height></size></annotation>",
            "its size is 9 x 2147483648, b",
        ),
        (
            "<annotation><size><width>9</width><height>1e400</height></size></annotation>",
            "its size is 1e400 x 9; height",
        ),
        (f"<annotation>{'<a>' * 63}{'</a>' * 63}<b></annotation>", "not an XML file: mismatched tag"),
        (f"<annotation>{'<a>' * 64}", "its elements nest more than 64 deep, which no annotation of VOC does"),
        (ONE.format(thing("n" * 9000, (1, 1, "x" * 9000, 5))), r"object 1 \('n{199}\.\. .*\): xmax is 'x{199}\.\. "),
        ("<annotation><size><width>9</width><height>tall</height></size></annotation>", "its size is tall x 9"),
        (ONE.format(f"<objects>{thing('x', (1, 1, 5, 5))}</objects>"), "it has an <object> in <objects>; VOC's"),
        (ONE.format("<Object><name>x</name></Object>"), "it has an <Object> so spelled"),
        (ONE.format(thing("x", (1, 1, 5, 5), more=thing("y", (1, 1, 5, 5)))), "it has an <object> in <object>"),
        (ONE.format("<item><bndbox/></item>"), "it has a <bndbox> in <item>; a box belongs in an <object>"),
        (
            ONE.format(thing("x", (1, 1, 5, 5), more="<bndbox><xmin>2</xmin></bndbox>")),
            r"object 1 \('x'\): it has 2 <bndbox>; write an <object> for each",
        ),
    ],
)
def test_broken_files_name_themselves_and_the_object(voc, text, problem):
    voc.add("good", [thing("x", (1, 1, 5, 5))])
    voc.add("bad")
    (voc.annotations / "bad.xml").write_text(text)
    with pytest.raises(ValueError, match=rf"bad\.xml: {problem}"):
        read(voc.folder, "all")


def test_broken_bytes_and_other_encodings(voc):
    voc.add("a", [thing("Öre", (1, 1, 5, 5))])
    text = (voc.annotations / "a.xml").read_text(encoding="utf-8")
    for encoding in ("latin-1", "utf-16"):
        (voc.annotations / "a.xml").write_text(f'<?xml version="1.0" encoding="{encoding}"?>{text}', encoding=encoding)
        assert read(voc.folder, "all").classes == ["Öre"]
    (voc.annotations / "a.xml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.xml: not an XML file: not well-formed"):
        read_annotation(voc.annotations / "a.xml")


def test_a_file_larger_than_any_annotation_is_refused(voc, monkeypatch):
    voc.add("a", [thing("x", (1, 1, 5, 5))])
    path = voc.annotations / "a.xml"
    monkeypatch.setattr("detector.data.formats.voc_xml.MAX_BYTES", path.stat().st_size)
    assert len(read(voc.folder, "all")) == 1
    monkeypatch.setattr("detector.data.formats.voc_xml.MAX_BYTES", path.stat().st_size - 1)
    with pytest.raises(ValueError, match=r"a\.xml: more than \d+ bytes, which no annotation of VOC needs"):
        read(voc.folder, "all")


BOX = "<bndbox><xmin>11</xmin><ymin>21</ymin><xmax>60</xmax><ymax>70</ymax></bndbox>"


@pytest.fixture
def objects(tmp_path):
    """objects(text, size): what is read of the <object>s in a text."""

    def build(text, size=(96, 128)):
        path = tmp_path / "a.xml"
        path.write_text(f"<annotation>{text}</annotation>")
        return read_objects(read_annotation(path), size)

    return build


@pytest.mark.parametrize(
    ("edges", "box", "kinds"),
    [
        ((11, 21, 60, 70), (10, 20, 50, 50), []),
        (("11.0", "2.1e1", "60.25", 70), (10, 20, 50.25, 50), []),
        ((0, 0, 127, 95), (-1, -1, 128, 96), []),
        ((11, 21, 11, 70), (10, 20, 1, 50), [THIN]),
        ((11, 21, 60, 21), (10, 20, 50, 1), [THIN]),
        ((11.5, 21, 11.5, 70), (10.5, 20, 1, 50), [THIN]),
        ((11, 21, 11, 21), (10, 20, 0, 0), []),  # a click: dropped as broken
        ((60, 21, 11, 70), (59, 20, -49, 50), []),
        ((60, 21, 11, 21), (59, 20, -49, 1), []),
        (("10,75", 21, "60,25", "70,5"), (9.75, 20, 50.5, 50.5), [COMMA]),
        (("0,125", 21, "60,1250", 70), (-0.875, 20, 61, 50), [COMMA]),
        ((1, 21, "1,250", 70), (0, 20, 1.25, 50), [COMMA]),  # 1250 lies beyond 128
    ],
)
def test_edges_count_pixels_from_one(objects, edges, box, kinds):
    found = objects(thing("x", edges))
    assert found.objects[0].box == pytest.approx(box)
    assert [one[0] for one in found.taken] == kinds
    assert not found.faults


@pytest.mark.parametrize("size", [(96, 1500), (0, 0)])
def test_a_comma_that_may_part_thousands_is_refused(objects, size):
    (fault,) = objects(thing("x", (1, 21, "1,250", 70)), size).faults
    assert fault == (
        1,
        "object 1 ('x'): xmax is '1,250', which may mean a thousand or a fraction; write a decimal point",
    )
    assert not objects(thing("x", (1, "1,250", 9, 70)), (96, 1500)).faults  # below the picture's 96 rows


@pytest.mark.parametrize("text", ["1,2,3", "1.234,5", "1,", ",5", "1, 5"])
def test_other_commas_are_no_numbers(objects, text):
    (fault,) = objects(thing("x", (1, 21, text, 70))).faults
    assert "which is no number" in fault[1]


@pytest.mark.parametrize(
    ("flag", "difficult", "said"),
    [
        ("0", False, False), ("1", True, False), ("", False, False), (None, False, False),
        *((word, False, True) for word in ("Unspecified", "False", "NO", "None", "0.0", "-0", "unknown")),
        *((word, True, True) for word in ("True", "yes", "2", "-1", "1.0", "0.5")),
    ],
)  # fmt: skip
def test_words_for_difficult(objects, flag, difficult, said):
    found = objects(thing("x", (1, 1, 5, 5), flag))
    assert found.objects[0].difficult is difficult
    assert found.taken == ([(WORD, 1, f"its <difficult> is {flag!r}")] if said else [])


@pytest.mark.parametrize("flag", ["maybe", "nan", "inf", "0 1"])
def test_other_words_for_difficult_are_refused(objects, flag):
    assert objects(thing("x", (1, 1, 5, 5), flag)).faults == [
        (1, f"object 1 ('x'): difficult is {flag!r}; it has to be 0 or 1")
    ]


EMPTY_BOX = "<bndbox><xmin/><ymin/><xmax/><ymax/></bndbox>"


@pytest.mark.parametrize(
    "text", ["<object/>", "<object><pose>Left</pose></object>", f"<object><name/>{EMPTY_BOX}</object>"]
)
def test_an_empty_object_is_passed_over(objects, text):
    found = objects(f"{text}<object><name>x</name>{BOX}</object>{text}")
    assert ([one.number for one in found.objects], found.faults) == ([2], [])
    assert found.taken == [(EMPTY, n, "it has neither a class nor a box") for n in (1, 3)]


def test_parts_are_not_the_object(objects):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></part>"
    for text in (f"{part}<name>x</name>{BOX}", f"<name>x</name>{BOX}{part}"):
        (one,) = objects(f"<object>{text}</object>").objects
        assert (one.name, one.box) == ("x", (10, 20, 50, 50))
    assert objects(f"<object>{part}</object>").taken == [(EMPTY, 1, "it has neither a class nor a box")]


@pytest.mark.parametrize(
    "points",
    [
        "<x1>10</x1><y1>10</y1><x2>50</x2><y2>12.5</y2><x3>30</x3><y3>60</y3>",
        "<pt><x>10</x><y>10</y></pt><pt><x>50</x><y>12.5</y></pt><pt><x>30</x><y>60</y></pt>",
        "<point><x>30</x><y>60</y></point><point><x>50</x><y>10</y></point><point><x>10</x><y>11</y></point>",
    ],
)
def test_a_polygon_counts_as_the_box_around_it(objects, points):
    found = objects(f"<object><name>x</name><polygon>{points}</polygon></object>")
    assert found.objects[0].box == (10, 10, 40, 50)
    assert found.taken == [(SHAPE, 1, "it is a polygon")]
    whole = objects(f"<object><name>x</name><polygon>{points}</polygon>{BOX}</object>")
    assert (whole.objects[0].box, whole.taken) == ((10, 20, 50, 50), [])


def test_a_polygon_of_unequal_halves_is_refused(objects):
    (fault,) = objects("<object><name>x</name><polygon><x1>1</x1><y1>2</y1><x2>3</x2></polygon></object>").faults
    assert fault[1] == "object 1 ('x'): its polygon has 2 x and 1 y"


def turned(*values):
    sides = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("cx", "cy", "w", "h", "angle"), values))
    return f"<object><type>robndbox</type><name>x</name><robndbox>{sides}</robndbox></object>"


@pytest.mark.parametrize("angle", [0, 0.3, math.pi / 2, 2.5, -0.3])
def test_a_turned_box_counts_as_the_upright_box_around_it(objects, angle):
    found = objects(turned(40, 45, 30, 20, angle))
    corners = np.array([(x, y) for x in (-15, 15) for y in (-10, 10)])
    corners = corners @ np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))]) + (40, 45)
    low, high = corners.min(0), corners.max(0)
    np.testing.assert_allclose(found.objects[0].box, (*low, *(high - low)))
    assert found.taken == [(SHAPE, 1, "it is a robndbox")]


def test_an_angle_in_degrees_is_refused(objects):
    (fault,) = objects(turned(40, 45, 30, 20, 45)).faults
    assert fault[1] == "object 1 ('x'): its angle is 45; it is in radians, at most 6.28"


@pytest.mark.parametrize(
    ("sides", "size"),
    [
        ("<width>128.0</width><height>96.0</height>", (96, 128)),
        ("<width>128,0</width><height>96</height>", (96, 128)),
        ("<width/><height/>", (0, 0)),
        ("<width>128</width>", (0, 0)),
        ("<width>0</width><height>96</height>", (0, 0)),
        ("<width>-1</width><height>-1</height>", (0, 0)),
        ("<width>None</width><height>Unspecified</height>", (0, 0)),
    ],
)
def test_sizes_and_what_stands_for_none(tmp_path, sides, size):
    (tmp_path / "a.xml").write_text(f"<annotation><size>{sides}</size></annotation>")
    assert read_size(read_annotation(tmp_path / "a.xml")) == size


def test_an_annotation_file_that_cannot_be_read_is_one_finding(voc):
    voc.add("a", [thing("x", (1, 1, 5, 5))])
    voc.add("b")
    (voc.annotations / "b.xml").unlink()
    (voc.annotations / "b.xml").symlink_to("gone")
    with pytest.raises(UserError, match=r"b\.xml: No such file or directory; fetch it again, or delete it"):
        read(voc.folder, "all")
    problems = Problems(everything=True)
    index = read(voc.folder, "all", problems=problems)
    assert (index.image_ids.tolist(), [one.kind for one in problems.findings]) == (["a"], ["voc-file"])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'<?xml version="1.0" encoding="gb2312"?><annotation/>', "save it as UTF-8"),
        (b"<annotation>\n<filename>a & b.jpg</filename></annotation>", "write &amp; for the & in line 2$"),
        (b"<annotation><filename>&lt;a&#38;</annotation>", "mend that place or write the file anew$"),
    ],
)
def test_a_file_that_is_no_xml_has_its_remedy(tmp_path, data, said):
    path = tmp_path / "a.xml"
    path.write_bytes(data)
    with pytest.raises(UserError, match=said):
        read_annotation(path)
