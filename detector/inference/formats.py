"""What predictions, and detectors, can be written as."""

from pathlib import Path, PurePath

FORMATS = ("pictures", "video", "coco", "json", "csv", "yolo", "voc")
"""The words of `detector predict --format`."""

EXPORTS = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
"""The words of `detector export --format`, and how the names of these files end."""


def exported_form(path: str | PurePath) -> str:
    """Which of `EXPORTS` a file is by its name, "" for none, and for a folder of such a name."""
    suffix = PurePath(path).suffix.lower()
    form = next((form for form, ending in EXPORTS.items() if ending == suffix), "")
    return "" if form and Path(path).is_dir() else form
