"""Downloads from servers that stall, trickle, flood, end early, go on, or hold another file by now."""

import hashlib
import http.server
import os
import threading
import time
from contextlib import contextmanager

import pytest

from detector.errors import UserError
from detector.weights import download as module
from detector.weights.download import download, part_of

DATA = bytes(range(256)) * 40
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
QUICK = 0.25


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as `server.answer` does; notes the ranges that are asked for."""

    def do_GET(self):
        self.server.asked.append((self.headers["Range"], self.headers["If-Range"]))
        try:
            self.server.answer(self)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def say(self, code=200, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def wait(self):
        self.wfile.flush()
        self.server.over.wait(5)

    def log_message(self, *args):
        pass


@contextmanager
def serving(answer):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answer, server.asked, server.over = answer, [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}/w.bin"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def whole(path):
    return "" if path.read_bytes() == DATA else "is not what it should be"


def fetch(server, folder, **options):
    started = time.monotonic()
    try:
        download(server.url, folder / "w.bin", whole, **{"timeout": QUICK, **options})
    finally:
        assert time.monotonic() - started < 3
    assert os.listdir(folder) == ["w.bin"]
    return (folder / "w.bin").read_bytes()


def rest(handler):
    """A server that knows ranges."""
    asked = handler.headers["Range"]
    if not asked:
        return send(handler)
    first = int(asked.removeprefix("bytes=").removesuffix("-"))
    handler.say(206, Content_Length=len(DATA) - first, Content_Range=f"bytes {first}-{len(DATA) - 1}/{len(DATA)}")
    return handler.wfile.write(DATA[first:])


def send(handler, number=None, **headers):
    handler.say(Content_Length=len(DATA), **headers)
    handler.wfile.write(DATA[:number])


def stall(handler):
    send(handler, 3000, Last_Modified=DATE)
    handler.wait()


def trickle(handler):
    send(handler, 3000, Last_Modified=DATE)
    for byte in DATA[3000:]:
        handler.wfile.write(bytes([byte]))
        if handler.server.over.wait(0.02):
            break


def trickle_head(handler):
    for letter in b"HTTP/1.1 200 OK\r\n" + b"X-Long: 1\r\n" * 1000:
        handler.wfile.write(bytes([letter]))
        if handler.server.over.wait(0.02):
            break


@pytest.mark.parametrize(
    ("answer", "problem", "kept"),
    [
        (stall, r"no byte arrived in 0\.25 s, after 3000 of them", 3000),
        (trickle, r"it stalls: \d+ bytes in 0\.25 s, after 3\d+ before", None),
        (lambda handler: send(handler, 5000), "the connection ended after 5000 of 10240 bytes", 5000),
    ],
)
def test_what_arrived_before_the_end_is_kept(tmp_path, answer, problem, kept):
    with serving(answer) as server:
        with pytest.raises(UserError, match=problem):
            fetch(server, tmp_path)
        part = part_of(server.url, tmp_path / "w.bin")
        assert os.listdir(tmp_path) == [part.name]
        assert DATA.startswith(part.read_bytes())
        assert part.stat().st_size == kept or (kept is None and part.stat().st_size >= 3000)


@pytest.mark.parametrize("answer", [trickle_head, lambda handler: handler.wait()])
def test_an_answer_that_does_not_begin_ends(tmp_path, answer):
    with serving(answer) as server, pytest.raises(OSError, match=r"no answer in 0\.25 s|timed out"):
        fetch(server, tmp_path)
    assert not os.listdir(tmp_path)


def flood(handler):
    handler.say()
    for _ in range(1000):
        handler.wfile.write(bytes(1000))


def test_a_flood_is_stopped_and_removed(tmp_path):
    with serving(flood) as server, pytest.raises(UserError, match="more than 20000 bytes arrive; is it another file"):
        fetch(server, tmp_path, most=20000)
    assert not os.listdir(tmp_path)


def test_no_more_is_taken_than_was_declared(tmp_path):
    def more(handler):
        send(handler)
        handler.wfile.write(b"and more")

    with serving(more) as server:
        assert fetch(server, tmp_path) == DATA


@pytest.mark.parametrize(
    ("length", "problem"),
    [
        ("20001", "the server declares 20001 bytes; at most 20000 are fetched"),
        ("many", "the server declares a length of 'many'"),
        ("-1", "the server declares a length of '-1'"),
    ],
)
def test_lengths_that_cannot_be_are_refused(tmp_path, length, problem):
    with serving(lambda handler: handler.say(Content_Length=length)) as server:
        with pytest.raises(UserError, match=problem):
            fetch(server, tmp_path, most=20000)
    assert not os.listdir(tmp_path)


def test_a_file_that_the_disk_has_no_room_for_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: module.shutil._ntuple_diskusage(9, 9, 5000))
    with serving(send) as server, pytest.raises(UserError, match="it has 10240 bytes more, and 5000 are free in"):
        fetch(server, tmp_path)


def test_a_second_try_asks_for_the_rest_of_the_same_file(tmp_path):
    with serving(stall) as server:
        with pytest.raises(UserError, match="no byte"):
            fetch(server, tmp_path)
        server.answer = rest
        assert fetch(server, tmp_path) == DATA
        assert server.asked == [(None, None), ("bytes=3000-", DATE)]


def test_a_second_try_begins_anew_where_nothing_says_that_the_file_is_the_same(tmp_path):
    with serving(lambda handler: send(handler, 3000)) as server:
        for verified in (False, True):
            with pytest.raises(UserError, match="ended after 3000"):
                fetch(server, tmp_path)
            server.answer, before = rest, server.answer
            assert fetch(server, tmp_path, verified=verified) == DATA
            (tmp_path / "w.bin").unlink()
            server.answer = before
        assert [asked for asked, _ in server.asked] == [None, None, None, "bytes=3000-"]


def test_a_server_that_knows_no_ranges_sends_all_again(tmp_path):
    with serving(stall) as server:
        with pytest.raises(UserError, match="no byte"):
            fetch(server, tmp_path)
        server.answer = send
        assert fetch(server, tmp_path) == DATA


def test_a_beginning_of_another_file_is_thrown_away(tmp_path):
    with serving(rest) as server:
        part_of(server.url, tmp_path / "w.bin").write_bytes(b"other" * 100)
        assert fetch(server, tmp_path) == DATA
        assert [asked for asked, _ in server.asked] == ["bytes=500-", None]


def test_another_part_than_was_asked_for_is_refused(tmp_path):
    def wrong(handler):
        handler.say(206, Content_Length=10, Content_Range=f"bytes 1-10/{len(DATA)}")
        handler.wfile.write(DATA[1:11])

    with serving(wrong) as server:
        part_of(server.url, tmp_path / "w.bin").write_bytes(DATA[:500])
        with pytest.raises(UserError, match="sends another part of the file than was asked for"):
            fetch(server, tmp_path)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("total", [len(DATA), 77])
def test_a_part_that_is_whole_is_taken_if_the_server_agrees(tmp_path, total):
    def nothing_left(handler):
        handler.say(416, Content_Range=f"bytes */{total}", Content_Length=0) if handler.headers["Range"] else send(
            handler
        )

    with serving(nothing_left) as server:
        part_of(server.url, tmp_path / "w.bin").write_bytes(DATA)
        assert fetch(server, tmp_path) == DATA
        assert len(server.asked) == (1 if total == len(DATA) else 2)


def test_two_processes_do_not_share_a_part(tmp_path):
    with serving(rest) as server:
        part = part_of(server.url, tmp_path / "w.bin")
        part.write_bytes(DATA[:500])
        held = module._hold(part)  # by a lock of another file description, as another process has it
        assert held is not None
        assert module._hold(part) is None
        download(server.url, tmp_path / "w.bin", whole, timeout=QUICK)
        assert (tmp_path / "w.bin").read_bytes() == DATA
        assert part.read_bytes() == DATA[:500]
        assert server.asked == [(None, None)]
        held.close()


def test_a_part_that_became_the_file_while_waiting_is_not_written_to(tmp_path, monkeypatch):
    part = tmp_path / "part"
    part.write_bytes(DATA)

    def renamed_by_its_owner(file):
        part.rename(tmp_path / "w.bin")

    monkeypatch.setattr(module, "_lock", renamed_by_its_owner)
    assert module._hold(part) is None
    assert (tmp_path / "w.bin").read_bytes() == DATA


def test_a_link_in_the_place_of_a_part_is_not_followed(tmp_path):
    if not hasattr(os, "O_NOFOLLOW"):
        pytest.skip("links cannot be told here")
    (tmp_path / "mine").write_bytes(b"mine")
    with serving(send) as server:
        part_of(server.url, tmp_path / "w.bin").symlink_to(tmp_path / "mine")
        with pytest.raises(OSError, match=r"symbolic links|Too many levels"):
            download(server.url, tmp_path / "w.bin", whole, timeout=QUICK)
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_the_part_of_an_address_is_its_own():
    from pathlib import Path

    one, other = (part_of(f"http://{host}/w.bin", Path("w.bin")).name for host in "ab")
    assert one == f"w.bin.{hashlib.sha256(b'http://a/w.bin').hexdigest()[:12]}.part" != other
