"""A user's own file: every right one reads back equal, every wrong one dies with one clear line."""

import struct
import zipfile

import numpy as np
import pytest
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays

from bihm import data
from bihm.data import archive, files
from bihm.errors import BihmError, ConfigError, DataError

EYE = np.eye(12, 5, dtype=np.uint8)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BIHM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BIHM_DATA", raising=False)
    return tmp_path


def rows_of(dataset) -> np.ndarray:
    return np.concatenate([dataset.train, dataset.valid, dataset.test])


def sorted_rows(x: np.ndarray) -> list[bytes]:
    return sorted(row.tobytes() for row in x.astype(np.uint8))


bit_matrices = st.tuples(st.integers(10, 25), st.integers(1, 19)).flatmap(
    lambda shape: np_arrays(np.uint8, shape, elements=st.integers(0, 1))
)
quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@quick
@given(x=bit_matrices, kind=st.sampled_from(["u1", "i8", "f4", "f8", "?"]))
def test_npy_and_npz_read_back_equal(tmp_path, x, kind):
    np.save(tmp_path / "x.npy", x.astype(kind))
    np.savez(tmp_path / "x.npz", x=x.astype(kind))
    np.savez(tmp_path / "one.npz", anything=x.astype(kind))
    for name in ("x.npy", "x.npz", "one.npz"):
        got = data.load("mine", str(tmp_path / name))
        assert sorted_rows(rows_of(got)) == sorted_rows(x)
        assert got.train.dtype == np.uint8
        assert data.peek_width(tmp_path / name) == got.n_features == x.shape[1]


@quick
@given(
    x=bit_matrices,
    delimiter=st.sampled_from([",", " ", "\t", ", ", "  "]),
    fmt=st.sampled_from(["%d", "%.18e", "%.1f"]),
    newline=st.sampled_from(["\n", "\r\n", "\n\n\n"]),
)
def test_text_reads_back_equal(tmp_path, x, delimiter, fmt, newline):
    x[0] |= x.shape[1] < 3  # a first line 0, 0,1 or 1,0 may be a header
    path = tmp_path / "x.csv"
    body = "\n".join(delimiter.join(fmt % v for v in row) for row in x.tolist())
    if newline == "\r\n":
        body = body.replace("\n", newline)
    path.write_text(body + newline, newline="")
    np.testing.assert_array_equal(files.read_parts(path).arrays[0], x)
    assert data.peek_width(path) == x.shape[1]


@quick
@given(x=bit_matrices, packed=st.booleans())
def test_three_splits_keep_their_rows_in_order(tmp_path, x, packed):
    splits = {"train": x, "valid": x[:3], "test": x[3:]}
    stored = {k: archive.pack(v) for k, v in splits.items()} if packed else splits
    extra = {"n_features": np.array(x.shape[1])} if packed else {}
    np.savez(tmp_path / "x.npz", **stored, **extra)
    got = data.load("mine", str(tmp_path / "x.npz"))
    for split, rows in splits.items():
        np.testing.assert_array_equal(getattr(got, split), rows)
    assert data.peek_width(tmp_path / "x.npz") == x.shape[1]


def test_rows_of_one_feature_may_say_so(tmp_path):
    x = np.array([[0], [1], [1]], np.uint8)
    for stored in (x, archive.pack(x)):
        np.savez(tmp_path / "x.npz", train=stored, valid=stored, test=stored, n_features=1)
        np.testing.assert_array_equal(data.load("mine", str(tmp_path / "x.npz")).train, x)


def test_a_single_array_is_cut_80_10_10_and_always_the_same_way(tmp_path):
    x = (np.arange(57)[:, None] >> np.arange(6)) & 1
    np.save(tmp_path / "x.npy", x)
    got = data.load("mine", str(tmp_path / "x.npy"))
    assert [len(got.train), len(got.valid), len(got.test)] == [47, 5, 5]
    order = rows_of(got) @ (1 << np.arange(6))
    np.testing.assert_array_equal(order, np.random.RandomState(0).permutation(57))


