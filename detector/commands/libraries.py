"""System libraries that a Python package needs and the machine lacks."""

import re
from collections.abc import Iterator
from traceback import walk_tb

_LACKS = re.compile(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file")


def lacking_library(error: BaseException) -> str:
    """What to do about an ImportError of OpenCV that lacks a library of the system, in one line; "" for any other.

    opencv-python draws windows and so wants libGL and others, which servers and containers are without.
    """
    for one in _chain(error):
        found = _LACKS.search(str(one))
        if found and isinstance(one, ImportError) and "cv2" in _packages(one):
            return (
                f"OpenCV cannot be loaded: this machine has no {found[1]}, which opencv-python needs to open windows. "
                "Write `pip uninstall opencv-python`, then `pip install --force-reinstall opencv-python-headless`, "
                "which needs none"
            )
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _packages(error: ImportError) -> set[str]:
    """The packages in whose modules an error rose, and the one that it names."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    return {name.partition(".")[0] for name in [*modules, error.name or ""]}
