"""Large JSON files in pieces: the records of some lists of the outermost object, never the whole file at once."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec

from detector.data.formats.other_json import whose
from detector.errors import UserError

SIZE = 1 << 21
"""Bytes that are held at once, unless one record is larger; a few MiB stay in the processor's cache."""

_TRIES = 2  # guessed ends of a piece, before its records are walked through one by one
_BACK = 64  # ends of objects that are looked at for a guess
_MARGIN = 16  # bytes before the end of what was read, in which a number or word may be cut
_BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_KINDS = {b'"': "str", b"{": "object", b"[": "array", b"t": "bool", b"f": "bool", b"n": "null"}

_SPACE = re.compile(rb"[ \t\n\r]*")
_NAME = re.compile(rb'\{[ \t\n\r]*("(?:[^"\\]|\\.)*")')
_PLACE = re.compile(r" \(byte (\d+)\)")
_CLOSERS = {b"{": b"}", b"[": b"]"}

# Both pass over a value without building it.
_one = msgspec.json.Decoder(msgspec.Raw)
_several = msgspec.json.Decoder(list[msgspec.Raw])


class Piece(NamedTuple):
    """Some records of a list, in order.

    key: of the list; first: the place of the first record in it; records: as the first decoder that takes all of them
    returns them, None where none does; fault: what the last decoder says then; raw: then each as bytes, which are
    overwritten when the next piece is asked for.
    """

    key: str
    first: int
    records: list[Any] | None
    fault: msgspec.ValidationError | None = None
    raw: Sequence[msgspec.Raw] = ()


