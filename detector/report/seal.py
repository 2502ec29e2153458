"""A seal below a text that was made: it tells whether anybody has changed the text since, and whose it is."""

import hashlib
import re
from typing import NamedTuple
from urllib.parse import quote, unquote

_SEAL = re.compile(r"\n<!-- detector card of (?P<run>\S+), unchanged while sha256 of all above is (?P<sum>\w+) -->")


class Seal(NamedTuple):
    """run: the name of that whose text it is; whole: whether the text above is as it was made."""

    run: str
    whole: bool


def sealed(text: str, run: str) -> str:
    """The text with a seal below it, a comment of HTML and Markdown that no page shows. run: a name of one line."""
    text = text.rstrip() + "\n"
    return f"{text}\n<!-- detector card of {_quoted(run)}, unchanged while sha256 of all above is {_sum(text)} -->\n"


def seal_of(data: bytes) -> Seal | None:
    """The seal of a file's content, None without one. Ends of lines may be those of another system."""
    text = data.decode("utf-8", errors="replace").replace("\r\n", "\n").rstrip()
    found = next(iter([*_SEAL.finditer(text)][-1:]), None)
    if found is None:
        return None
    last = found.end() == len(text)  # words below it are a change as well
    return Seal(unquote(found["run"]), last and _sum(text[: found.start()]) == found["sum"])


def _quoted(run: str) -> str:
    return quote(run).replace("--", "%2D%2D")  # which ends a comment for some readers


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
