"""Text that comes out of files, made fit to be printed: names of classes, images and keys."""

import re
import unicodedata

_ESCAPED = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
"""Unicode categories: control and format characters, surrogates, line and paragraph separators."""
_PAIR = re.compile(r"(\w+)\|(\w+)")


def printable(text: str, keep: str = "") -> str:
    r"""The text with escapes, such as \x1b, in place of what a terminal would obey or cannot encode.

    So a name can neither colour, move nor break a line, nor turn its direction. keep: characters to leave as they are.
    """
    if text.isprintable():  # the usual case
        return text
    return "".join(_escape(c) if c not in keep and unicodedata.category(c) in _ESCAPED else c for c in text)


def encodable(text: str) -> str:
    r"""The text with escapes in place of what no encoding can hold: \xNN for a byte of a file name that is no UTF-8."""
    return re.sub("[\ud800-\udfff]", lambda found: _escape(found[0]), text)


def forms(text: str) -> tuple[str, ...]:
    """The text, and the same with accents as parts of their letters, and as signs of their own, where it has any."""
    if text.isascii():
        return (text,)
    return tuple(dict.fromkeys((text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text))))


def counted(number: object, text: str) -> str:
    """A number, None if not known, and a text that agrees with it, see `agreeing`: "1 box has no area"."""
    return f"{number} {agreeing(number, text)}"


def agreeing(number: object, text: str) -> str:
    """A text on a number of things: of its pairs of words, as box|boxes or has|have, the first is for one thing."""
    return _PAIR.sub(lambda pair: pair[1] if number == 1 else pair[2], text)


def none_of(number: int, text: str) -> str:
    """The beginning of a sentence on all things of which none is something: "none of its 3 pictures" for "its ..".

    text: as `counted` takes it, of one word: "picture|pictures".
    """
    if number == 1:
        return f"not even its one {agreeing(1, text)}"
    return f"none of its {counted(number, text) if number else agreeing(number, text)}"


def _escape(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is no UTF-8, as Python names it in file names
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape").decode() if number > 0xFF else f"\\x{number:02x}"
