"""Values in messages."""

import time

from detector.errors import cut


def test_short_values_are_as_they_are():
    for value in ("a", "it's", 5, -2.5, None, True, ["1", "b"], (1,), {"A": "1"}, [[1], {"a": (2, 3)}], 10**60):
        assert cut(value) == repr(value)


def test_long_values_end_and_say_how_long_they_are():
    assert cut("a" * 500) == "'" + "a" * 199 + ".. (502 characters)"
    assert len(cut(list(range(10_000)))) < 250
    assert cut(10**5000) == "an integer of 16610 bits"  # which Python refuses to print
    assert cut([-(10**5000)]) == "[an integer of 16610 bits]"


def test_what_stands_in_itself_or_many_times_over_takes_no_time():
    many = []
    for _ in range(60):
        many = [many, many]
    circle = []
    circle.append(circle)
    started = time.perf_counter()
    assert len(cut(many)) < 250
    assert len(cut(circle)) < 250
    assert time.perf_counter() - started < 0.5
