"""Name -> builder tables that refuse duplicates and suggest near names."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import NoReturn, TypeVar

from detector.errors import UnknownNameError, UserError

T = TypeVar("T")

SHORT = 10  # names that a message lists; of more it says how to list them


class Registry(dict[str, T]):
    """A dict of named parts. kind ("backbone", "neck", "head", "dataset") is the word used in messages.

    verb: of the command that lists all names, `detector VERB`; "" for none.
    Raises ValueError when a name is registered twice, KeyError with the nearest names when one is unknown.
    """

    def __init__(self, kind: str, verb: str = "") -> None:
        super().__init__()
        self.kind, self.verb = kind, verb

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files a builder under `name`."""

        def add(item: T) -> T:
            if name in self:
                raise UserError(f"{self.kind} {name!r} is registered twice")
            return self.setdefault(name, item)

        return add

    def __missing__(self, name: str) -> NoReturn:
        near = ", ".join(get_close_matches(str(name), self)) or "none"
        short = not self.verb or len(self) <= SHORT
        others = f"all: {', '.join(sorted(self))}" if short else f"`detector {self.verb}` lists all {len(self)}"
        raise UnknownNameError(f"unknown {self.kind} {name!r}; close: {near}; {others}")
