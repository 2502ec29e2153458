"""Weight files found locally or downloaded, and verified."""

import hashlib
import http.server
import os
import threading
import time
from functools import partial

import pytest

from detector.models.backbones import find_weights
from detector.weights.find import cache_folder
from detector.weights.find import resolve as find
from detector.weights.record import Weights


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `pages`: path -> (bytes, announced length)."""

    def __init__(self, pages, seen, users, *args):
        self.pages, self.seen, self.users = pages, seen, users
        super().__init__(*args)

    def do_GET(self):
        self.seen.append(self.path)
        self.users += [self.headers["Authorization"]] * ("Authorization" in self.headers)
        if self.path not in self.pages:
            return self.send_error(404)
        data, length = self.pages[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        return self.wfile.write(data)

    def log_message(self, *args):
        pass


GOOD = b"weights" * 1000
DIGEST = hashlib.sha256(GOOD).hexdigest()


@pytest.fixture
def server():
    pages = {
        "/good.pth": (GOOD, len(GOOD)),
        "/short.pth": (GOOD[:100], len(GOOD)),
        "/page.pth": (b"<html>sign in</html>", 20),
        "/bom.pth": (b"\xef\xbb\xbf<!DOCTYPE html>", 18),
        "/comment.pth": (b"<!-- x --><html>", 16),
        "/error.pth": (b'{"error": 1}', 12),
        "/half.pth": (b"PK\x03\x04 truncated", 14),
        "/uc?export=download&id=1": (GOOD, len(GOOD)),
    }
    seen, users = [], []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, pages, seen, users))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.pages, server.url, server.seen, server.users = pages, f"http://127.0.0.1:{server.server_port}", seen, users
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def entry(*urls, sha256=""):
    return Weights(urls, sha256=sha256)


def resolve(weight, record):
    return find(weight, "mine", record, {})


def test_download_is_verified_kept_and_used_again(server):
    mine = entry(f"{server.url}/gone.pth", f"{server.url}/good.pth", sha256=DIGEST[:8])
    path = resolve("imagenet", mine)
    assert path == cache_folder() / "good.pth"
    assert path.read_bytes() == GOOD
    assert resolve("imagenet", mine) == path
    assert server.seen == ["/gone.pth", "/good.pth"]


@pytest.mark.parametrize(
    ("name", "sha256", "reason"),
    [
        ("good.pth", "00000000", "what arrived has SHA-256 .*must begin with 00000000"),
        ("page.pth", "", "what arrived is a web page"),
        ("bom.pth", "", "what arrived is a web page"),
        ("comment.pth", "", "what arrived is a web page"),
        ("error.pth", "", "what arrived is text, not a weight file"),
        ("half.pth", "", "what arrived is truncated: the end of the archive is missing"),
        ("gone.pth", "", "404"),
    ],
)
def test_bad_downloads_leave_nothing(server, name, sha256, reason):
    url = f"{server.url}/{name}"
    with pytest.raises(ValueError, match=f"(?s){reason}.*Fetch the file by hand from {url} and put it at .*{name}"):
        resolve("imagenet", entry(url, sha256=sha256))
    assert not list(cache_folder().iterdir())


def test_a_connection_that_ends_early_keeps_what_arrived(server):
    url = f"{server.url}/short.pth"
    with pytest.raises(ValueError, match=r"(?s)the connection ended after 100 of 7000 bytes\nFetch the file by hand"):
        resolve("imagenet", entry(url))
    assert [path.read_bytes() for path in cache_folder().iterdir()] == [GOOD[:100]]
    server.pages["/short.pth"] = (GOOD, len(GOOD))
    assert resolve("imagenet", entry(url)).read_bytes() == GOOD
    assert [path.name for path in cache_folder().iterdir()] == ["short.pth"]


def test_an_interrupted_download_leaves_nothing_where_nothing_arrived(server, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("detector.weights.download._copy", interrupt)
    with pytest.raises(KeyboardInterrupt):
        resolve("imagenet", entry(f"{server.url}/good.pth"))
    assert not list(cache_folder().iterdir())


def test_what_a_killed_download_left_is_removed(server):
    mine = entry(f"{server.url}/good.pth")
    names = (f"good.pth.{'1' * 32}", f"bad.pth.{'1' * 32}", f"good.pth.{'2' * 32}", f"good.pth.{'1' * 12}")
    old, other, running, mirror = (cache_folder() / f"{name}.part" for name in names)
    for path in (old, other, running, mirror):
        path.write_bytes(GOOD[:10])
    for path in (old, other, mirror):
        os.utime(path, (time.time() - 100, time.time() - 100))
    resolve("imagenet", mine)
    assert sorted(cache_folder().iterdir()) == sorted([other, cache_folder() / "good.pth", running, mirror])


def test_addresses_are_known_in_capitals(server, tmp_path):
    (tmp_path / "own.pth").write_bytes(GOOD)
    assert resolve((tmp_path / "own.pth").as_uri().replace("file", "FILE"), entry()) == tmp_path / "own.pth"
    path = resolve(f"{server.url}/good.pth", entry())
    assert resolve(f"{server.url.replace('http', 'HTTP')}/good.pth", entry()) == path
    assert server.seen == ["/good.pth"]


def test_credentials_reach_the_server_and_no_message(server, caplog, monkeypatch, tmp_path):
    def refuse(url, *args, **options):
        raise OSError(f"cannot open {url}")

    caplog.set_level("INFO")
    bare = server.url.removeprefix("http://")
    address = f"http://me:secret%21@{bare}/good.pth?token=hidden"
    server.pages["/good.pth?token=hidden"] = (GOOD, len(GOOD))
    assert resolve(address, entry()).read_bytes() == GOOD
    assert server.users == ["Basic bWU6c2VjcmV0IQ=="]
    with pytest.raises(
        ValueError, match=f"404: .*\nFetch the file by hand from http://{bare}/gone.pth\\?.. and put"
    ) as e:
        resolve(f"http://me:secret%21@{bare}/gone.pth?token=hidden", entry())
    with pytest.raises(ValueError, match=r"http://\.\.: its host or port cannot be read") as port:
        resolve("http://me:secret%21@host:port/x.pth?token=hidden", entry())
    with pytest.raises(ValueError, match=r"http://\.\.: an address holds no spaces") as space:
        resolve("http://me:secret%21@host/a b.pth?token=hidden", entry())
    monkeypatch.setattr("detector.weights.find.download", refuse)
    with pytest.raises(ValueError, match="cannot open http") as library:
        resolve(address.replace("good", "other"), entry())
    text = caplog.text + "".join(str(one.value) for one in (e, port, space, library))
    assert "secret" not in text
    assert "hidden" not in text
    assert "me:" not in text


@pytest.mark.parametrize(
    ("name", "file", "owners"),
    [
        ("resnet50_caffe", "resnet50-0676ba61.pth", "resnet50 and sreresnet50"),
        ("resnest50_fast_2s1x64d", "resnest50-528c19ca.pth", "resnest50"),
    ],
)
def test_the_published_file_of_a_network_of_the_same_tensors_is_refused(tmp_path, name, file, owners):
    (tmp_path / file).write_bytes(GOOD)
    with pytest.raises(ValueError, match=rf"{file} is by its name the published file of {owners}, not of {name}"):
        find_weights(name, str(tmp_path / file))
    assert find_weights(owners.split()[-1], str(tmp_path / file)) == tmp_path / file


def test_address_that_hides_the_name(server):
    assert resolve("imagenet", entry(f"{server.url}/uc?export=download&id=1")).name == "mine.pth"


def test_local_file_wins_and_is_verified(server):
    mine = entry(f"{server.url}/good.pth", sha256=DIGEST)
    path = cache_folder() / "good.pth"
    path.write_bytes(GOOD)
    assert resolve("imagenet", mine) == path
    path.write_bytes(GOOD[:-1])
    with pytest.raises(ValueError, match=r"good\.pth has SHA-256 .*delete it to download it again"):
        resolve("imagenet", mine)
    assert not server.seen


def test_direct_paths_and_addresses(server, tmp_path):
    file = tmp_path / "own.pth"
    file.write_bytes(GOOD)
    assert resolve(str(file), entry()) == file
    assert resolve(file.as_uri(), entry()) == file
    assert resolve(f"{server.url}/good.pth", entry()).name == "good.pth"
    with pytest.raises(ValueError, match=r"MODEL\.WEIGHT: there is no file .*none\.pth"):
        resolve(str(tmp_path / "none.pth"), entry())
    with pytest.raises(ValueError, match=rf"MODEL\.WEIGHT: {tmp_path} is a folder: name a file of weights in it"):
        resolve(str(tmp_path), entry())
    with pytest.raises(ValueError, match=r"no weights are published for mine; set MODEL\.WEIGHT"):
        resolve("imagenet", entry())


def test_licence_is_said_when_published_weights_are_used(server, tmp_path, caplog):
    mine = Weights((f"{server.url}/good.pth",), licence="CC BY-NC-SA 4.0 (non-commercial)")
    (tmp_path / "good.pth").write_bytes(GOOD)
    (tmp_path / "own.pth").write_bytes(GOOD)
    with caplog.at_level("INFO"):
        for weight in ("imagenet", str(tmp_path / "good.pth"), str(tmp_path / "own.pth")):
            resolve(weight, mine)
    said = [record.getMessage() for record in caplog.records if "licence" in record.getMessage()]
    assert said == ["published weights of mine, licence: CC BY-NC-SA 4.0 (non-commercial)"] * 2


def test_addresses_do_not_share_files(server):
    """Two addresses of one name, one of them the record's, and two that hide the name."""
    server.pages |= {"/a/good.pth": (b"a" * 9, 9), "/b/good.pth": (b"b" * 9, 9), "/uc?export=download&id=2": (b"2", 1)}
    mine = entry(f"{server.url}/good.pth")
    paths = [resolve(f"{server.url}/{part}", mine) for part in ("a/good.pth", "b/good.pth", "good.pth")]
    assert [path.read_bytes() for path in paths] == [b"a" * 9, b"b" * 9, GOOD]
    assert resolve("imagenet", mine) == paths[2] == cache_folder() / "good.pth"
    hidden = entry(f"{server.url}/uc?export=download&id=1")
    assert resolve(f"{server.url}/uc?export=download&id=2", hidden).read_bytes() == b"2"
    assert resolve("imagenet", hidden).read_bytes() == GOOD


def test_cache_folder(monkeypatch):
    monkeypatch.delenv("DETECTOR_CACHE")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(cache_folder()) == "/home/someone/.cache/detector"
