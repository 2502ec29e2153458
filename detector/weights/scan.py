"""A look through the pickle of a torch file before torch reads it: for tuples in tuples that would never be hashed."""

import io
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

MAX_TUPLE = 10_000
"""Values in a tuple, counted as often as they stand in it; those of torch's own files have a dozen."""


class LargeTupleError(ValueError):
    """A tuple of a pickle stands for more values than are ever hashed."""


def check_tuples(data: bytes) -> None:
    """Raises LargeTupleError for a pickle with a tuple that stands for more than MAX_TUPLE values.

    A tuple may hold another one twice, which holds a third one twice: a hundred bytes for a number of values that no
    dict with such a key ends to count. Nothing is built or called; what else is wrong with it, torch will say.
    """
    try:
        _Scanner(io.BytesIO(data), encoding="latin1").load()
    except LargeTupleError:
        raise
    except Exception:  # of a pickle that torch refuses for the same reason
        return


class _Thing:
    """Whatever a name or an object in the pickle is."""

    __slots__ = ()

    def __call__(self, *_: object) -> "_Thing":
        return self

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        pass


class _Scanner(pickle._Unpickler):  # type: ignore[name-defined]
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]

    def __init__(self, file: io.BytesIO, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self.extents: dict[int, int] = {}
        self.kept: list[tuple[object, ...]] = []  # so that no id is given twice

    def find_class(self, module: str, name: str) -> _Thing:
        return _Thing()

    def persistent_load(self, pid: object) -> _Thing:
        return _Thing()


def _counted(load: Callable[[_Scanner], None]) -> Callable[[_Scanner], None]:
    def counted(scanner: _Scanner) -> None:
        load(scanner)
        made = scanner.stack[-1]  # type: ignore[attr-defined]
        extent = 1 + sum(scanner.extents.get(id(part), 1) for part in made)
        if extent > MAX_TUPLE:
            raise LargeTupleError(f"a tuple of more than {MAX_TUPLE} values")
        scanner.extents[id(made)] = extent
        scanner.kept.append(made)

    return counted


def _new_object(scanner: _Scanner) -> None:
    scanner.stack.pop()  # type: ignore[attr-defined]
    scanner.stack[-1] = _Thing()  # type: ignore[attr-defined]


for _code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
    _Scanner.dispatch[_code[0]] = _counted(_Scanner.dispatch[_code[0]])
_Scanner.dispatch[pickle.NEWOBJ[0]] = _new_object
