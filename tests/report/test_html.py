"""Pieces of HTML."""

import re

from detector.report.html import Cell, amount, clipped, drawn, heading, number, prose, table, text, words


def test_text_cannot_be_markup_or_leave_an_attribute():
    assert text("<b a=\"1\" c='2'>&") == "&lt;b a=&quot;1&quot; c=&#x27;2&#x27;&gt;&amp;"
    assert text("a\x00\x1b\u2028\u202eb\n") == "a\\x00\\x1b\\u2028\\u202eb\\x0a"
    assert text("a\nb", keep="\n") == "a\nb"
    assert text("\udcff") == "\\xff"


def test_numbers_have_a_minus_sign_and_what_is_missing_a_dash():
    assert number("-1.5 .. +2.0") == "\u22121.5 .. +2.0"
    assert number("-") == "\u2013"
    assert prose("a-1 -2.0 (-3.0 .. +1.0) -x") == "a-1 \u22122.0 (\u22123.0 .. +1.0) -x"


def test_long_names_are_cut_and_whole_where_a_pointer_rests():
    assert clipped("<b>") == "&lt;b&gt;"
    assert clipped("<" + "w" * 80, 5) == f'<span title="&lt;{"w" * 80}">&lt;www\u2026</span>'


def test_cells():
    assert str(Cell("x")) == "<td>x</td>"
    assert str(words("<")) == '<td class="text">&lt;</td>'
    assert str(heading("a", "!", "b")) == '<th scope="row" class="name">!a<small>b</small></th>'
    assert str(amount("-1.0", -0.01, "tie", "-2.0")) == (
        '<td class="tie" data-v="-0.01">\u22121.0<small>\u22122.0</small></td>'
    )
    assert str(amount("-", None)) == '<td data-v="">\u2013</td>'
    assert str(amount("< 0.0001", 1e-9)) == '<td data-v="1e-09">&lt; 0.0001</td>'


def test_a_table_has_headings_of_columns_and_rows():
    made = table(["a", "b"], [[heading("x"), amount("1", 1)]], label="what", left=(0,))
    assert '<th scope="col" class="text">a</th><th scope="col">b</th>' in made
    assert '<tr><th scope="row" class="name">x</th><td data-v="1">1</td></tr>' in made
    assert made.startswith('<div class="box" tabindex="0" role="region" aria-label="what"><table class="sorts">')


def test_an_interval_is_drawn_to_scale():
    lines = re.findall(r'<line[^>]* x1="([\d.]+)" x2="([\d.]+)"', str(drawn(0.1, (0.0, 0.2), (-0.2, 0.2))))
    assert lines == [("50.0", "50.0"), ("50.0", "100.0"), ("75.0", "75.0")]
    assert "<line" not in str(drawn(None, None, (-1.0, 1.0)))
    assert "<line" not in str(drawn(0.0, None, (0.0, 0.0)))
    assert str(drawn(0.1, None, (-0.2, 0.2))).count("<line") == 2
