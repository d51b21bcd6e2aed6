"""A user's own rows: .npz, .npy, .csv or .txt in, three splits of 0/1 bytes out.

.npz    train, valid, test: 0/1 arrays (rows, n_features); or the packed format, which has
        n_features beside them; or one array `x`, or a single array of any name
.npy    one 0/1 array (rows, n_features)
.csv    a row per line, 0/1 values between commas or blanks, no header (.txt is the same)

A single array is shuffled with a fixed seed and cut into 80 % train, 10 % valid, 10 % test.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from bihm import paths
from bihm.data import archive, text
from bihm.data.catalogue import SPLITS
from bihm.errors import DataError

KINDS = (".npz", ".npy", ".csv", ".txt")


class Splits(NamedTuple):
    """Bits, uint8 (rows, n_features) each."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def _kind(path: Path) -> str:
    with archive.guarded(path, "a file"):
        if path.is_dir():
            raise DataError(f"{path}: is a folder; give a file ({', '.join(KINDS)})")
        if not path.exists():
            raise DataError(f"{path}: no such file")
        if not path.is_file():  # a pipe would be waited for, a device may never end
            raise DataError(f"{path}: is no regular file")
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise DataError(f"{path}: files are read by their ending, one of {', '.join(KINDS)}")
    return kind


def _check_shape(shape: tuple[int, ...], where: str) -> None:
    if len(shape) != 2:
        hint = "; flatten it with x.reshape(len(x), -1)" if len(shape) > 2 else ""
        raise DataError(f"{where} has shape {shape}; needed are (rows, features){hint}")
    if shape[0] == 0:
        raise DataError(f"{where} has no rows")
    if shape[1] == 0:
        raise DataError(f"{where} has no features: its rows are empty")


def check_bits(array: np.ndarray, where: str) -> np.ndarray:
    """The same numbers as uint8; DataError with row and column of the first that is not 0 or 1."""
    _check_shape(array.shape, where)
    good = (array == 0) | (array == 1)
    if not good.all():
        row, column = (int(i) for i in np.argwhere(~good)[0])
        value = array[row, column].item()
        raise DataError(f"{where}: row {row}, column {column} is {value}; only 0 and 1 are bits")
    return np.ascontiguousarray(array, dtype=np.uint8)


def check_padding(packed: np.ndarray, n_features: int, path: Path, split: str) -> None:
    """DataError if packed rows have bits behind the last feature."""
    spare = packed.shape[1] * 8 - n_features
    wrong = np.flatnonzero(packed[:, -1] & ((1 << spare) - 1))
    if wrong.size:
        raise DataError(
            f"{path}: {split}, row {wrong[0]} has bits behind feature {n_features - 1}; "
            "pack with numpy.packbits(axis=1)"
        )


def _bits(array: np.ndarray, n_features: int | None, path: Path, split: str) -> np.ndarray:
    """One split of a .npz; packed if the file says n_features and the width is that of bytes."""
    where = f"{path}: {split}"
    if n_features is None or array.ndim != 2 or array.size == 0:
        return check_bits(array, where)
    plain = n_features == 1 and array.max() == 1  # one bit a byte: packed, it would be 128
    if array.shape[1] == -(-n_features // 8) and array.dtype == np.uint8 and not plain:
        check_padding(array, n_features, path, split)
        return archive.unpack(array, n_features)
    if array.shape[1] != n_features:
        raise DataError(
            f"{where} is {array.dtype} with {array.shape[1]} columns; n_features = {n_features} "
            f"needs as many 0/1 columns, or {-(-n_features // 8)} bytes packed by numpy.packbits"
        )
    return check_bits(array, where)


def _n_features(value: np.ndarray, path: Path) -> int:
    if value.size != 1 or value.dtype.kind not in "iu" or value.item() < 1:
        raise DataError(f"{path}: n_features must be one integer above 0")
    return int(value.item())


def _names(path: Path, held: set[str]) -> tuple[str, ...]:
    """Which arrays of a .npz are the data: the three splits, or one; DataError if unclear."""
    if held >= set(SPLITS):
        return SPLITS
    listed = ", ".join(sorted(held)) or "nothing"
    if held & set(SPLITS):
        raise DataError(f"{path}: holds {listed}; needed are train, valid and test, all three")
    if "x" in held:
        return ("x",)
    single = held - {"n_features"}
    if len(single) == 1:
        return tuple(single)
    raise DataError(f"{path}: holds {listed}; needed are train, valid and test, or one array x")


def _read_npz(path: Path) -> list[np.ndarray]:
    arrays = archive.read_npz(path)
    n_features = _n_features(arrays["n_features"], path) if "n_features" in arrays else None
    return [_bits(arrays[k], n_features, path, k) for k in _names(path, set(arrays))]


def _same_width(splits: Splits, where: str) -> Splits:
    widths = [rows.shape[1] for rows in splits]
    if len(set(widths)) != 1:
        raise DataError(f"{where}: train, valid and test have {widths} features; one width is due")
    return splits


def read_parts(path: Path) -> list[np.ndarray]:
    """The checked arrays of a file: one, or train, valid and test; DataError."""
    kind = _kind(path)
    if kind == ".npz":
        return _read_npz(path)
    if kind == ".npy":
        return [check_bits(archive.read_npy(path), str(path))]
    return [text.read(path)]


def join(parts: list[np.ndarray], where: str) -> Splits:
    """Three arrays as splits, a single one cut 80/10/10 after a fixed shuffle; DataError."""
    if len(parts) == 3:
        return _same_width(Splits(*parts), where)
    rows = parts[0]
    tenth = len(rows) // 10
    if tenth == 0:
        raise DataError(
            f"{where}: has {len(rows)} rows; at least 10 are needed to cut it 80/10/10, "
            "or give train, valid and test"
        )
    # RandomState, since its stream is frozen for good: the same file always gives the same cut.
    rows = rows[np.random.RandomState(0).permutation(len(rows))]
    return Splits(rows[: -2 * tenth], rows[-2 * tenth : -tenth], rows[-tenth:])


def read(path: Path) -> Splits:
    """A user's file as three splits; DataError with file, row and column."""
    return join(read_parts(path), str(path))


def peek_width(path: str | Path) -> int:
    """Number of features of a user's file, from its header or first line alone; DataError."""
    path = Path(paths.expand(str(path)))
    kind = _kind(path)
    if kind in (".csv", ".txt"):
        return text.peek_width(path)
    if kind == ".npy":
        shape = archive.npy_header(path).shape
    else:
        headers = archive.npz_headers(path)
        if "n_features" in headers:
            return _n_features(archive.read_npz(path, "n_features")["n_features"], path)
        shape = headers[_names(path, set(headers))[0]].shape
    _check_shape(shape, str(path))
    return shape[1]
