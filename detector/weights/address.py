"""Addresses of files: what is one, and how it is shown without what only its owner may know."""

import re
from base64 import b64encode
from urllib.parse import unquote, urlsplit

from detector.errors import UserError

SCHEMES = ("http://", "https://", "file://")


def is_address(text: str) -> bool:
    """Whether a text is an address and no path; capitals do not matter."""
    return text.lower().startswith(SCHEMES)


def normal(address: str) -> str:
    """The address with its scheme in small letters. Raises ValueError when it cannot be one, without showing it."""
    scheme, _, rest = address.partition("://")
    if re.search(r"[\x00-\x20\x7f]", rest):
        raise UserError(f"{scheme}://..: an address holds no spaces or control characters; write %20 for a space")
    try:
        urlsplit(address).port  # noqa: B018 - raises for what is no number
    except ValueError:
        raise UserError(f"{scheme}://..: its host or port cannot be read; write https://HOST/PATH") from None
    return f"{scheme.lower()}://{rest}"


def split_user(address: str) -> tuple[str, str]:
    """The address without "USER:PASSWORD@", and the header that says the same, "" where there is none."""
    host = urlsplit(address).netloc
    user, at, bare = host.rpartition("@")
    if not at:
        return address, ""
    return address.replace(host, bare, 1), "Basic " + b64encode(unquote(user).encode()).decode()


def shown(text: str) -> str:
    """A path as it is; an address without user, password and what stands behind "?" and "#", which may be a key."""
    if not is_address(text):
        return text
    bare, query = re.match(r"([^?#]*)(.*)", text, re.S).groups()  # type: ignore[union-attr]
    scheme, _, rest = bare.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}{query[:1] and query[0] + '..'}"


def without_secrets(text: str, address: str) -> str:
    """A message of a library in which the secret parts of the address are left out."""
    for secret in re.findall(r"(?<=://)[^/?#]+(?=@)|(?<=\?).+", address):
        text = text.replace(secret, "..")
    return text
