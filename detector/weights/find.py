"""Weight files: find or download, and verify."""

import codecs
import hashlib
import http.client
import logging
import urllib.request
import zipfile
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from detector.errors import UserError
from detector.files import cache_folder, user_path
from detector.weights.address import is_address, normal, shown, without_secrets
from detector.weights.download import CHUNK, download
from detector.weights.record import Weights

HEAD = 1 << 12  # bytes in which a file shows what it is
ZIP = b"PK\x03\x04"

logger = logging.getLogger(__name__)


def resolve(weight: str, network: str, record: Weights, published: Mapping[str, Weights]) -> Path:
    """The local file that MODEL.WEIGHT means, downloaded and verified if need be.

    weight: "imagenet" for the network's own record, or a path, or an address; published: the records of all networks
    by name. A file of the right name in the cache folder wins over a download. The licence of published weights is
    said. Raises ValueError that says what to fetch by hand, and where to put it, and for the published file of another
    network.
    """
    names = {_file_name(url, network) for url in record.urls}
    if record.licence and (weight == "imagenet" or Path(weight).name in names):
        logger.info("published weights of %s, licence: %s", network, record.licence)
    if weight == "imagenet" or weight in record.urls:
        if not record.urls:
            raise UserError(f"no weights are published for {network}; set MODEL.WEIGHT to a file, or to '' for none")
        return _fetch(record.urls, record.sha256, network, cache_folder())
    _refuse_another(weight, network, names, published)
    if is_address(weight):
        weight = normal(weight)
    if weight.startswith("file://"):
        weight = urllib.request.url2pathname(urlsplit(weight).path)
    if is_address(weight):
        # A folder for each address: other files of the same name, and the published one, stay what they are.
        folder = cache_folder() / hashlib.sha256(weight.encode()).hexdigest()[:12]
        return _fetch((weight,), "", network, folder, shown(weight))
    path = user_path(weight)
    if path.is_dir():
        raise UserError(f"MODEL.WEIGHT: {path} is a folder: name a file of weights in it")
    if not path.is_file():
        raise UserError(f"MODEL.WEIGHT: there is no file {path}; give a path, an address, 'imagenet', or '' for none")
    return path


def _refuse_another(weight: str, network: str, names: Collection[str], published: Mapping[str, Weights]) -> None:
    """Strict loading cannot tell networks apart that hold the same tensors, as stride or pooling stand elsewhere."""
    name = Path(urlsplit(weight).path).name
    owners = [
        other
        for other, record in published.items()
        if record.sha256 and any(Path(urlsplit(url).path).name == name for url in record.urls)
    ]
    if owners and name not in names:
        raise UserError(
            f"{shown(weight)} is by its name the published file of {' and '.join(owners)}, not of {network}: set "
            "MODEL.BACKBONE.NAME to that network, or rename the file if it is another one"
        )


def _fetch(urls: Sequence[str], sha256: str, fallback: str, folder: Path, said: str = "") -> Path:
    """The file of one of the addresses. said: what messages call the first one, where it is not published."""
    targets = [folder / _file_name(url, fallback) for url in urls]
    for path in targets:
        if path.is_file():
            if reason := fault(path, sha256):
                raise UserError(f"{path} {reason}; delete it to download it again, or put the right file there")
            return path
    faults = []
    for url, path in zip(urls, targets, strict=True):
        try:
            download(url, path, partial(fault, sha256=sha256), verified=bool(sha256))
        except (OSError, http.client.HTTPException, ValueError) as error:
            faults.append(f"  {said or url}: {without_secrets(str(error), url) if said else error}")
        else:
            return path
    raise UserError(
        "download failed:\n"
        + "\n".join(faults)
        + f"\nFetch the file by hand from {said or urls[0]} and put it at {targets[0]}, or set MODEL.WEIGHT to its path"
    )


def _file_name(url: str, fallback: str) -> str:
    """The name in the address; services that hide it behind a query get `fallback`."""
    name = Path(urlsplit(url).path).name
    return name if Path(name).suffix else f"{fallback}.pth"


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            whole.update(chunk)
    return whole.hexdigest()


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes begins as safetensors do: with a length that it can hold, and JSON."""
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size - 8


def _is_archive(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # of an end that says what no archive does
        return False


def fault(path: Path, sha256: str) -> str:
    """What is wrong with a file before it is read, or "". sha256: the digest, its beginning, or "" for no check."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        return "is empty"
    if is_safetensors(head, path.stat().st_size):  # whose length of header may begin like any text
        start = b""
    else:
        start = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if start == b"<":
        return "is a web page, not a weight file"
    if start in (b"{", b"["):
        return "is text, not a weight file"
    if head.startswith(ZIP) and not _is_archive(path):
        return "is truncated: the end of the archive is missing"
    if not sha256 or (found := digest(path)).startswith(sha256.lower()):
        return ""
    return f"has SHA-256 {found[:16]}.., which must begin with {sha256}"
