"""The version, which setup.py reads without importing anything."""

__version__ = "0.1.0"
