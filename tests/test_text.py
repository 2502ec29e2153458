import ast
import itertools
import os
import re

import pytest
from helpers import ROOT

from detector.text import counted, encodable, none_of, printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("person", "person"),
        ("кошка 猫 é", "кошка 猫 é"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("one\nERROR two\rthree", "one\\x0aERROR two\\x0dthree"),
        ("a\u202eb\u2028c", "a\\u202eb\\u2028c"),
        (os.fsdecode(b"caf\xe9.jpg"), "caf\\xe9.jpg"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(name, shown):
    assert printable(name) == shown
    shown.encode()


def test_layout_may_be_kept():
    assert printable("a table\n\tof \x07", keep="\n\t") == "a table\n\tof \\x07"


def test_what_no_encoding_holds_is_escaped_and_nothing_else():
    assert encodable(os.fsdecode(b"caf\xe9\n.jpg")) == "caf\\xe9\n.jpg"
    assert encodable("\ud800 猫") == "\\ud800 猫"


@pytest.mark.parametrize(("number", "said"), [(0, "0 boxes have"), (1, "1 box has"), (2, "2 boxes have")])
def test_a_text_agrees_with_its_number(number, said):
    assert counted(number, "box|boxes has|have no end |") == f"{said} no end |"


NOUNS = "annotations|boxes|classes|detections|entries|files|frames|images|lines|objects|pictures|seeds|steps|tensors"
COUNTS = re.compile(rf" (?:(?:class|further|more|other|such|test) )?(?:{NOUNS})\b")
COUNTS_PERCENT = re.compile(rf"%[d,](?: (?:class|further|more|other|such|test))? (?:{NOUNS})\b")
MAYBE = re.compile(rf"(?:\}}|%[d,])(?: |[\"' ]+\n\s+f?[\"'] ?)(?:\w+ )?(?:{NOUNS})")  # also over the end of a line
NEVER_ONE = {
    ("studies/confusion.py", "{len(names)} classes"),
    ("data/check.py", "{len(pairs)} pictures"),
    ("doctor/classes.py", "{crowds[name]} annotations"),
    ("doctor/classes.py", "{len(ids)} classes"),
    ("data/misplaced.py", "{len(wrong)} boxes"),
    ("data/shapes.py", "%d pictures"),
    ("report/headline.py", "{most} seeds"),
    ("tasks/remedies.py", "{images} images"),
}
"""File and text of numbers that are two or more wherever they are said."""


def bare_counts(text):
    """What stands in a source where a number, of which nothing says that it is not 1, is before a plural."""
    if not MAYBE.search(text):  # the usual case
        return
    tree = ast.parse(text)
    above = {inner: node for node in ast.walk(tree) for inner in ast.iter_child_nodes(node)}

    def guarded(node):  # f"{n} boxes" if n > 1 else .., f"{n} boxes" * (n > 1)
        while (node := above.get(node)) and not isinstance(node, ast.stmt):
            if isinstance(node, ast.IfExp) or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)):
                return True
        return False

    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and not guarded(node):
            for number, rest in itertools.pairwise(node.values):
                if isinstance(number, ast.FormattedValue) and isinstance(rest, ast.Constant):
                    said = ast.unparse(number.value)
                    known = said.split(".")[-1].isupper() or said.startswith(("counted(", "agreeing("))
                    if (found := COUNTS.match(rest.value)) and not known:
                        yield f"{{{said}}}{found[0]}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if found := COUNTS_PERCENT.search(node.value):
                yield found[0]


@pytest.mark.parametrize(
    ("source", "bare"),
    [
        ('f"{len(x)} boxes lie"', ["{len(x)} boxes"]),
        ('f"all {n:,} such images"', ["{n} such images"]),
        ('log.info("%s: %d of %d images", a, b, c)', ["%d images"]),
        ('f"{n} boxes" if n > 1 else "a box"', []),
        ('f"{path}" + f": {n} boxes" * (n > 1)', []),
        ("f\"{counted(n, 'box|boxes')} of {MOST} images\"", []),
        ('f"{n} boxed things"', []),
    ],
)
def test_counts_that_may_be_one_are_found(source, bare):
    assert [*bare_counts(source)] == bare


def test_no_message_says_1_boxes():
    bare, root = set(), ROOT / "detector"
    for path in root.rglob("*.py"):
        bare |= {("/".join(path.parts[-2:]), said) for said in bare_counts(path.read_text(encoding="utf-8"))}
    assert bare == NEVER_ONE, "write counted(number, 'box|boxes'), see detector/text.py"


@pytest.mark.parametrize(
    ("number", "said"), [(0, "none of its boxes"), (1, "not even its one box"), (2, "none of its 2 boxes")]
)
def test_none_of_one_and_of_several(number, said):
    assert none_of(number, "box|boxes") == said
