"""Keys of other frameworks that are not here, each with what to write now."""

from fnmatch import fnmatchcase

from detector.config import moved_detectron2, moved_maskrcnn, moved_mmdetection, moved_ultralytics
from detector.config.moved_maskrcnn import Row

_REPEAT = "DATALOADER.REPEAT_THRESHOLD shows the pictures of rare classes more often"
_AUGMENTATION = "there is none; INPUT.AUGMENTATION ssd has colours, expansion and crops"

ANYWHERE: tuple[Row, ...] = tuple(
    (f"*{spelled}*", "*", answer)
    for word, answer in (
        ("oversampl", f"{_REPEAT}; write that"),
        ("class_weight", f"losses weigh all classes alike; {_REPEAT}"),
        ("mosaic", _AUGMENTATION),
        ("mixup", _AUGMENTATION),
    )
    for spelled in (word, word.upper())
)
"""What people look for under a key of their own making."""

FRAMEWORKS: dict[str, tuple[Row, ...]] = {
    "detectron2": moved_detectron2.ROWS,
    "maskrcnn-benchmark and FCOS": moved_maskrcnn.ROWS,
    "ultralytics": moved_ultralytics.ROWS,
    "mmdetection": moved_mmdetection.ROWS,
    "any": ANYWHERE,
}
"""Rows by framework, in the order in which they are asked: what detectron2 shares with the second stands there."""

MOVED: tuple[Row, ...] = tuple(row for rows in FRAMEWORKS.values() for row in rows)


def what_to_write_now(key: str, value: object, known: bool = False) -> str | None:
    """The answer to another framework's dotted key with its value, None when there is nothing to say.

    known: the key exists here too, so that only certain values of it have an answer.
    """
    text = str(value).lower()
    for key_pattern, value_pattern, answer in MOVED:
        # The plain comparison comes first: of some hundred patterns, few are more than a key, and there are many keys.
        if (key == key_pattern or ("*" in key_pattern and fnmatchcase(key, key_pattern))) and (
            fnmatchcase(text, value_pattern) and not (known and value_pattern == "*")
        ):
            return answer
    return None


def is_answered_by_key(key: str, section: object, known: bool) -> bool:
    """Whether the keys in a section have answers of their own; else `key` has the answer.

    known: the key exists here too, where it has a value: SOLVER.AMP, a section of detectron2.
    """
    if known:
        return any(pattern.startswith(key + ".") for pattern, *_ in MOVED)
    return not any(pattern == key and fnmatchcase(str(section).lower(), value) for pattern, value, _ in MOVED)
