"""Pictures that look alike, against a comparison of each with each."""

import numpy as np
import pytest

from detector.data.doctor import alike as module
from detector.data.doctor.alike import MAX_DISTANCE, alike
from detector.data.doctor.seen import fingerprint


def bits(number, places):
    return number ^ np.uint64(sum(1 << place for place in places))


def some(number, seed=0):
    rng = np.random.default_rng(seed)
    thumbs = rng.integers(0, 256, (number, 256), dtype=np.uint8)
    return rng.integers(0, 2**64, number, dtype=np.uint64), thumbs


@pytest.mark.parametrize("block", [1 << 20, 512])
def test_pairs_are_those_of_a_comparison_of_each_with_each(monkeypatch, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    rng = np.random.default_rng(1)
    hashes, thumbs = some(60)
    for i in range(20, 60):  # copies of the first 20, with up to 8 other bits
        hashes[i] = bits(hashes[i % 20], rng.choice(64, rng.integers(9), replace=False).tolist())
        thumbs[i] = thumbs[i % 20]
    wanted = [
        [i, j]
        for i in range(60)
        for j in range(i + 1, 60)
        if bin(int(hashes[i]) ^ int(hashes[j])).count("1") <= MAX_DISTANCE and (thumbs[i] == thumbs[j]).all()
    ]
    assert len(wanted) > 20
    assert alike(hashes, thumbs).tolist() == wanted


@pytest.mark.parametrize("places", [(0, 1, 2, 3, 4), (0, 13, 26, 39, 52), (59, 60, 61, 62, 63), ()])
def test_any_five_bits_may_differ_and_no_six(places):
    hashes, thumbs = some(2)
    thumbs[1] = thumbs[0]
    hashes[1] = bits(hashes[0], places)
    assert alike(hashes, thumbs).tolist() == [[0, 1]]
    hashes[1] = bits(hashes[0], (7, 8, 9, 17, 33, 47))
    assert alike(hashes, thumbs).tolist() == []


def test_equal_hashes_alone_are_not_enough():
    hashes, thumbs = some(2)
    hashes[1] = hashes[0]
    assert alike(hashes, thumbs).tolist() == []


def test_brightness_and_contrast_do_not_matter_and_one_grey_says_nothing():
    hashes, thumbs = some(3)
    hashes[:] = hashes[0]
    thumbs[0] //= 2
    thumbs[1] = thumbs[0] + 60
    thumbs[2] = 200
    assert alike(hashes, thumbs).tolist() == [[0, 1]]
    thumbs[1:] = 200 + thumbs[0] % 7  # noise of a few levels
    assert alike(hashes, thumbs).tolist() == []
    assert alike(hashes[:0], thumbs[:0]).shape == (0, 2)


def test_the_hash_compares_neighbours_of_rows():
    rising = np.tile(np.arange(90, dtype=np.uint8), (80, 1))
    assert int(fingerprint(rising)[0]) == 2**64 - 1
    assert int(fingerprint(rising[:, ::-1].copy())[0]) == 0
    half = rising.copy()
    half[40:] = half[40:, ::-1]
    assert bin(int(fingerprint(half)[0])).count("1") == 32
    assert fingerprint(rising)[1].shape == (256,)


def test_bars_above_and_below_leave_no_band_that_is_equal_in_all():
    """Else each picture would be compared with each."""
    barred = some(500)[0] & np.uint64(0x0000FFFFFFFF0000)
    for band in range(MAX_DISTANCE + 1):
        assert len(np.unique(module._band(barred, band))) > 20
