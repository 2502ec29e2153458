"""Weight files: read without running them, whatever their format and however deep the tensors stand."""

import os
import pickle
import re
import struct
import time
import warnings
import zipfile

import numpy as np
import pytest
import torch

from detector.errors import UserError
from detector.weights.read import odd_kind, read_file, read_plain


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("key", [None, "model", "state_dict"])
@pytest.mark.parametrize("legacy", [False, True])
def test_reads_torch_files(tmp_path, key, legacy):
    state = {"conv1.weight": torch.randn(2, 3), "bn1.num_batches_tracked": torch.tensor(5)}
    path = tmp_path / "weights.pth.tar"
    torch.save({key: state, "iteration": 90000} if key else state, path, _use_new_zipfile_serialization=not legacy)
    torch.testing.assert_close(read_file(path).state, state)


def test_reads_safetensors(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    state = {"fc.weight": torch.randn(2, 3)}
    save_file(state, tmp_path / "weights.safetensors")
    torch.testing.assert_close(read_file(tmp_path / "weights.safetensors").state, state)


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors", ".pdparams", ""])
def test_the_content_decides_on_the_format(tmp_path, suffix):
    state = {"fc.weight": torch.randn(2, 3)}
    files = [tmp_path / f"{kind}{suffix}" for kind in ("torch", "before_1_6", "arrays")]
    torch.save(state, files[0])
    torch.save(state, files[1], _use_new_zipfile_serialization=False)
    files[2].write_bytes(pickle.dumps({"fc.weight": state["fc.weight"].numpy()}, 2))
    if suffix != ".safetensors":  # its reader is asked where the suffix says so and the bytes say nothing
        torch.testing.assert_close(read_file(files[2]).state, state)
    for file in files[:2]:
        torch.testing.assert_close(read_file(file).state, state)


def test_safetensors_under_another_name(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    state = {"fc.weight": torch.randn(2, 3)}
    save_file(state, tmp_path / "weights.pth")
    torch.testing.assert_close(read_file(tmp_path / "weights.pth").state, state)


def test_missing_safetensors_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"anything")
    with pytest.raises(ValueError, match=r"weights\.safetensors needs the package safetensors: pip install"):
        read_file(path)


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("protocol", ["python 2", 2, 4])
def test_reads_pickled_arrays(tmp_path, write_python2, protocol, wrap):
    blobs = {"a_w": np.arange(600, dtype=np.float32).reshape(2, 300), "lr": np.float32(0.5), "n": np.arange(3)}
    content = {"blobs": blobs} if wrap else blobs
    path = tmp_path / "R.pkl"
    write_python2(content, path) if protocol == "python 2" else path.write_bytes(pickle.dumps(content, protocol))
    state = read_file(path).state
    assert {key: value.numpy().tolist() for key, value in state.items()} == {k: v.tolist() for k, v in blobs.items()}
    assert state["a_w"].dtype == torch.float32


@pytest.mark.parametrize("name", ["evil.pkl", "evil.pth", "evil.tar"])
def test_pickled_code_is_refused_and_not_run(tmp_path, name):
    path, marker = tmp_path / name, tmp_path / "marker"
    content = {"conv1_w": Evil(marker)}
    if name == "evil.pkl":
        path.write_bytes(pickle.dumps(content, 2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=name == "evil.pth")
    with pytest.raises(ValueError, match=rf"{name} holds pickled code \(.*system.*\), which is never run; open it in"):
        read_file(path)
    assert not marker.exists()


def test_pickled_classes_are_named(tmp_path):
    path = tmp_path / "whole_model.pth"
    torch.save({"model": torch.nn.Linear(2, 2)}, path)
    with pytest.raises(
        ValueError, match=r"holds pickled code \(torch\.nn\.modules\.linear\.Linear\), which is never run"
    ):
        read_file(path)


@pytest.mark.parametrize("target", ["builtins.eval", "_codecs.decode", "numpy.load", "collections.OrderedDict"])
def test_only_arrays_are_admitted(tmp_path, target):
    module, _, name = target.rpartition(".")
    path = tmp_path / "R.pkl"
    path.write_bytes(f"c{module}\n{name}\n.".encode())
    with pytest.raises(ValueError, match=re.escape(f"R.pkl holds pickled code ({target}), which is never run")):
        read_file(path)


def test_only_latin1_is_encoded(tmp_path):
    path = tmp_path / "R.pkl"
    path.write_bytes(b"c_codecs\nencode\n(Vtext\nVzlib_codec\ntR.")
    with pytest.raises(ValueError, match=r"R\.pkl holds pickled code \(zlib_codec\)"):
        read_file(path)


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "noise", "empty", "html"])
def test_damaged_files_are_named(tmp_path, suffix, damage):
    state, path = {"conv1.weight": torch.randn(50, 30)}, tmp_path / f"w{suffix}"
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps({key: value.numpy() for key, value in state.items()}))
    elif suffix == ".pth":
        torch.save(state, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(state, path)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "truncated": whole[: len(whole) // 2],
            "noise": bytes(range(200, 256)) * 20,
            "empty": b"",
            "html": b"\n<!DOCTYPE html><html>Google Drive can't scan this file",
        }[damage]
    )
    reason = {"empty": "is empty", "html": "is a web page"}.get(damage, "is truncated")
    with pytest.raises(ValueError, match=rf"w\{suffix} {reason}.*fetch it again"):
        read_file(path)


