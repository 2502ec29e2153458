"""Errors that stop a program on purpose: what its user can do something about, in one message."""

import reprlib

_LONGEST = 200  # characters of a value in a message


class _Short(reprlib.Repr):
    """What stands in each other, perhaps many times over, in a few levels; and integers that Python does not print."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 20
        self.maxstring = self.maxother = _LONGEST

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() < 1000 else f"an integer of {x.bit_length()} bits"


def cut(value: object) -> str:
    """A value as messages show it, however long, deep or large it is."""
    text = repr(value) if isinstance(value, str) else _Short().repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}.. ({len(text)} characters)"


class UserError(ValueError):
    """A person's mistake, or the state of their machine; the message names file, record or key, and the remedy.

    The commands print it as one line. Whatever else is raised is a bug, ours or a plugin's, and keeps its traceback.
    at_the_beginning: whether it came before the first step.
    """

    at_the_beginning = False

    def __str__(self) -> str:
        """The message alone, whatever a built-in base would make of it."""
        return str(self.args[0]) if self.args else ""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that is named and not there."""


class MissingDataError(MissingFileError):
    """A data set that is not where its name or its paths say."""


class FileAccessError(UserError, OSError):
    """A file or folder that cannot be read or written."""


class UnknownNameError(UserError, KeyError):
    """A name that no registry or table has."""


class MissingPackageError(UserError, ImportError):
    """A Python package that is needed and cannot be imported."""


class InUseError(UserError):
    """A folder that another process works in."""


class LostProcessError(UserError):
    """Another of the processes that train or evaluate together has ended; it says itself why."""


class NonFiniteError(UserError, RuntimeError):
    """A loss or gradient is infinite or no number; the message names it, the images and the learning rate."""
