"""JSON in pieces says what a decoder of the whole file says, wherever the pieces end."""

import json
import random

import msgspec
import pytest

from detector.data.formats import pieces
from detector.data.formats.pieces import _Reader, read_pieces
from detector.errors import UserError


class Record(msgspec.Struct):
    id: int


DECODERS = {key: [msgspec.json.Decoder(list[Record])] for key in ("a", "b")}
TRICKY = ['},{"id"', '"', "\\", "[", "]", "}", "{", ",", "x", "é", "\n", "😀", " ", "},"]


@pytest.fixture
def read(tmp_path, monkeypatch):
    """read(data, size): key -> records by their ids, and those that are none as they are."""

    def read(data, size=64):
        monkeypatch.setattr(pieces, "SIZE", size)
        path, found = tmp_path / "a.json", {}
        path.write_bytes(data)
        for piece in read_pieces(path, DECODERS):
            records = found.setdefault(piece.key, [])
            assert piece.first == len(records)
            if piece.records is None:
                assert piece.fault is not None
                records += [msgspec.json.decode(raw) for raw in piece.raw]
            else:
                records += [{"id": record.id} for record in piece.records]
        return found

    return read


def agree(found, tree):
    """Whether each list is found, with each record as it is, or decoded."""
    assert set(found) == set(DECODERS) & set(tree)
    for key, records in found.items():
        for one, record in zip(records, tree[key], strict=True):
            assert one == record or one == {"id": record["id"]}


def written(tree):
    for data in (json.dumps(tree), json.dumps(tree, separators=(",", ":")), json.dumps(tree, indent=1)):
        yield from (data.encode(), data.replace("\n", "\r\n").encode(), b"\xef\xbb\xbf " + data.encode() + b" \n")


RECORDS = [{"id": i, "name": "x" * (i % 7)} for i in range(40)]
NESTED = [{"attributes": [{"id": 1, "of": [{}, {}]}, {"id": 2}], "id": i} for i in range(20)]


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"a": [], "b": []},
        {"a": RECORDS, "b": RECORDS[:3]},
        {"b": RECORDS, "info": {"a": [{"id": "no"}], "b": {}}, "a": NESTED},
        {"a": [{"id": 1, "text": '},{"id":2},{"id'}, {"id": 2, "text": "\\"}] * 9},
        {"a": [{"id": 1, "counts": "x" * 5000}, {"id": 2, "counts": list(range(900))}, {"id": 3}]},
        {"huge": "y" * 5000, "n": 12345678901, "a": RECORDS},
        {"huge": {"deep": [[[i] * 30 for i in range(30)], {"a": [1] * 200}]}, "a": RECORDS},
        {"huge": [i * 100 for i in range(500)], "a": RECORDS, "rows": [["},{", 1.5], [], [None]] * 50},
        {"a": [1, 2.5, True, None, "x", [1, 2], {"id": 1}] * 10},
    ],
)
@pytest.mark.parametrize("size", [8, 64, 1 << 16])
def test_pieces_are_the_whole(read, tree, size):
    for data in written(tree):
        agree(read(data, size), tree)


def noise(rng, depth=0):
    kind = rng.randrange(7 if depth < 3 else 4)
    if kind == 0:
        return "".join(rng.choices(TRICKY, k=rng.randrange(8)))
    if kind < 4:
        return rng.choice([None, True, rng.randint(-(10**9), 10**9), rng.uniform(-9, 9), 1e-30])
    if kind < 6:
        return [noise(rng, depth + 1) for _ in range(rng.randrange(5))]
    return {"".join(rng.choices(TRICKY, k=3)): noise(rng, depth + 1) for _ in range(rng.randrange(4))}


