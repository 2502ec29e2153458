"""The version, which setup.py reads without importing anything."""

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Of this package and of what decides about its numbers, by name."""
    import platform

    import torch
    import torchvision

    return {
        "detector": __version__,
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "python": platform.python_version(),
    }
