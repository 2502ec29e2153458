"""Weight files: find or download, and verify."""

import codecs
import glob
import hashlib
import http.client
import logging
import os
import time
import urllib.request
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit
from uuid import uuid4

from tqdm import tqdm

from detector.errors import UserError
from detector.files import user_path
from detector.weights.record import Weights

CHUNK = 1 << 20
HEAD = 1 << 12  # bytes in which a file shows what it is
TIMEOUT = 30  # seconds without a byte
SCHEMES = ("http://", "https://", "file://")
ZIP = b"PK\x03\x04"

logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where downloads are kept: $DETECTOR_CACHE, else ~/.cache/detector."""
    return user_path(os.environ.get("DETECTOR_CACHE") or "~/.cache/detector")


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
    if weight.startswith("file://"):
        weight = urllib.request.url2pathname(urlsplit(weight).path)
    if weight.startswith(SCHEMES):
        # A folder for each address: other files of the same name, and the published one, stay what they are.
        folder = cache_folder() / hashlib.sha256(weight.encode()).hexdigest()[:12]
        return _fetch((weight,), "", network, folder)
    path = user_path(weight)
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
            f"{weight} is by its name the published file of {' and '.join(owners)}, not of {network}: set "
            "MODEL.BACKBONE.NAME to that network, or rename the file if it is another one"
        )


def _fetch(urls: Sequence[str], sha256: str, fallback: str, folder: Path) -> Path:
    targets = [folder / _file_name(url, fallback) for url in urls]
    for path in targets:
        if path.is_file():
            if reason := fault(path, sha256):
                raise UserError(f"{path} {reason}; delete it to download it again, or put the right file there")
            return path
    faults = []
    for url, path in zip(urls, targets, strict=True):
        try:
            _download(url, path, sha256)
        except (OSError, http.client.HTTPException, ValueError) as error:
            faults.append(f"  {url}: {error}")
        else:
            return path
    raise UserError(
        "download failed:\n"
        + "\n".join(faults)
        + f"\nFetch the file by hand from {urls[0]} and put it at {targets[0]}, or set MODEL.WEIGHT to its path."
    )


def _file_name(url: str, fallback: str) -> str:
    """The name in the address; services that hide it behind a query get `fallback`."""
    name = Path(urlsplit(url).path).name
    return name if Path(name).suffix else f"{fallback}.pth"


def _download(url: str, path: Path, sha256: str) -> None:
    """Fetches into a file aside and renames it once it is whole, so that no reader ever meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    logger.info("downloading %s to %s", url, path)
    request = urllib.request.Request(url, headers={"User-Agent": "detector"})
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.part"):  # by a process that was killed
        if time.time() - left.stat().st_mtime > 2 * TIMEOUT:
            left.unlink(missing_ok=True)
    part = path.with_name(f"{path.name}.{uuid4().hex}.part")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response, part.open("wb") as file:
            _copy(response, file, int(response.headers.get("Content-Length") or 0), path.name)
        if reason := fault(part, sha256):
            raise UserError(f"what arrived {reason}")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _copy(source: BinaryIO, target: BinaryIO, size: int, name: str) -> None:
    done = 0
    with tqdm(total=size or None, unit="B", unit_scale=True, desc=name) as bar:
        while chunk := source.read(CHUNK):
            target.write(chunk)
            bar.update(len(chunk))
            done += len(chunk)
    if size and done != size:
        raise UserError(f"the connection ended after {done} of {size} bytes")


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            whole.update(chunk)
    return whole.hexdigest()


def fault(path: Path, sha256: str) -> str:
    """What is wrong with a file before it is read, or "". sha256: the digest, its beginning, or "" for no check."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        return "is empty"
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if start == b"<":
        return "is a web page, not a weight file"
    if start in (b"{", b"["):
        return "is text, not a weight file"
    if head.startswith(ZIP) and not zipfile.is_zipfile(path):
        return "is truncated: the end of the archive is missing"
    if not sha256 or (found := digest(path)).startswith(sha256.lower()):
        return ""
    return f"has SHA-256 {found[:16]}.., which must begin with {sha256}"
