"""Arrays from files: what is read, what is refused and how, and what takes memory."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xp_xent.verify import BadInput
from xp_xent.verify._files import read

LOGITS = np.arange(12, dtype=np.float32).reshape(4, 3)
TARGETS = np.asarray([0, 1, 2, 0])


def npy(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def header(shape: str, descr: str = "'<f4'", length: int = 0) -> bytes:
    """A ``.npy`` that claims whatever a test wants, with so many bytes behind its header."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(length)


def safetensors(arrays: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(arrays).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(shape: list[int], first: int, last: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


def zipped(method: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return stream.getvalue()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=lambda save: save.__name__)
def test_npz(save: Any, tmp_path: Path) -> None:
    large = np.arange(600_000, dtype=np.float32).reshape(1000, 600)
    file = tmp_path / "dump.npz"
    save(file, logits=LOGITS, targets=TARGETS, large=large, turned=large.T, number=np.float64(0.7))
    found = read([file])
    assert list(found) == ["logits", "targets", "large", "turned", "number"]
    np.testing.assert_array_equal(found["logits"], LOGITS)
    np.testing.assert_array_equal(found["large"], large)
    np.testing.assert_array_equal(found["turned"], large.T)
    assert found["number"] == 0.7
    assert found["number"].shape == ()
    assert isinstance(found["large"], np.memmap) == (save is np.savez)


def test_what_was_read_is_let_go(tmp_path: Path) -> None:
    """The file's pages leave the process, and come back with the same numbers."""
    resident = Path("/proc/self/statm")
    if not resident.exists():
        pytest.skip("this system does not tell how much memory is resident")
    np.savez(tmp_path / "x.npz", large=np.ones((40, 1 << 18)))
    found = read([tmp_path / "x.npz"])
    assert found["large"].sum() == 40 << 18
    before = int(resident.read_text().split()[1])
    found.release()
    assert before - int(resident.read_text().split()[1]) > 70 << 8  # pages: MB of 256
    assert found["large"].sum() == 40 << 18


def test_several_npy_and_a_file_of_each_framework(tmp_path: Path) -> None:
    np.save(tmp_path / "logits.npy", LOGITS)
    np.save(tmp_path / "targets.npy", TARGETS.astype(">i4"))
    np.savez(tmp_path / "port.npz", logits=LOGITS + 1, loss=0.5)
    files = [tmp_path / "logits.npy", tmp_path / "targets.npy"]
    found = read(files, {"jax": tmp_path / "port.npz"})
    assert list(found) == ["logits", "targets", "logits.jax", "loss.jax"]
    np.testing.assert_array_equal(found["targets"], TARGETS)
    np.testing.assert_array_equal(found["logits.jax"], LOGITS + 1)
    assert found.of("logits.jax") == f"{tmp_path / 'port.npz'}: 'logits.jax'"


def test_what_the_safetensors_package_writes(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    arrays = {
        "logits": LOGITS.astype(np.float16), "targets": TARGETS, "where": TARGETS > 0,
        "large": np.ones((600, 600)), "none": np.zeros((0, 3)), "n": np.asarray(2.0),
    }  # fmt: skip
    numpy.save_file(arrays, tmp_path / "x.safetensors", metadata={"by": "a test"})
    found = read([tmp_path / "x.safetensors"])
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert isinstance(found["large"], np.memmap)


def test_bfloat16(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    half = LOGITS.astype(ml_dtypes.bfloat16)
    np.save(tmp_path / "a.npy", half)
    content = safetensors({"b": tensor([4, 3], 0, 24, "BF16")}, half.tobytes())
    (tmp_path / "b.safetensors").write_bytes(content)
    found = read([tmp_path / "a.npy", tmp_path / "b.safetensors"])
    for array in found.values():
        assert array.dtype == half.dtype
        np.testing.assert_array_equal(array, half)


OBJECTS = npy(np.asarray([{}], dtype=object), allow_pickle=True)
REFUSED = {
    "no file": ("absent.npz", None, "cannot be read: No such file"),
    "a folder": (".", None, "wanted one of .npz, .npy, .safetensors"),
    "torch": ("model.pt", b"", "a pickle can run code"),
    "pickle": ("x.pkl", pickle.dumps(LOGITS), "numpy.savez(FILE, logits=..., targets=...)"),
    "text": ("x.csv", b"1,2", "ends in '.csv', wanted one of .npz, .npy, .safetensors"),
    "objects": ("x.npy", OBJECTS, "'x': got Python objects"),
    "objects in an archive": ("x.npz", zipped(y__npy=OBJECTS), "'y': got Python objects"),
    "a pickle by another name": ("x.npy", pickle.dumps(LOGITS), "is no .npy, or is damaged"),
    "torch's archive": ("x.npz", zipped(data__pkl=b"x"), "holds 'data.pkl', which is no array"),
    "no archive": ("x.npz", npy(LOGITS), "is no .npz, or is damaged"),
    "truncated": ("x.npy", npy(LOGITS)[:-1], "truncated, or its header wrong: got 47 bytes"),
    "too long": ("x.npy", npy(LOGITS) + b"x", "the array: got 49 bytes, wanted 48 for float32"),
    "empty": ("x.npy", b"", "is no .npy, or is damaged"),
    "10^12 elements": ("x.npy", header("(1000000, 1000000)"), "wanted 4000000000000 for float32"),
    "more than there is": ("x.npy", header("(2 ** 70,)"), "is no .npy, or is damaged"),
    "longer than any": ("x.npy", header("(0, 9999999999999999999)"), "which no array has"),
    "negative": ("x.npy", header("(-1,)", length=4), "got shape (-1,), which no array has"),
    "too many axes": ("x.npy", header("(1,) " + "* 1"), "is no .npy, or is damaged"),
    "complex": ("x.npy", npy(LOGITS * 1j), "got dtype complex64, wanted integers, floats"),
    "text in it": ("x.npy", npy(np.asarray(["cat"])), "got dtype <U3, wanted integers, floats"),
    "truncated archive": ("x.npz", zipped(y__npy=npy(LOGITS))[:-30], "is no .npz, or is damaged"),
    "10^12 in an archive": ("x.npz", zipped(y__npy=header("(10000000, 100000)")), "'y': the file"),
    "10^12 compressed": (
        "x.npz", zipped(zipfile.ZIP_DEFLATED, y__npy=header("(10000000, 100000)")), "wanted 4000000"
    ),
    "unusual compression": (
        "x.npz", zipped(zipfile.ZIP_BZIP2, y__npy=npy(LOGITS)), "in a way that numpy never uses"
    ),
    "short safetensors": ("x.safetensors", b"\1", "is no .safetensors, or is damaged"),
    "long header": ("x.safetensors", struct.pack("<Q", 10**12) + b"{}", "1000000000000 bytes of"),
    "truncated safetensors": (
        "x.safetensors", safetensors({"y": tensor([4, 3], 0, 48)}, bytes(47)), "got 47 bytes"
    ),
    "10^12 in safetensors": (
        "x.safetensors", safetensors({"y": tensor([10**12], 0, 4 * 10**12)}, b""), "wanted 40000"
    ),
    "overlap": (
        "x.safetensors",
        safetensors({"y": tensor([2], 0, 8), "z": tensor([2], 4, 12)}, bytes(12)),
        "'z': its bytes overlap another array's",
    ),
    "what nothing names": (
        "x.safetensors", safetensors({"y": tensor([2], 0, 8)}, bytes(12)), "wanted"
    ),
    "float8": ("x.safetensors", safetensors({"y": tensor([1], 0, 1, "F8_E4M3")}, b"x"), "F8_E4M3"),
    "no object": ("x.safetensors", struct.pack("<Q", 2) + b"[]", "is no .safetensors"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(case: str, tmp_path: Path) -> None:
    name, content, said = REFUSED[case]
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(BadInput) as refusal:
        read([file])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    message = str(refusal.value)
    assert said in message
    assert message.startswith(str(file))
    assert "\n" not in message
    assert peak < 2_000_000


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    """A member that claims a terabyte, and whose entry says so too."""
    content = bytearray(zipped(zipfile.ZIP_DEFLATED, y__npy=header("(1000000, 1000)", length=4)))
    claimed = 4 * 10**9 + 128
    place = content.rindex(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", claimed)
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(BadInput, match="compressed ones, which cannot be"):
        read([tmp_path / "x.npz"])


def test_a_wrong_checksum(tmp_path: Path) -> None:
    content = bytearray(zipped(zipfile.ZIP_DEFLATED, y__npy=npy(LOGITS)))
    place = content.rindex(b"PK\x01\x02")
    content[place + 16] ^= 1
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(BadInput, match="is damaged: Bad CRC-32"):
        read([tmp_path / "x.npz"])


def test_two_arrays_of_one_name(tmp_path: Path) -> None:
    np.save(tmp_path / "logits.npy", LOGITS)
    np.savez(tmp_path / "x.npz", logits=LOGITS)
    with pytest.raises(BadInput, match=r"logits\.npy and .*x\.npz: two arrays .* 'logits'"):
        read([tmp_path / "logits.npy", tmp_path / "x.npz"])
    twice = pytest.warns(UserWarning, match="Duplicate name")
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive, twice:
        archive.writestr("logits.npy", npy(LOGITS))
    with pytest.raises(BadInput, match="two arrays are called 'logits'"):
        read([tmp_path / "x.npz"])


def test_a_missing_array_is_named_with_what_is_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", LOGITS, TARGETS)
    found = read([tmp_path / "x.npz"])
    with pytest.raises(BadInput, match=r"got arr_0, arr_1, wanted .*'logits'.* with --logits"):
        found.wanted("logits", "--logits")


FILES = {
    "x.npy": npy(LOGITS),
    "x.npz": zipped(logits__npy=npy(LOGITS), targets__npy=npy(TARGETS)),
    "y.npz": zipped(zipfile.ZIP_DEFLATED, logits__npy=npy(LOGITS), targets__npy=npy(TARGETS)),
    "x.safetensors": safetensors({"y": tensor([4, 3], 0, 48)}, LOGITS.tobytes()),
}


@given(st.data())
def test_damage_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever bytes are changed, arrays come out, or a refusal in one line."""
    name = data.draw(st.sampled_from(sorted(FILES)))
    content = bytearray(FILES[name])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / name
    file.write_bytes(content[: data.draw(st.integers(len(content) - 8, len(content)))])
    try:
        arrays = read([file])
    except BadInput as refusal:
        lines = str(refusal).splitlines()
    else:
        lines = ["none"]
        assert all(array.nbytes < 1000 for array in arrays.values())
    assert len(lines) == 1