def read_pieces(path: Path, decoders: Mapping[str, Sequence[msgspec.json.Decoder]]) -> Iterator[Piece]:
    """The records of the lists that stand under some keys of a file's outermost object, in the file's order.

    decoders: key -> decoders of lists of records, the strictest first. All other values are passed over. A list without
    records is one piece without records.
    Raises ValueError with line, column and byte where the file is no JSON, and with the key where the value is no list,
    or the key stands twice.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            yield from _Reader(path, file).file(decoders)
    except RecursionError:
        raise UserError(f"{path}: its lists or objects are nested too deep for a file of annotations") from None


_Taken = tuple[list[Any] | None, Sequence[msgspec.Raw], msgspec.ValidationError | None]


class _EndError(Exception):
    """What was read ends within a value."""


class _AfterError(Exception):
    """Something stands behind a value. Argument: its place in what was decoded."""


class _Reader:
    """A window that moves over the file.

    data[at:end] is read and not yet passed; base + i is the place in the file of data[i]. A byte on either side of that
    is free: what a piece is taken to be is put between brackets there, and decoded as a list. If that succeeds, the end
    was guessed right, since a parser's state depends on nothing but the bytes before.
    """

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path, self.stream = path, file
        self.data = bytearray(SIZE)
        self.view = memoryview(self.data)
        self.base, self.at, self.end, self.done = -1, 1, 1, False

    # ------------------------------------------------------------------------ the walk

    def file(self, decoders: Mapping[str, Sequence[msgspec.json.Decoder]]) -> Iterator[Piece]:
        self.more()
        if self.data.startswith(_BOM, self.at):
            self.at += len(_BOM)
        if self.data.startswith(_UTF_16, self.at):
            raise UserError(f"{self.path}: its text is UTF-16; save it as UTF-8, which JSON is written in")
        opener = self.peek()
        if opener == b"{":
            yield from self.members(decoders)
        else:
            self.pass_over()  # first of all it has to be JSON
            why = whose(self.path) or f"lists stand under {', '.join(decoders)} in it"
            raise UserError(f"{self.path}: Expected `object`, got `{_KINDS.get(opener, 'number')}`; {why}")
        if self.peek():
            self.broken(self.at, "trailing characters")

    def members(self, decoders: Mapping[str, Sequence[msgspec.json.Decoder]]) -> Iterator[Piece]:
        """The pieces of an object."""
        seen = set()
        self.at += 1
        opener = self.peek()
        while opener != b"}":
            if opener != b'"':
                self.broken(self.at, "expected a key in quotes" if opener else "")
            key = str(self.value())
            if self.peek() != b":":
                self.broken(self.at, "expected ':'" if self.peek() else "")
            self.at += 1
            if key in decoders:
                if key in seen:
                    raise UserError(f"{self.path}: `{key}` stands twice in it; join the two lists, or delete one")
                seen.add(key)
                yield from self.records(key, decoders[key])
            else:
                self.pass_over()
            opener = self.peek()
            if opener == b",":
                self.at += 1
                opener = self.peek()
                if opener == b"}":
                    self.broken(self.at, "trailing comma in object")
            elif opener != b"}":
                self.broken(self.at, "expected ',' or '}'" if opener else "")
        self.at += 1

    def records(self, key: str, decoders: Sequence[msgspec.json.Decoder]) -> Iterator[Piece]:
        """The pieces of a list."""
        opener = self.peek()
        if opener != b"[":
            self.pass_over()
            remedy = {
                b"{": "; write a list of records (of a pandas table: orient='records')",
                b"n": "; write [] where there are none",
            }.get(opener, "")
            if tool := whose(self.path):
                remedy = f"; {tool}"
            what = f"Expected `array`, got `{_KINDS.get(opener, 'number')}` - at `$.{key}`"
            raise UserError(f"{self.path}: {what}{remedy}")
        self.at += 1
        if self.peek() == b"]":
            self.at += 1
            yield Piece(key, 0, [])
            return
        first = 0
        while True:
            if (opener := self.peek()) in (b"", b","):
                self.broken(self.at, "expected a value" if opener else "")
            records, raw, fault = self.piece(decoders)
            yield Piece(key, first, records, fault, raw)
            first += len(raw) if records is None else len(records)
            del records, raw
            mark = self.peek()
            if mark not in (b",", b"]"):
                self.broken(self.at, "expected ',' or ']'" if mark else "")
            self.at += 1
            if mark == b"]":
                return
            if self.peek() == b"]":
                self.broken(self.at, "trailing comma in array")

    def pass_over(self) -> None:
        """Past a value that nobody asked for, however large."""
        opener = self.peek()
        while True:
            try:
                self.at = self.after(self.at)
                return
            except _EndError:
                if self.end - self.at > SIZE // 2 and opener == b"[":
                    for _ in self.records("", ()):
                        pass
                    return
                if self.end - self.at > SIZE // 2 and opener == b"{":
                    for _ in self.members({}):
                        pass
                    return
                if not self.more():
                    self.broken(self.at, "")

    # ------------------------------------------------------------------------ values and their ends

    def peek(self) -> bytes:
        """The next byte that is no white space, b"" at the end of the file; `at` is its place."""
        while True:
            self.at = _SPACE.match(self.data, self.at, self.end).end()  # type: ignore[union-attr]
            if self.at < self.end:
                return bytes(self.data[self.at : self.at + 1])
            if not self.more():
                return b""

    def more(self) -> bool:
        """Reads on, into a larger window where most of it is one value. Returns False once the file's end was found."""
        if self.done:
            return False
        kept = self.end - self.at
        data = bytearray(2 * len(self.data)) if kept > len(self.data) // 2 else self.data
        view = memoryview(data)
        view[1 : 1 + kept] = self.view[self.at : self.end]
        self.data, self.view = data, view
        self.base, self.at, self.end = self.base + self.at - 1, 1, 1 + kept
        read = self.stream.readinto(view[self.end : len(data) - 1]) or 0
        self.end += read
        self.done = not read
        return True

    def value(self) -> object:
        """A small value, built; `at` is behind it."""
        while True:
            try:
                end = self.after(self.at)
            except _EndError:
                if not self.more():
                    self.broken(self.at, "")
                continue
            try:
                value = msgspec.json.decode(self.view[self.at : end])
            except UnicodeDecodeError as error:
                self.not_text(error, end)
            self.at = end
            return value

    def after(self, start: int) -> int:
        """The place of what follows the value at a place. Raises _EndError where it is not all in the window."""
        try:
            self.decode(_one, start, self.end)
        except _AfterError as error:
            return start + error.args[0]
        if not self.done:  # a number may go on
            raise _EndError
        return self.end

    def decode(self, decoder: msgspec.json.Decoder, start: int, end: int, guessed: bool = False) -> Any:  # noqa: ANN401
        """data[start:end], decoded. Raises _EndError, _AfterError, and ValueError where it is no JSON.

        guessed: whether a wrong end may be why it is none.
        """
        try:
            return decoder.decode(self.view[start:end])
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError as error:
            text = str(error)
            found = _PLACE.search(text)
            if found is None:
                raise _EndError from None
            place = int(found[1])
            if "trailing characters" in text:
                raise _AfterError(place - _LATE) from None
            if guessed or (not self.done and place > end - start - _MARGIN):
                raise _EndError from None
            self.broken(start + place, _PLACE.sub("", text))

    def piece(self, decoders: Sequence[msgspec.json.Decoder]) -> _Taken:
        """As many records as the window holds, decoded or raw; `at` is at the comma or bracket behind them."""
        while True:
            if self.end - self.at < len(self.data) // 2:
                self.more()
            for end in (*islice(self.guesses(), _TRIES), self.end):  # the last finds the end of the list
                with suppress(_EndError):
                    return self.try_piece(decoders, end)
            if (found := self.walk()) is not None:
                return self.try_piece(decoders, found)
            if not self.more():
                self.broken(self.at, "")

    def guesses(self) -> Iterator[int]:
        """Places of commas that probably stand between two records, the last first."""
        opener = bytes(self.data[self.at : self.at + 1])
        name = _NAME.match(self.data, self.at, min(self.end, self.at + 1024)) if opener == b"{" else None
        first = re.escape(bytes(name[1])) if name else b""
        space = _SPACE.pattern
        after = space + b"," + space + (re.escape(opener) + space + first if opener in _CLOSERS else b"")
        pattern = re.compile(after)
        closer, found = _CLOSERS.get(opener, b","), self.end
        for _ in range(_BACK):
            found = self.data.rfind(closer, self.at, found)
            if found < 0:
                return
            if pattern.match(self.data, found + (opener in _CLOSERS), self.end):
                yield self.data.index(b",", found)

    def try_piece(self, decoders: Sequence[msgspec.json.Decoder], guess: int) -> _Taken:
        """data[at:guess] as a list of records, or what of it belongs to the list. Raises _EndError for a bad guess."""
        free, self.data[self.at - 1], self.data[guess] = self.data[guess], ord("["), ord("]")
        end = guess
        try:
            try:
                taken = self.taken(decoders, guess)
            except _AfterError as error:  # the list ends before
                end = self.data.rindex(b"]", self.at, self.at - 1 + error.args[0])
                taken = self.taken(decoders, end)
        finally:
            self.data[guess] = free
        if end == self.end and not self.done and self.data[end - 1 : end].isalnum():  # a number may go on
            raise _EndError
        self.at = end
        return taken

    def taken(self, decoders: Sequence[msgspec.json.Decoder], end: int) -> _Taken:
        start, fault = self.at - 1, None
        try:
            for decoder in decoders:
                try:
                    return self.decode(decoder, start, end + 1, guessed=True), (), None
                except msgspec.ValidationError as error:  # perhaps of half a record
                    fault = error
            raw = self.decode(_several, start, end + 1, guessed=True)
            if decoders:
                self.data[start:end].decode()  # which has not been looked at
        except UnicodeDecodeError as error:
            self.not_text(error, end)
        return None, raw, fault

    def walk(self) -> int | None:
        """The place of the comma behind the last record that is whole, or of the bracket; None where none is whole."""
        start, found = self.at, None
        while True:
            try:
                place = self.after(start)
            except _EndError:
                return found
            mark = self.data[place : place + 1] if place < self.end else b""
            if mark == b"]":
                return place
            if mark != b",":
                self.broken(place, "expected ',' or ']'" if mark else "")
            start, found = place + 1, place

    # ------------------------------------------------------------------------ what is no JSON

    def broken(self, place: int, reason: str) -> NoReturn:
        """Raises the error of a place in the window; reason: "" for a file that ends too soon."""
        lines = whose(self.path) if reason.startswith("trailing") else ""
        position = self.base + place if reason else self.path.stat().st_size
        line, column = _line(self.path, position)
        raise UserError(
            f"{self.path}: not a JSON file: line {line}, column {column} (byte {position}): "
            f"{reason or 'Input data was truncated'}; "
            + (lines or "mend that place or write the file anew (NaN and Infinity are no JSON)")
        ) from None

    def not_text(self, error: UnicodeDecodeError, end: int) -> NoReturn:
        try:
            self.data[self.at : end].decode()
        except UnicodeDecodeError as exact:
            self.broken(self.at + exact.start, str(error))
        raise error  # it is none of what was read


def _line(path: Path, position: int) -> tuple[int, int]:
    """Line and column of a byte, counted from 1."""
    line, column, left = 1, 1, position
    with open(path, "rb") as file:
        while left and (data := file.read(min(left, 1 << 20))):
            left -= len(data)
            line += data.count(b"\n")
            newline = data.rfind(b"\n")
            column = len(data) - newline if newline >= 0 else column + len(data)
    return line, column


def _late() -> int:
    """How far behind its place what follows a value is reported."""
    try:
        _one.decode(b"0,")
    except msgspec.DecodeError as error:
        return int(_PLACE.search(str(error))[1]) - 1  # type: ignore[index]
    raise AssertionError("msgspec takes what is no JSON")


_LATE = _late()
