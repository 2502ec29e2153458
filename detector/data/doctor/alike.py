"""Pictures that look alike, found without comparing each with each."""

from collections.abc import Iterator

import numpy as np

MAX_DISTANCE = 5
"""Bits of 64 in which the hashes of two pictures that look alike may differ."""

MIN_CORRELATION = 0.98
"""Of their small grey pictures, whatever their brightness and contrast."""

MIN_CONTRAST = 3.0
"""Standard deviation, grey levels, below which a picture shows too little to be told from others."""

_BANDS = MAX_DISTANCE + 1  # hashes that differ in so many bits are equal in one band at least
_BLOCK = 1 << 20  # pictures, or pairs of them, that are compared at once


def alike(hashes: np.ndarray, thumbs: np.ndarray) -> np.ndarray:
    """[P, 2] int64: the pairs (first < second) of pictures that look alike, sorted.

    hashes [N] uint64 and thumbs [N, pixels] uint8, as `seen.fingerprint` makes them. A pair looks alike when the hashes
    differ in at most MAX_DISTANCE bits and the thumbs correlate by MIN_CORRELATION; pictures of one grey are none.
    """
    blocks = range(0, len(thumbs), _BLOCK >> 8)
    spread = [thumbs[i : i + (_BLOCK >> 8)].std(1, dtype=np.float32) for i in blocks]
    rows = np.flatnonzero(np.concatenate([*spread, np.empty(0, np.float32)]) >= MIN_CONTRAST)
    some = hashes[rows]
    found = [np.empty((0, 2), np.int64)]
    for band in range(_BANDS):
        for pairs in _equal(_band(some, band)):
            near = pairs[_distance(some[pairs[:, 0]], some[pairs[:, 1]]) <= MAX_DISTANCE]
            found.append(near[_correlation(thumbs[rows[near[:, 0]]], thumbs[rows[near[:, 1]]]) >= MIN_CORRELATION])
    return rows[np.unique(np.concatenate(found), axis=0)].reshape(-1, 2)


def _band(hashes: np.ndarray, band: int) -> np.ndarray:
    """Every so many-th bit of hashes: bars at an edge, equal in all pictures, then take a share of each band only."""
    value = np.zeros_like(hashes)
    for bit in range(band, 64, _BANDS):
        value = (value << np.uint64(1)) | ((hashes >> np.uint64(bit)) & np.uint64(1))
    return value


def _equal(values: np.ndarray) -> Iterator[np.ndarray]:
    """All pairs (first < second) of places [P, 2] with equal values, in blocks."""
    order = np.argsort(values, kind="stable")
    values = values[order]
    left = np.arange(len(values))  # places in `order` that may still have an equal `step` places on
    step = 1
    while True:
        left = left[left < len(values) - step]
        left = left[values[left] == values[left + step]]
        if not len(left):
            return
        for i in range(0, len(left), _BLOCK):
            block = left[i : i + _BLOCK]
            yield np.stack([order[block], order[block + step]], 1)  # stable: the first is before the second
        step += 1


def _distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The number of bits in which numbers differ; uint64."""
    bits = one ^ other
    for shift, mask in ((1, 0x5555555555555555), (2, 0x3333333333333333), (4, 0x0F0F0F0F0F0F0F0F)):
        bits = (bits & np.uint64(mask)) + ((bits >> np.uint64(shift)) & np.uint64(mask))
    return (bits * np.uint64(0x0101010101010101)) >> np.uint64(56)


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[P] float: of the rows of two arrays [P, pixels] uint8."""
    parts = [np.empty(0, np.float32)]
    for i in range(0, len(one), _BLOCK >> 8):
        a, b = (x[i : i + (_BLOCK >> 8)].astype(np.float32) for x in (one, other))
        a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
        parts.append((a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1)))
    return np.concatenate(parts)