def test_byte_order_mark_is_no_value(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbf0,0\n" + b"1,1\n" * 9)
    assert rows_of(data.load("mine", str(tmp_path / "x.csv"))).shape == (10, 2)


ROW = "0,1,0\n"
BAD_TEXT = {
    "a two": (ROW * 17 + "0,1,1\n0,1,2\n" + ROW, "line 19, value 3 is '2'; only 0 and 1"),
    "nan": (ROW + "0,nan,1\n", "line 2, value 2 is 'nan'; a missing value"),
    "minus": (ROW + "0,-1,1\n", "line 2, value 2 is '-1'"),
    "half": (ROW + "0,0.5,1\n", "line 2, value 2 is '0.5'"),
    "savetxt": ("1.0e+00,5.000000000000000000e-01\n", "value 2 is '5.000000000000000000e-01'"),
    "ragged": (ROW * 3 + "0,1\n", "line 4 has 2 values, the one before 3"),
    "longer": (ROW * 3 + "0,1,1,1\n", "line 4 has 4 values, the one before 3"),
    "gap": (ROW + "0,,11\n", "line 2, value 2 is ''; a value is missing between two commas"),
    "trailing comma": ("0,1,\n", "line 1, value 3 is ''"),
    "half a header": ("a,0,c\n" + ROW, "line 1, value 1 is 'a'; only 0 and 1"),
    "a header alone": ("a,b,c\n", "line 1 holds names, and no row follows"),
    "no separators": ("0101\n" * 9, "line 1, value 1 is '0101'; values need commas"),
    "colons": ("0:1:0\n", "line 1, value 1 is '0:1:0'"),
    "blank line": (ROW + "\n" + ROW, "line 2 is empty"),
    "empty": ("", "is empty"),
    "only blanks": ("\n \n", "is empty"),
    "too few": (ROW * 9, "has 9 rows; at least 10"),
    "binary": ("\0\1\2", "line 1, value 1"),
}


@pytest.mark.parametrize("case", BAD_TEXT)
@pytest.mark.parametrize("suffix", [".csv", ".txt"])
def test_bad_text(tmp_path, case, suffix):
    content, message = BAD_TEXT[case]
    path = tmp_path / f"x{suffix}"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        data.load("mine", str(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


with_nan = EYE.astype(float)
with_nan[7, 3] = np.nan
with_two = EYE.astype(int)
with_two[11, 4] = 2
BAD_ARRAY = {
    "nan": ({"x": with_nan}, "x: row 7, column 3 is nan; only 0 and 1"),
    "two": ({"x": with_two}, "x: row 11, column 4 is 2"),
    "grey": ({"x": EYE * 255}, "row 0, column 0 is 255"),
    "flat": ({"x": EYE.ravel()}, r"has shape \(60,\)"),
    "images": ({"x": EYE.reshape(3, 4, 5)}, r"x.reshape\(len\(x\), -1\)"),
    "scalar": ({"x": np.array(1)}, r"has shape \(\)"),
    "no rows": ({"x": EYE[:0]}, "has no rows"),
    "no features": ({"x": EYE[:, :0]}, "has no features"),
    "few rows": ({"x": EYE[:9]}, "at least 10"),
    "words": ({"x": EYE.astype(str)}, "not numbers"),
    "complex": ({"x": EYE.astype(complex)}, "not numbers"),
    "two arrays": ({"a": EYE, "b": EYE}, "holds a, b; needed are train, valid and test"),
    "no arrays": ({}, "holds nothing"),
    "no valid": ({"train": EYE, "test": EYE}, "holds test, train; needed are"),
    "only train": ({"train": EYE}, "holds train; needed are train, valid and test, all three"),
    "empty split": ({"train": EYE, "valid": EYE[:0], "test": EYE}, "valid has no rows"),
    "bad split": ({"train": EYE, "valid": EYE, "test": with_two}, "test: row 11, column 4 is 2"),
    "widths": ({"train": EYE, "valid": EYE[:, 1:], "test": EYE}, r"\[5, 4, 5\] features"),
    "packed width": ({"x": EYE, "n_features": np.array(99)}, "13 bytes packed"),
    "spare bits": ({"x": EYE[:, :1] * 255, "n_features": np.array(5)}, "row 0 has bits behind"),
    "n_features 0": ({"x": EYE, "n_features": np.array(0)}, "one integer above 0"),
    "n_features 2.5": ({"x": EYE, "n_features": np.array(2.5)}, "one integer above 0"),
    "n_features []": ({"x": EYE, "n_features": np.array([])}, "one integer above 0"),
}


@pytest.mark.parametrize("case", BAD_ARRAY)
def test_bad_npz(tmp_path, case):
    arrays, message = BAD_ARRAY[case]
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=message) as caught:
        data.load("mine", str(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def test_a_sparse_matrix_is_told_how_to_be_saved(tmp_path):
    path = tmp_path / "x.npz"
    for make in (scipy.sparse.csr_matrix, scipy.sparse.coo_array, scipy.sparse.dia_matrix):
        scipy.sparse.save_npz(path, make(np.eye(3, dtype=np.uint8)))
        for read in (files.read_parts, data.peek_width):
            with pytest.raises(
                DataError, match=r"sparse matrix; save it whole: .*matrix\.toarray\(\)"
            ):
                read(path)
    np.savez(path, coords=np.zeros((2, 1)), data=np.ones(1), shape=np.ones(2), fill_value=0)
    with pytest.raises(DataError, match=r"matrix\.todense\(\)"):
        files.read_parts(path)


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_pickles_are_never_opened(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    bomb = np.array([[Bomb()]], dtype=object)
    if suffix == ".npz":
        np.savez(path, allow_pickle=True, x=bomb)
    else:
        np.save(path, bomb, allow_pickle=True)
    with pytest.raises(DataError, match="holds object, not numbers"):
        data.load("mine", str(path))
    with pytest.raises(DataError, match="holds object, not numbers"):
        data.peek_width(path) if suffix == ".npz" else archive.npy_header(path)


def npy_claiming(shape, descr: str = "|u1", version: bytes = b"\1\0") -> bytes:
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (npy_claiming((1 << 20, 1 << 13)), "the limit is"),
        (npy_claiming((1 << 40, 1 << 40)), "the limit is"),
        (npy_claiming((-1, 5)), "impossible shape"),
        (npy_claiming((12, 5)), "damaged"),
        (npy_claiming((12, 5)) + b"\0" * 59, "damaged"),
        (npy_claiming("(12, 5"), "damaged"),
        (npy_claiming((12, 5), version=b"\x09\0"), "damaged|version"),
        (b"\x93NUMPY", "damaged"),
        (b"", "damaged"),
        (b"0,1\n", "damaged"),
    ],
)
def test_damaged_and_boastful_headers(tmp_path, raw, message):
    (tmp_path / "x.npy").write_bytes(raw)
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("x.npy", raw)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(DataError, match=message):
            data.load("mine", str(tmp_path / name))


def test_a_zip_bomb_is_refused_before_it_is_inflated(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("x.npy", npy_claiming((10, 1)) + b"\0" * (10 << 20))
    with pytest.raises(DataError, match="its header needs"):
        data.load("mine", str(tmp_path / "x.npz"))


@quick
@given(where=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans())
def test_any_damage_to_a_npz_is_a_data_error_or_no_damage(tmp_path, where, value, cut):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, train=EYE, valid=EYE, test=EYE)
    raw = bytearray(path.read_bytes())
    at = int(where * len(raw))
    if cut:
        del raw[at:]
    else:
        raw[at] = value
    path.write_bytes(raw)
    try:
        got = data.load("mine", str(path))
    except DataError:
        return
    for rows in (got.train, got.valid, got.test):
        np.testing.assert_array_equal(rows, EYE)


def test_other_members_of_a_zip_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as zipped:
        zipped.writestr("x.pkl", b"")
    with pytest.raises(DataError, match=r"holds 'x\.pkl'"):
        data.load("mine", str(tmp_path / "x.npz"))


@pytest.mark.parametrize("reader", [lambda p: data.load("mine", p), data.peek_width])
def test_what_is_no_file(tmp_path, reader):
    with pytest.raises(DataError, match="no such file"):
        reader(str(tmp_path / "absent.npz"))
    with pytest.raises(DataError, match="is a folder"):
        reader(str(tmp_path))
    (tmp_path / "x.xlsx").touch()
    with pytest.raises(DataError, match=r"one of \.npz, \.npy, \.mat, \.csv"):
        reader(str(tmp_path / "x.xlsx"))


@pytest.mark.parametrize("suffix", files.KINDS)
def test_an_unreadable_file(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"x{suffix}"
    path.touch()

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    # Permission bits do not stop root, under whom tests often run.
    monkeypatch.setattr("io.open", refuse)
    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(DataError, match="Permission denied"):
        data.load("mine", str(path))


def test_peek_width_checks_the_shape(tmp_path):
    np.save(tmp_path / "x.npy", EYE.ravel())
    with pytest.raises(DataError, match="has shape"):
        data.peek_width(tmp_path / "x.npy")
    (tmp_path / "x.csv").touch()
    with pytest.raises(DataError, match="is empty"):
        data.peek_width(tmp_path / "x.csv")


def test_a_write_that_breaks_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    archive.write_npz(path, {"x": EYE})
    before = path.read_bytes()

    def full(stream, **_):
        stream.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(BihmError, match=r"x\.npz: No space left on device; make room there"):
        archive.write_npz(path, {"x": EYE})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]


def test_errors_carry_the_promised_exit_codes():
    assert issubclass(DataError, BihmError)
    assert (DataError.exit_code, ConfigError.exit_code) == (3, 2)
