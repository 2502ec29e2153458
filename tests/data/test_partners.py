"""Names that tools made of others, and the files that are likely meant."""

import pytest

from detector.data.partners import Partners

ROBOFLOW = "photo_jpg.rf.0a1B2c3d.jpg"


@pytest.mark.parametrize(
    ("said", "there", "told"),
    [
        ("8a7b6c5d-photo.jpg", "photo.jpg", "without the sign that Label Studio puts before names"),
        ("a1b2c3__photo.jpg", "photo.jpg", "without the sign that Label Studio puts before names"),
        ("images\\8a7b6c5d-photo.jpg", "photo.jpg", "take it away from each file_name"),
        ("photo.jpg", "8a7b6c5d-photo.jpg", "with the sign that Label Studio puts before names"),
        ("data/photo.jpg", ROBOFLOW, "take the annotations of that export"),
        (ROBOFLOW, "train/photo.jpg", "take the pictures of that export"),
        ("photo.jpeg", "photo.png", "under other names, photo.png for photo.jpeg: give both one name"),
    ],
)
def test_the_likely_file_and_the_remedy_are_named(said, there, told):
    partner = Partners(["other.jpg", there]).of(said)
    assert partner == (said, there)
    assert told in partner.what()
    assert f"{there} for {said}" in partner.what()


@pytest.mark.parametrize(
    ("said", "there"),
    [
        ("photo.jpg", "photo2.jpg"),
        ("8a7b6c5d-.jpg", "8a7b6c5d.jpg"),
        ("deadbeef-a.jpg", "b.jpg"),
        ("a-photo.jpg", "photo.jpg"),
    ],
)
def test_other_names_are_no_partners(said, there):
    assert Partners([there]).of(said) is None


def test_of_label_files_both_are_named():
    label = "labels/photo_jpg.rf.0a1B.txt"
    assert (
        Partners([label]).of("photo.jpg").its()
        == f"{label} may be its, by the names of Roboflow: take both of one export"
    )
    assert Partners(["8a7b6c5d-a.txt"]).of("a.jpg").its() == (
        "8a7b6c5d-a.txt may be its, by the names of Label Studio: give both one name"
    )