@pytest.mark.parametrize("content", [[1, 2], {"model": {"conv1.weight": "text"}}, {}])
def test_files_without_tensors_are_named(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth.*save `model\.state_dict\(\)`"):
        read_file(tmp_path / "w.pth")


# ---------------------------------------------------------------------------- several weights in a file

STATE, AVERAGE = {"conv1.weight": torch.zeros(2)}, {"conv1.weight": torch.ones(2)}
OURS = {"module.conv1.weight": torch.ones(2), "n_averaged": torch.tensor(4)}


@pytest.mark.parametrize(
    ("content", "taken", "facts"),
    [
        ({"model": STATE, "state_dict_ema": AVERAGE, "epoch": 3}, "state_dict_ema", {"epoch": 3}),
        ({"state_dict": STATE, "model_ema": AVERAGE}, "model_ema", {}),
        ({"model": STATE, "ema": AVERAGE}, "ema", {}),
        ({"model": STATE, "ema": {"module": AVERAGE, "updates": 7, "decay": 0.9}}, "ema.module", {}),
        ({"ema": {"state_dict": AVERAGE}}, "ema.state_dict", {}),
        ({"model_ema": {"module.conv1.weight": torch.ones(2), "n_averaged": torch.tensor(4)}}, "model_ema", {}),
        ({"model": STATE, "average": OURS, "optimizer": {}, "step": 3}, "average", {"step": 3}),
    ],
)
def test_averaged_weights_come_before_plain_ones_and_the_log_says_so(tmp_path, caplog, content, taken, facts):
    caplog.set_level("INFO", "detector")
    torch.save(content, tmp_path / "w.pth")
    file = read_file(tmp_path / "w.pth")
    assert (file.path, file.taken, file.content) == (tmp_path / "w.pth", taken, facts)
    torch.testing.assert_close(file.state, AVERAGE)
    said = f"w.pth: the averaged weights under {taken!r} are taken"
    plain = next((key for key in ("model", "state_dict") if key in content), None)
    assert caplog.messages == [f"{tmp_path}/{said}" + (f", not those under {plain!r}" if plain else "")]


@pytest.mark.parametrize(
    ("content", "taken", "facts"),
    [
        ({"model": STATE, "average": {"module.conv1.weight": torch.ones(2)}, "step": 3}, "model", {"step": 3}),
        ({"model": STATE, "ema": None, "model_ema": {"decay": 0.9}}, "model", {"ema": None}),
        ({"model": STATE, "ema": {}}, "model", {}),
        ({"arch": "resnet50", "model": "resnet50", "state_dict": STATE}, "state_dict", {"arch": ..., "model": ...}),
        ({"module": STATE}, "module", {}),
        ({"model": {"state_dict": STATE}}, "model.state_dict", {}),
        (STATE, "", {}),
    ],
)
def test_plain_weights_are_taken_in_silence(tmp_path, caplog, content, taken, facts):
    caplog.set_level("INFO", "detector")
    torch.save(content, tmp_path / "w.pth")
    file = read_file(tmp_path / "w.pth")
    torch.testing.assert_close(file.state, STATE)
    assert (file.taken, set(file.content) - {"average"}) == (taken, set(facts))
    assert ("average" in file.content) == ("average" in content)
    assert not caplog.messages


def test_a_training_goes_on_from_its_own_weights_and_keeps_the_average(tmp_path, caplog):
    caplog.set_level("INFO", "detector")
    torch.save({"model": STATE, "average": OURS, "optimizer": {"state": {}}, "step": 3}, tmp_path / "w.pth")
    file = read_file(tmp_path / "w.pth", optimizer=True)
    torch.testing.assert_close(file.state, STATE)
    torch.testing.assert_close(file.content["average"], OURS)
    assert (file.taken, file.content["step"], file.content["optimizer"]) == ("model", 3, {"state": {}})
    assert not caplog.messages


def test_the_state_of_the_optimiser_is_kept_only_where_it_is_wanted(tmp_path):
    torch.save({"model": STATE, "optimizer": {"state": {0: torch.ones(3)}}, "step": 3}, tmp_path / "w.pth")
    assert read_file(tmp_path / "w.pth").content == {"step": 3}
    assert set(read_file(tmp_path / "w.pth", optimizer=True).content) == {"step", "optimizer"}


# ---------------------------------------------------------------------------- damage


def test_every_flipped_bit_of_what_is_stored_is_noticed(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"model": {"a.weight": torch.randn(30, 10), "a.bias": torch.randn(30)}, "step": 3}, path)
    whole = path.read_bytes()
    places = []
    for member in zipfile.ZipFile(path).infolist():
        names = struct.unpack("<HH", whole[member.header_offset + 26 : member.header_offset + 30])
        start = member.header_offset + 30 + sum(names)
        places += range(start, start + member.file_size)
    for i, place in enumerate(places[:: len(places) // 20]):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << i % 8]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"w\.pth is damaged: .* does not match its checksum; delete it"):
            read_file(path)


def test_a_flipped_bit_anywhere_is_noticed_or_changes_nothing(tmp_path):
    path, model = tmp_path / "w.pth", {"a.weight": torch.randn(5, 4), "a.bias": torch.randn(5)}
    torch.save({"model": model, "step": 3}, path)
    whole, noticed = path.read_bytes(), 0
    for place in range(0, len(whole), 29):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        try:
            file = read_file(path)
        except ValueError as error:
            file, noticed = None, noticed + str(error).startswith(str(path))
        if file is not None:
            assert file.content == {"step": 3}
            torch.testing.assert_close(file.state, model, rtol=0, atol=0)
    assert noticed > 20


def test_an_end_that_no_archive_has_is_damage(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"w": torch.ones(3)}, path)
    whole = path.read_bytes()
    place = whole.index(b"PK\x06\x07") + 16  # the number of disks
    path.write_bytes(whole[:place] + b"\x09" + whole[place + 1 :])
    with pytest.raises(UserError, match=r"w\.pth is truncated: the end of the archive is missing; delete it"):
        read_file(path)


def test_numbers_and_texts_are_read_without_the_tensors(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"model": {"w": torch.ones(1000)}, "step": 7, "config": "SEED: 1", "random": torch.ones(3)}, path)
    whole = path.read_bytes()
    want = {"step": 7, "config": "SEED: 1"}
    assert read_plain(path) == want
    place = whole.index(torch.ones(1000).numpy().tobytes())
    path.write_bytes(whole[:place] + b"damage" + whole[place + 6 :])
    assert read_plain(path) == want
    path.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"w\.pth is truncated"):
        read_plain(path)
    torch.save([torch.ones(1)], path)
    assert read_plain(path) == {}
    path.write_bytes(b"text")
    assert read_plain(path) == {}


