"""Packages of others that add backbones, necks, heads or data sets by registering them when they are imported."""

import shlex
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points

from detector.errors import MissingPackageError, UserError

GROUP = "detector.plugins"


_named: list[str] = []  # by the command line, of this command


def import_words() -> str:
    """The flags `--import NAME` of this command, with a space before each, for a command that is to be typed next."""
    return "".join(f" --import {shlex.quote(name)}" for name in _named)


def load_plugins(imports: Sequence[str] = ()) -> list[str]:
    """Import every installed plugin and the modules named on the command line; returns their names in that order.

    An installed package is a plugin when its metadata has an entry point of the group "detector.plugins" that names a
    module. imports: modules that Python finds (installed, or in a folder of PYTHONPATH). Only the user who starts the
    program may name them: importing runs code, so names from config files and checkpoints must never come here.
    May be called again; a module runs once. Raises MissingPackageError for a module that is not there, and ImportError,
    caused by the plugin's own, where its code fails; both name the plugin.
    """
    loaded: list[str] = []
    _named[:] = dict.fromkeys(imports)
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        if entry.name not in loaded:
            _load(f"plugin {entry.name!r} ({entry.value})", entry.load)
            loaded.append(entry.name)
    for name in dict.fromkeys(imports):
        if not name:
            raise UserError("--import is empty: name a Python package, or leave it out")
        _load(f"--import {name}", partial(import_module, name))
        loaded.append(name)
    return loaded


def _load(title: str, load: Callable[[], object]) -> None:
    # A plugin is foreign code and may fail in any way; all of them need the name of the plugin.
    try:
        load()
    except ModuleNotFoundError as error:
        remedy = "install it or add its folder to PYTHONPATH"
        raise MissingPackageError(f"{title}: {type(error).__name__}: {error}; {remedy}") from error
    except UserError:
        raise
    except Exception as error:
        raise ImportError(f"{title}: {type(error).__name__}: {error}") from error