def test_noise_is_read_or_refused_as_by_a_decoder_of_the_whole(read):
    rng, told = random.Random(3), {"read": 0, "refused": 0}
    for _ in range(400):
        keys = rng.sample(["a", "b", "c", "d"], rng.randrange(1, 5))
        tree = {}
        for key in keys:
            number = rng.randrange(rng.choice((3, 30)))
            records = [{"id": i, **{f"k{j}": noise(rng) for j in range(rng.randrange(3))}} for i in range(number)]
            tree[key] = noise(rng) if key == "d" else records
        data = bytearray(json.dumps(tree, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 1])).encode())
        for _ in range(rng.choice((0, 0, 1, 2))):
            at, length = rng.randrange(len(data)), rng.choice((1, 2, 8))
            if rng.random() < 0.5:
                del data[at : at + length]
            else:
                data[at:at] = rng.choice([b",", b"]", b"}", b"{", b"[", b'"', b"1", b" ", b":", data[at - length : at]])
        try:
            whole = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            whole = None
        found, said = {}, ""
        try:
            found = read(bytes(data), rng.choice([8, 33, 200, 1000]))
        except UserError as refused:
            said = str(refused)
        told["refused" if said else "read"] += 1
        if not said:
            assert isinstance(whole, dict)
            agree(found, whole)
        elif whole is not None:  # JSON, but of another kind
            assert "Expected `array`" in said or "stands twice" in said
    assert min(told.values()) > 100


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": [{"id": 1},]}', r"line 1, column 18 \(byte 17\)"),
        (b'{"a": [{"id": 1}, , {"id": 2}]}', r"byte 18\)"),
        (b'{"a": [{"id": 1} {"id": 2}]}', r"byte 17\).*expected ',' or '\]'"),
        (b'{"a": [{"id": 1}}', r"byte 16\).*expected ',' or '\]'"),
        (b'{"a": [],}', r"byte 9\): trailing comma in object"),
        (b'{"a": [] "b": []}', r"byte 9\): expected ',' or '}'"),
        (b'{"a" []}', r"byte 5\): expected ':'"),
        (b'{\n"a": [\r\n{"id": 1}, {"id": tru}]}', r"line 3, column 20 \(byte 29\)"),
        (b"{a: 1}", r"byte 1\): expected a key in quotes"),
        (b'{"a": []} x', r"byte 10\): trailing characters"),
        (b'{"a": [{"id": 1}', r"byte 16\): Input data was truncated"),
        (b'{"a": [{"id": 1},', r"byte 17\): Input data was truncated"),
        (b'{"a": [12', r"byte 9\): Input data was truncated"),
        (b'{"a": [{"id": 1}, {"id": "2", "y": "\xff"}]}', r"byte 36\): 'utf-8'"),
        (b'{"a": {"id": 1}}', r"got `object` - at `\$\.a`; .*orient='records'"),
        (b'{"a": null}', r"got `null` - at `\$\.a`; write \[\] where"),
        (b"[1, 2]", "Expected `object`, got `array`; lists stand under a, b in it"),
        ('{"a": []}'.encode("utf-16"), "its text is UTF-16; save it as UTF-8"),
        (b'{"a": [], "b": [], "a": [{"id": 1}]}', "`a` stands twice in it"),
        (b'{"x": ' + b"[" * 100_000 + b"}", "nested too deep"),
    ],
)
def test_what_cannot_be_read_is_located(read, data, message):
    for size in (16, 1 << 16):
        with pytest.raises(UserError, match=message):
            read(data, size)


def test_the_window_is_as_large_as_the_largest_record_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "SIZE", 1000)
    path = tmp_path / "a.json"
    many = [{"id": i, "text": '},{"id"', "parts": [{"id": 1}, {"id": 2}]} for i in range(2000)]
    for tree, size in (
        ({"a": many}, 1000),
        ({"unknown": many, "numbers": list(range(20_000)), "a": many}, 1000),
        ({"unknown": {"of": {"of": many}}, "a": many[:1]}, 1000),
        ({"a": [*many, {"id": 1, "text": "x" * 3000}, *many]}, 4000),
    ):
        path.write_text(json.dumps(tree))
        with open(path, "rb", buffering=0) as file:
            reader = _Reader(path, file)
            assert sum(len(piece.records) for piece in reader.file(DECODERS)) == len(tree["a"])
            assert len(reader.data) <= 2 * size


def test_pieces_are_few(tmp_path, monkeypatch):
    """Guesses succeed: records are not walked through one by one."""
    monkeypatch.setattr(pieces, "SIZE", 10_000)
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": RECORDS * 50, "b": [{"of": [{}, {}], **record} for record in RECORDS * 50]}))
    monkeypatch.setattr(_Reader, "walk", None)
    found = list(read_pieces(path, DECODERS))
    assert sum(len(piece.records) for piece in found) == 4000
    assert len(found) < 3 * path.stat().st_size / 10_000