# ---------------------------------------------------------------------------- what is no plain tensor


class Sub(torch.Tensor):
    """A tensor of a class of its own."""


def odd_tensors():
    dense = torch.ones(2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "sparse_coo": (dense.to_sparse(), "a sparse tensor (sparse_coo)"),
            "sparse_csr": (dense.to_sparse_csr(), "a sparse tensor (sparse_csr)"),
            "quantised": (torch.quantize_per_tensor(dense, 0.1, 0, torch.quint8), "a quantised tensor"),
            "nested": (torch.nested.nested_tensor([dense, dense]), "a nested tensor"),
            "meta": (dense.to("meta"), "a meta tensor, which has no values"),
            "complex": (dense.to(torch.complex64), "a tensor of complex64"),
            "unsigned": (dense.to(torch.uint16), "a tensor of uint16"),
        }


@pytest.mark.parametrize("kind", list(odd_tensors()))
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_not_plain_are_named_with_what_they_are(tmp_path, kind):
    value, what = odd_tensors()[kind]
    torch.save({"model": {"a.weight": torch.ones(2), "b.weight": value}}, tmp_path / "w.pth")
    with pytest.raises(UserError) as caught:
        read_file(tmp_path / "w.pth")
    assert str(caught.value) == (
        f"{tmp_path / 'w.pth'}: 'b.weight' is {what}; save `model.state_dict()` alone, of dense tensors of numbers"
    )


