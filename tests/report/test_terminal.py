"""What a terminal shows of a comparison: the answer, one aligned table, and what must be known."""

from helpers import comparisons

from detector.report.terminal import WIDTH, closing, opening, rows


def test_the_answer_is_sentences_of_lines_that_fit():
    document = comparisons.runs()
    document["failed"] = [{"cell": "c", "why": "no memory"}]
    lines = opening(document).splitlines()
    assert lines[0] == "5 models under fcos, 3 seeds each, on voc:bccd:test: 72 images with 1,021 objects."
    assert lines[1] == "1 cell failed, as told below: c."
    assert lines[2] == ""
    assert lines[3].startswith("Highest AP: iresnet50 with ")
    assert max(map(len, lines)) <= WIDTH


def test_a_row_for_each_model():
    assert rows(comparisons.runs(("a", "b", "c"))) == [
        ["model", "AP", "minus a", "p", "verdict", "parameters", "MACs", "image", "step"],
        ["a", "60.0 (57.6 .. 62.4)", "-", "-", "-", "32 M", "4.1 G", "52 ms", "1.1 s"],
        ["b", "60.4 (58.0 .. 62.8)", "+0.4 (-2.0 .. +2.8)", "0.74", "a tie", "33.7 M", "4.7 G", "63 ms", "1.3 s"],
        ["c", "63.1 (60.7 .. 65.5)", "+3.1 (+0.7 .. +5.5)", "0.0098", "better", "35.4 M", "5.3 G", "74 ms", "1.5 s"],
    ]
    worse = rows(comparisons.results({"a": 0.6, "b": 0.5}))
    assert [row[4] for row in worse] == ["verdict", "-", "worse"]
    alone = rows(comparisons.results({"a": 0.5}))
    assert alone[0] == ["model", "AP", "AP50", "AP75"]


def test_what_must_be_known_stands_below():
    document = comparisons.runs()
    document["notes"] += ["The budgets differ: " + "long " * 40, "Memory is that of the tensors of a training step."]
    text = closing(document)
    whole = " ".join(text.split())
    assert "95 % intervals: the chance of the test images and of the seeds. All were trained with 600 steps" in whole
    assert "- Fewer than six seeds" in text
    assert "\n- The budgets differ: long" in text
    assert "\n  long" in text
    assert "Memory" not in text  # for which the table has no column
    alone = closing(comparisons.results({"a": 0.5, "b": 0.6}))
    assert "the test images alone." in alone
    long = "x" * 30
    assert f"Difference: minus {long}." in closing(comparisons.results({long: 0.5, "b": 0.6})).replace("\n", " ")


def test_the_intervals_without_seeds_are_named():
    document = comparisons.runs(("a", "b"))
    assert "images alone" not in closing(document)
    document["models"]["b"]["AP"]["seeds"] = document["differences"][0]["AP"]["seeds"] = None
    whole = " ".join(closing(document).split())
    assert "the test images and of the seeds; of the images alone: AP of b, b minus a. All" in whole
    many = comparisons.runs(tuple("abcdefgh"))
    for model in [*many["models"].values()][1:]:
        model["AP"]["seeds"] = None
    assert "alone: AP of b, AP of c, AP of d, AP of e, AP of f and 2 more." in " ".join(closing(many).split())


def test_hostile_names_and_nothing_known(hostile, empty):
    for document in (hostile, empty):
        text = opening(document) + closing(document) + str(rows(document))
        assert "\x1b" not in text
        assert "None" not in text
    assert {row[4] for row in rows(empty)[2:]} == {"nothing to find"}
