"""A training framework for object detection: residual-variant backbones under FCOS and other heads."""

from importlib import import_module
from typing import TYPE_CHECKING

from detector.version import __version__

if TYPE_CHECKING:
    from detector.config import load_config
    from detector.inference.predictor import Predictor
    from detector.inference.results import Result
    from detector.models.backbones import list_backbones
    from detector.models.build import build_detector
    from detector.tasks.predict import load
    from detector.tasks.scripts import evaluate, train

__all__ = [
    "Predictor",
    "Result",
    "__version__",
    "build_detector",
    "evaluate",
    "list_backbones",
    "load",
    "load_config",
    "train",
]

_HOMES = {
    "Predictor": ("detector.inference.predictor", "Predictor"),
    "Result": ("detector.inference.results", "Result"),
    "build_detector": ("detector.models.build", "build_detector"),
    "evaluate": ("detector.tasks.scripts", "evaluate"),
    "list_backbones": ("detector.models.backbones", "list_backbones"),
    "load": ("detector.tasks.predict", "load"),
    "load_config": ("detector.config", "load_config"),
    "train": ("detector.tasks.scripts", "train"),
}
"""Public name -> module and name there; imported when it is first asked for, as torch takes seconds."""


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


if not TYPE_CHECKING:  # a type checker would take it for leave to ask for any name

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, attribute = _HOMES[name]
        value = globals()[name] = getattr(import_module(module), attribute)
        return value
