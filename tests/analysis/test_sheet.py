"""The contact sheet: its size, where pictures and lines stand, and pictures of strange shapes."""

import numpy as np
import pytest

from detector.analysis.sheet import CELL, MOST, Cell, contact_sheet, fitted, shown_size


def cell(color, size=(360, 480), lines=("a", "b", "c")):
    return Cell(np.full((*size, 3), color, np.uint8), lines)


@pytest.mark.parametrize(
    ("size", "shown"),
    [((360, 480), (360, 480)), ((3600, 4800), (360, 480)), ((60, 40), (360, 240)), ((100, 4000), (12, 480))],
)
def test_pictures_are_as_large_as_their_cell_allows(size, shown):
    assert shown_size(size) == shown
    picture = fitted(np.full((*size, 3), 7, np.uint8))
    assert picture.shape[:2] == (max(shown[0], 48), max(shown[1], 48))
    assert (picture[: shown[0], : shown[1]] == 7).all()
    assert (picture[shown[0] :] == 250).all()


def test_an_extreme_picture_has_a_pixel():
    assert shown_size((3, 50_000)) == (1, 480)
    assert fitted(np.zeros((3, 50_000, 3), np.uint8)).shape == (48, 480, 3)


def test_cells_stand_row_by_row_below_the_title():
    colors = (10, 40, 80, 120)
    sheet = contact_sheet("title", [cell(color) for color in colors])
    height = 36 + 2 * (360 + 3 * 18) + 3 * 14
    assert sheet.shape == (height, 14 + 3 * (480 + 14), 3)
    for number, color in enumerate(colors):
        top, left = 36 + 14 + number // 3 * (360 + 54 + 14), 14 + number % 3 * 494
        assert (sheet[top : top + 360, left : left + 480] == color).all()
        assert (sheet[top + 360 : top + 414, left : left + 480] < 200).any()
    assert (sheet[:36] < 200).any()


def test_a_row_is_as_high_as_its_highest_picture():
    sheet = contact_sheet("", [cell(9, (100, 480)), cell(9, (200, 150)), cell(9, (48, 48)), cell(9, (50, 50), ("a",))])
    assert sheet.shape[0] == 36 + (200 + 54) + (50 + 18) + 3 * 14


def test_text_that_is_too_long_is_cut_at_the_edge_of_its_cell():
    paper = contact_sheet("", [cell(250, lines=("W" * 400,)), cell(250, lines=("",))])
    assert (paper[:, 14:494] < 200).any()
    assert (paper[50:, 494:] == 250).all()
    assert (contact_sheet("W" * 900, [cell(250)])[:, -14:] == 250).all()


def test_one_picture_makes_a_sheet_of_one_and_the_most_fit_into_a_jpeg():
    assert contact_sheet("", [cell(1)]).shape[1] == 14 + 494
    rows = -(-MOST // 3)
    assert 36 + rows * (CELL[0] + 3 * 18 + 14) + 14 < 65_535
