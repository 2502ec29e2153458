import pickle

import numpy as np
import pytest

from detector.data.mapped import open_arrays, write_arrays

ARRAYS = {
    "numbers": np.arange(12, dtype=np.int64).reshape(3, 4),
    "empty": np.zeros((0, 4), np.float32),
    "text": np.array(["a", "längerer Name", ""]),
    "flags": np.array([True, False, True]),
    "strided": np.arange(20, dtype=np.float32)[::2],
    "none": np.array([], np.str_),
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "some" / "arrays.bin"
    write_arrays(path, ARRAYS, {"classes": ["ä"], "n": 3})
    return path


def test_arrays_and_values_come_back_as_they_were(file):
    found = open_arrays(file)
    assert found.values == {"classes": ["ä"], "n": 3}
    assert list(found.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].shape == array.shape
        assert np.array_equal(found.arrays[name], array)
        assert not found.arrays[name].flags.writeable


def test_a_mapped_array_has_a_place_and_others_have_none(file):
    found = open_arrays(file)
    for name in ("numbers", "text", "flags", "strided"):
        assert np.array_equal(found.array(found.place(found.arrays[name])), ARRAYS[name])
    part = found.arrays["numbers"][1:]
    assert np.array_equal(found.array(found.place(part)), ARRAYS["numbers"][1:])
    for other in (found.arrays["numbers"][:, 1], found.arrays["numbers"].copy(), ARRAYS["numbers"], np.zeros(0)):
        assert found.place(other) is None


def test_only_the_path_is_pickled_and_another_file_is_refused(file):
    found = open_arrays(file)
    data = pickle.dumps(found)
    assert len(data) < 500
    assert np.array_equal(pickle.loads(data).arrays["numbers"], ARRAYS["numbers"])
    write_arrays(file, {"numbers": np.zeros(3)}, None)
    assert np.array_equal(found.arrays["numbers"], ARRAYS["numbers"])  # what is mapped stays
    with pytest.raises(ValueError, match="was changed or deleted while it was in use"):
        pickle.loads(data)


def test_every_damaged_header_and_every_other_length_is_no_file(file, tmp_path):
    data = file.read_bytes()
    header = 8 + 32 + 8 + int.from_bytes(data[40:48], "little")
    bad = tmp_path / "bad.bin"
    for at in range(header):
        bad.write_bytes(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])
        assert open_arrays(bad) is None, at
    for length in (*range(0, header, 7), header, len(data) - 1):
        bad.write_bytes(data[:length])
        assert open_arrays(bad) is None, length
    bad.write_bytes(data + b"\0")
    assert open_arrays(bad) is None
    assert open_arrays(tmp_path) is None
    assert open_arrays(tmp_path / "missing") is None
