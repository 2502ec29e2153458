"""One annotation file: broken ones, and objects however tools write them."""

import pytest
from helpers.voc import thing

from detector.data.formats.voc import read
from detector.data.formats.voc_xml import read_annotation

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
