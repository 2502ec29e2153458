import numpy as np
import pytest
import torch

from detector.ops.anchors import anchor_cells, grid_anchors, legacy_anchor_cells, padded_strides


def test_cells_keep_the_area_and_have_the_ratio_of_height_to_width():
    cells = anchor_cells([32, 64], [0.5, 1, 2])
    width, height = (cells[:, 2:] - cells[:, :2]).unbind(1)
    torch.testing.assert_close(height / width, torch.tensor([0.5, 0.5, 1, 1, 2, 2]))
    torch.testing.assert_close((width * height).sqrt(), torch.tensor([32.0, 64, 32, 64, 32, 64]))
    assert (cells[:, :2] == -cells[:, 2:]).all()


@pytest.mark.parametrize(("rounded", "name"), [(True, "tv"), (False, "d2")])
def test_cells_equal_the_official_ones(golden_heads, rounded, name):
    arrays = np.load(golden_heads / "frcnn_anchors.npz")
    for i, size in enumerate((32, 64, 128, 256, 512)):
        want = torch.from_numpy(arrays[f"{name}_cell_{i}"])
        torch.testing.assert_close(anchor_cells([size], [0.5, 1, 2], rounded=rounded), want, rtol=0, atol=1e-4)


def test_corners_are_rounded_half_to_even():
    assert anchor_cells([5, 7], [1], rounded=True).tolist() == [[-2, -2, 2, 2], [-4, -4, 4, 4]]


def test_a_grid_goes_row_by_row_with_the_cells_of_a_place_together():
    cells = torch.tensor([[-1.0, -2, 1, 2], [-3, -3, 3, 3]])
    anchors = grid_anchors(cells, (2, 3), (10, 100)).reshape(2, 3, 2, 4)
    assert anchors[0, 0].tolist() == cells.tolist()
    assert anchors[1, 2, 0].tolist() == [199, 8, 201, 12]
    assert anchors[0, 1, 1].tolist() == [97, -3, 103, 3]


def test_legacy_cells_equal_the_official_ones_up_to_the_end_of_their_last_pixel(golden_heads):
    arrays = np.load(golden_heads / "frcnn_anchors.npz")
    for i, size in enumerate((32, 64, 128, 256, 512)):
        want = torch.from_numpy(arrays[f"mrb_cell_{i}"]) + torch.tensor([0, 0, 1, 1])
        torch.testing.assert_close(legacy_anchor_cells([size], [0.5, 1, 2], 4 * 2**i), want, rtol=0, atol=1e-4)


def test_padded_strides_by_hand():
    assert padded_strides([(60, 80), (30, 40), (15, 20), (8, 10), (4, 5)], 8) == [
        (8, 8), (16, 16), (32, 32), (60, 64), (120, 128)
    ]  # fmt: skip
