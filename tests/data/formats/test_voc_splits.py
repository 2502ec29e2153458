"""Lists of pictures, however they write the names, and the division of a folder without them."""

import hashlib

from detector.data.formats.voc_splits import divide


def test_a_folder_without_lists_is_divided():
    names = [f"picture {i}" for i in range(100)]
    parts = divide(names)
    assert {split: len(found) for split, found in parts.items()} == {"train": 70, "val": 15, "trainval": 85, "test": 15}
    assert sorted(parts["train"] + parts["val"] + parts["test"]) == sorted(names)
    assert sorted(parts["train"] + parts["val"]) == parts["trainval"]
    assert divide(reversed(names)) == parts
    lowest = sorted(names, key=lambda name: hashlib.sha256(f"0:{name}".encode()).hexdigest())[:15]
    assert parts["test"] == sorted(lowest)
    assert parts["test"][0] == "picture 21"  # the same on every machine, for ever
    more = divide([*names, "one more"])
    assert sum(len(set(parts[split]) ^ set(more[split])) for split in ("train", "val", "test")) <= 5
    assert {split: len(found) for split, found in divide("abc").items()} == {
        "train": 1,
        "val": 1,
        "trainval": 2,
        "test": 1,
    }
    assert divide("ab") == {"train": ["a", "b"], "val": [], "trainval": ["a", "b"], "test": []}