def test_a_class_of_tensors_is_named():
    assert odd_kind(torch.ones(2).as_subclass(Sub)) == "a Sub"
    assert odd_kind(torch.nn.Parameter(torch.ones(2))) == odd_kind(torch.ones(2, dtype=torch.bfloat16)) == ""


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        ({3: torch.ones(2)}, "the key 3 is a int, not a text; save .*"),
        ({("a", 1): torch.ones(2)}, r"the key \('a', 1\) is a tuple, not a text; save .*"),
        ({"a": [1.0]}, "'a' is a list, not a tensor; save .*"),
        ({"a": 1.0}, "'a' is a float, not a tensor; save .*"),
        ({"a" * 9000: 1.0}, r"'a{199}\.\. \(9002 characters\) is a float, not a tensor; save .*"),
        (
            {"a": torch.ones(1).expand(2000, 3000)},
            r"'a' of shape \(2000, 3000\) holds more values than the file; .*",
        ),
    ],
)
def test_what_is_no_tensor_under_a_text_is_one_line(tmp_path, state, problem):
    torch.save({"model": state}, tmp_path / "w.pth")
    with pytest.raises(UserError) as caught:
        read_file(tmp_path / "w.pth")
    assert re.fullmatch(rf"{re.escape(str(tmp_path / 'w.pth'))}: {problem}", str(caught.value))


def test_entries_that_stand_in_themselves_have_an_end(tmp_path):
    circle = {}
    circle["model"] = circle
    torch.save(circle, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth: more than 8 entries in each other; save"):
        read_file(tmp_path / "w.pth")


def test_a_packed_archive_is_refused_before_it_unfolds(tmp_path):
    torch.save({"w": torch.zeros(100_000)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "w.pth", "w", 8) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    for read in (read_file, read_plain):
        with pytest.raises(UserError, match=r"w\.pth: its parts are packed and larger than the file; save it by"):
            read(tmp_path / "w.pth")


def test_tuples_in_tuples_are_refused_before_they_are_hashed(tmp_path):
    """40 of them, each twice in the next, as the key of a dict: nobody lives to see its hash."""
    levels = b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(1, 41))
    body = b"\x80\x02K\x01q\x01" + levels + b"}h%cK\x01s." % 41
    torch.save({"w": torch.ones(1)}, tmp_path / "sound.pth")
    with zipfile.ZipFile(tmp_path / "sound.pth") as sound, zipfile.ZipFile(tmp_path / "w.pth", "w") as other:
        for name in sound.namelist():
            other.writestr(name, body if name.endswith("data.pkl") else sound.read(name))
    started = time.perf_counter()
    with pytest.raises(
        UserError, match=r"w\.pth is truncated or no weight file \(LargeTupleError: a tuple of more than"
    ):
        read_file(tmp_path / "w.pth")
    assert time.perf_counter() - started < 1


# ---------------------------------------------------------------------------- pickled arrays


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        np.arange(6).reshape(2, 3).T[:, ::2],
        np.array([True, False]),
        np.array(2.5),
        np.int64(7),
        np.zeros((0, 3), np.float16),
        np.arange(300, dtype=np.uint8),
    ],
    ids=str,
)
def test_arrays_of_every_form_keep_their_values(tmp_path, array, protocol):
    (tmp_path / "R.pkl").write_bytes(pickle.dumps({"a": array}, protocol))
    tensor = read_file(tmp_path / "R.pkl").state["a"]
    assert tensor.shape == array.shape
    assert tensor.numpy().dtype == array.dtype.newbyteorder("=")
    assert tensor.tolist() == array.tolist()


def test_an_array_under_two_names_is_one(tmp_path):
    array = np.arange(1000.0)
    (tmp_path / "R.pkl").write_bytes(pickle.dumps({"a": array, "b": array}, 2))
    state = read_file(tmp_path / "R.pkl").state
    assert state["a"].data_ptr() == state["b"].data_ptr()


def called(name, *arguments, state=None):
    """An object whose pickle calls `name` of numpy with arguments of choice, and then sets a state."""

    class Caller:
        def __reduce__(self):
            made = (_resolve(name), arguments)
            return made if state is None else (*made, state)

    return Caller()


def _resolve(name):
    where, _, what = name.rpartition(".")
    return getattr(__import__(where, fromlist=["x"]), what)


