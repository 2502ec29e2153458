"""JSON files that other tools write, told by their keys: for messages on files that are not in COCO's format."""

import mmap
import re
from pathlib import Path

_HEAD = 1 << 16  # bytes in which the keys are looked for

_TOOLS = (
    ("CVAT's or Datumaro's own format", ("items", "categories")),
    ("Label Studio's own JSON", ("data", "annotations")),
    ("Label Studio's own JSON", ("data", "completions")),
    ("Label Studio's own JSON", ("rectanglelabels",)),
    ("CreateML's format", ("image", "coordinates")),
    ("CreateML's format", ("imagefilename", "coordinates")),
    ("labelme's own format", ("shapes", "imagePath")),
    ("labelme's own format", ("shapes", "shape_type")),
    ("VoTT's own format", ("asset", "regions")),
    ("VIA's own format", ("_via_settings",)),
    ("VIA's own format", ("filename", "regions")),
    ("Azure Custom Vision's format", ("boundingBox",)),
    ("Supervisely's own format", ("objects", "classTitle")),
    ("BDD100K's format", ("box2d",)),
)
"""Each with keys that all have to be there, "data" in a list of records; the first that fits counts."""

_OTHER_KEY = re.compile(rb'"(annotation|annots?|Annotations?|ANNOTATIONS?)"\s*:\s*\[')


def whose(path: Path) -> str:
    """What a JSON file that is not in COCO's format is, and what to do: "it is .."; "" where that is unknown."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    first, _, rest = head.partition(b"\n")
    if first.rstrip().startswith(b"{") and first.rstrip().endswith(b"}") and rest.lstrip().startswith(b"{"):
        return "it has a JSON object a line (JSON lines): export as COCO, one object with lists in it"
    listed = head.lstrip().startswith(b"[")
    for tool, keys in _TOOLS:
        if (listed or "data" not in keys) and all(re.search(rb'"%s"\s*:' % key.encode(), head) for key in keys):
            return f"it looks like {tool}: export as COCO"
    return ""


def other_key(path: Path) -> str:
    """A key of a file that is nearly COCO's `annotations`; "" where there is none."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = _OTHER_KEY.search(data)
        return found[1].decode() if found else ""
