import os

import pytest

from detector.text import counted, encodable, printable


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
