"""Packages that not everybody needs, and what to write to get them."""

from importlib import import_module
from types import ModuleType

from detector.errors import MissingPackageError

EXTRAS = {
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "export",
    "openvino": "export",
    "nncf": "int8",
    "matplotlib": "plots",
    "tensorboard": "log",
}
"""Package -> the extra of this one that brings it, as setup.py has them."""


def to_install(*extras: str) -> str:
    """What to write for extras of this package, which pip calls residet: in a clone of it, and elsewhere."""
    names = ",".join(extras)
    return f'in a clone pip install -e ".[{names}]", else pip install "residet[{names}]"'


def needed(package: str, *others: str) -> ModuleType:
    """A package of an extra. Raises one MissingPackageError that says how to get it and others, if any is missing."""
    errors: dict[str, ImportError] = {}
    for name in (package, *others):
        try:
            import_module(name)
        except ImportError as error:
            errors[name] = error
    if errors:
        are = "s {} are" if len(errors) > 1 else " {} is"
        reasons = "; ".join(dict.fromkeys(map(str, errors.values())))
        raise MissingPackageError(
            f"the Python package{are.format(', '.join(errors))} needed and cannot be imported ({reasons}): "
            f"{to_install(*dict.fromkeys(EXTRAS[name] for name in errors))}"
        ) from None
    return import_module(package)