F4 = np.dtype("<f4")
RECONSTRUCT = f"{np.empty(0).__reduce__()[0].__module__}._reconstruct"
START = (np.ndarray, (0,), b"b")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (np.array([{}], object), r"holds pickled code \(numpy\.dtype\('O8'\)\), which is never run"),
        (np.array(["text"]), r"holds pickled code \(numpy\.dtype\('U4'\)\)"),
        (np.array([b"text"]), r"holds pickled code \(numpy\.dtype\('S4'\)\)"),
        (np.array([1j]), r"holds pickled code \(numpy\.dtype\('c16'\)\)"),
        (np.zeros(2, [("a", "<f4")]), r"holds pickled code \(numpy\.dtype\('V4'\)\)"),
        (called(RECONSTRUCT, *START, state=(1, (3,), F4, False, b"x" * 13)), r"an array of shape \(3,\) and type"),
        (called(RECONSTRUCT, *START, state=(1, (2**40,), F4, False, b"x" * 12)), "an array of shape"),
        (called(RECONSTRUCT, *START, state=(1, (-3,), F4, False, b"x" * 12)), "an array whose shape is none"),
        (called(RECONSTRUCT, *START, state=(1, (1,) * 33, F4, False, b"xxxx")), "an array whose shape is none"),
        (called(RECONSTRUCT, *START, state=(1, [3], F4, False, b"x" * 12)), "an array whose shape is none"),
        (called(RECONSTRUCT, *START, state=(1, (3,), "f4", False, b"x" * 12)), "an array that is not made of"),
        (called(RECONSTRUCT, *START, state=(1, (3,), F4, False, [1, 2, 3])), "an array that is not made of"),
        (called(RECONSTRUCT, *START, state=(1, (3,))), "is truncated or no weight file"),
        (called(RECONSTRUCT, *START), "is a NoneType, not a tensor"),
        (called("numpy.ndarray", (1000,)), r"holds pickled code \(numpy\.ndarray\)"),
        ({(1, 2): np.zeros(1)}, "a dict whose keys are no texts"),
        ({1.5: 1}, "a dict whose keys are no texts"),
        ({1, 2}, "what is no array, text, number, list, tuple or dict of texts"),
    ],
)
def test_pickles_of_something_else_are_one_line(tmp_path, value, problem):
    (tmp_path / "R.pkl").write_bytes(pickle.dumps({"a": value}, 4))
    with pytest.raises(UserError, match=rf"R\.pkl.*{problem}") as caught:
        read_file(tmp_path / "R.pkl")
    assert "\n" not in str(caught.value)


def test_one_text_in_many_arrays_is_bounded_by_the_file(tmp_path):
    data = bytes(400)
    many = [called(RECONSTRUCT, *START, state=(1, (100,), F4, False, data)) for _ in range(100)]
    (tmp_path / "R.pkl").write_bytes(pickle.dumps({str(i): one for i, one in enumerate(many)}, 4))
    assert (tmp_path / "R.pkl").stat().st_size < 100 * 400
    with pytest.raises(UserError, match=r"R\.pkl .*more bytes in arrays than the file has"):
        read_file(tmp_path / "R.pkl")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"\x80\x04r\xff\xff\xff\xff.", "is truncated or no weight file"),  # a memo of 4e9 places
        (b"\x80\x04}r\xff\xff\xff\xff.", "holds no tensors by name"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\x00\x00x.", "is truncated or no weight file"),  # a text of 2**48 bytes
        (b"\x80\x04cnumpy\ndtype\n}b.", "a name with a state"),
        (b"\x80\x04cnumpy\ndtype\n)\x81.", "what is no array"),
        (b"\x80\x04Pnumber\n.", "what is no array"),
    ],
)
def test_opcodes_that_ask_for_more_are_one_line(tmp_path, text, problem):
    (tmp_path / "R.pkl").write_bytes(text)
    with pytest.raises(UserError, match=rf"R\.pkl .*{problem}"):
        read_file(tmp_path / "R.pkl")


# ---------------------------------------------------------------------------- lengths of safetensors


@pytest.mark.parametrize("length", [0x3C20, 0x7B20, 0x5B20, 0x3C, 0x7B])
def test_a_length_that_looks_like_text_is_no_page(tmp_path, length):
    """15392, 31520 and 23328 bytes begin as " <", " {" and " [" do."""
    pytest.importorskip("safetensors")
    header = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(length)
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<2f", 1, 2))
    assert read_file(path).state["w"].tolist() == [1, 2]


def test_a_page_under_the_name_of_safetensors_is_one(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b" <html>\n{}")
    with pytest.raises(UserError, match=r"w\.safetensors is a web page"):
        read_file(path)
