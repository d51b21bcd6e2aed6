"""A user's own file: arrays or tables of many kinds in, 0/1 bytes out.

.npz    train, valid, test: 0/1 arrays (rows, n_features); or the packed format, which has
        n_features beside them; or one array `x`, or a single array of any name
.npy    one 0/1 array (rows, n_features)
.csv    and the others of TEXT: a row per line, as bihm.data.layout says
.mat    MATLAB, up to version 7: one matrix, `X`, or matrices named as in a .npz
.libsvm .svm: LIBSVM, features counted from 1, labels left out
"""

import stat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bihm import paths
from bihm.data import archive, mat_and_libsvm, text
from bihm.data.catalogue import SPLITS
from bihm.data.layout import MISSING, TAKEN
from bihm.errors import DataError

TEXT = (".csv", ".tsv", ".txt", ".dat", ".data", ".amat")
LIBSVM = (".libsvm", ".svm")
KINDS = (".npz", ".npy", ".mat", *TEXT, *LIBSVM)
PACKED = (".npy", *TEXT, *LIBSVM)  # these may have .gz behind; the others are compressed themselves
ENDINGS = f"{', '.join(KINDS)}, or {', '.join(PACKED)} with .gz behind"
ALIASES = {  # names of the splits, ours first
    "train": ("train", "train_data"),
    "valid": ("valid", "val", "valid_data", "val_data"),
    "test": ("test", "test_data"),
}

DATA_NAMES = {"x", "X", *(name for names in ALIASES.values() for name in names)}


class Parts(NamedTuple):
    """The checked arrays of a file: one, or train, valid and test."""

    arrays: list[np.ndarray]
    notes: tuple[str, ...] = ()


def ending(path: Path) -> str | None:
    """The ending of a name if it is one of KINDS, perhaps with .gz behind it; else None."""
    *_, before, last = ["", "", *(suffix.lower() for suffix in path.suffixes)]
    if last in KINDS:
        return last
    return before if last == ".gz" and before in PACKED else None


def kind_of(path: Path) -> str:
    """The ending of a file that is there; DataError."""
    with archive.guarded(path, "a file"):
        try:  # not path.exists(), to which from Python 3.14 on nothing is there that cannot be looked at
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            raise DataError(f"{path}: no such file") from error
        if stat.S_ISDIR(mode):
            raise DataError(f"{path}: is a folder; give a file ({ENDINGS})")
        if not stat.S_ISREG(mode):  # a pipe would be waited for, a device may never end
            raise DataError(f"{path}: is no regular file")
    kind = ending(path)
    if kind is None:
        raise DataError(f"{path}: files are read by their ending, one of {ENDINGS}")
    return kind


def _check_shape(shape: tuple[int, ...], where: str) -> None:
    if len(shape) != 2:
        hint = "; flatten it with x.reshape(len(x), -1)" if len(shape) > 2 else ""
        raise DataError(f"{where} has shape {shape}; needed are (rows, features){hint}")
    if shape[0] == 0:
        raise DataError(f"{where} has no rows")
    if shape[1] == 0:
        raise DataError(f"{where} has no features: its rows are empty")


def check_bits(array: np.ndarray, where: str, missing: bool = False) -> np.ndarray:
    """The same numbers as uint8; DataError with row and column of the first that is not 0 or 1.

    With `missing`, a NaN is no error but MISSING.
    """
    _check_shape(array.shape, where)
    absent = array != array  # NaN alone; no array of whole numbers has one
    good = (array == 0) | (array == 1) | (missing & absent)
    if not good.all():
        row, column = (int(i) for i in np.argwhere(~good)[0])
        value = array[row, column].item()
        hint = TAKEN if absent[row, column] and not missing else ""
        raise DataError(
            f"{where}: row {row}, column {column} is {value}; only 0 and 1 are bits{hint}"
        )
    return np.ascontiguousarray(np.where(absent, MISSING, array) if missing else array, np.uint8)


def check_padding(packed: np.ndarray, n_features: int, path: Path, split: str) -> None:
    """DataError if packed rows have bits behind the last feature."""
    spare = packed.shape[1] * 8 - n_features
    wrong = np.flatnonzero(packed[:, -1] & ((1 << spare) - 1))
    if wrong.size:
        raise DataError(
            f"{path}: {split}, row {wrong[0]} has bits behind feature {n_features - 1}; "
            "pack with numpy.packbits(axis=1)"
        )


def _bits(
    array: np.ndarray, n_features: int | None, path: Path, split: str, missing: bool
) -> np.ndarray:
    """One split of a .npz; packed if the file says n_features and the width is that of bytes."""
    where = f"{path}: {split}"
    if n_features is None or array.ndim != 2 or array.size == 0:
        return check_bits(array, where, missing)
    plain = n_features == 1 and array.max() == 1  # one bit a byte: packed, it would be 128
    if array.shape[1] == -(-n_features // 8) and array.dtype == np.uint8 and not plain:
        check_padding(array, n_features, path, split)
        return archive.unpack(array, n_features)
    if array.shape[1] != n_features:
        raise DataError(
            f"{where} is {array.dtype} with {array.shape[1]} columns; n_features = {n_features} "
            f"needs as many 0/1 columns, or {-(-n_features // 8)} bytes packed by numpy.packbits"
        )
    return check_bits(array, where, missing)


def _n_features(value: np.ndarray, path: Path) -> int:
    if value.size != 1 or value.dtype.kind not in "iu" or value.item() < 1:
        raise DataError(f"{path}: n_features must be one integer above 0")
    return int(value.item())


def _names(path: Path, held: set[str]) -> tuple[str, ...]:
    """Which arrays of a file are the data: the three splits, or one; DataError if unclear."""
    theirs = [name for split in SPLITS for name in ALIASES[split] if name in held]
    if len(theirs) == 3 and all(held & set(ALIASES[split]) for split in SPLITS):
        return tuple(theirs)
    listed = ", ".join(sorted(held)) or "nothing"
    if theirs:
        raise DataError(f"{path}: holds {listed}; needed are train, valid and test, all three")
    for single in ({"x"} & held, {"X"} & held, held - {"n_features"}):
        if len(single) == 1:
            return tuple(single)
    raise DataError(f"{path}: holds {listed}; needed are train, valid and test, or one array x")


def _beside(names: tuple[str, ...], held: set[str]) -> tuple[str, ...]:
    others = sorted(held - {*names, "n_features"})
    return (f"{', '.join(others)} left out beside {', '.join(names)}",) if others else ()


def _read_npz(path: Path, missing: bool) -> Parts:
    arrays = archive.read_npz(path)
    n_features = _n_features(arrays["n_features"], path) if "n_features" in arrays else None
    names = _names(path, set(arrays))
    bits = [_bits(arrays[name], n_features, path, name, missing) for name in names]
    return Parts(bits, _beside(names, set(arrays)))


def _read_mat(path: Path, missing: bool) -> Parts:
    held = set(mat_and_libsvm.mat_shapes(path, DATA_NAMES))
    names = _names(path, held)
    arrays = mat_and_libsvm.read_mat(path, names)
    bits = [check_bits(arrays[name], f"{path}: {name}", missing) for name in names]
    return Parts(bits, _beside(names, held))


def read_parts(path: Path, missing: bool = False) -> Parts:
    """The checked arrays of a file; DataError with file, row or line, and column or value.

    With `missing`, values that are NaN, or in a text absent, ?, NA or the like, are MISSING.
    """
    kind = kind_of(path)
    if kind == ".npz":
        return _read_npz(path, missing)
    if kind == ".mat":
        return _read_mat(path, missing)
    if kind == ".npy":
        return Parts([check_bits(archive.read_npy(path), str(path), missing)])
    if kind in LIBSVM:
        bits = mat_and_libsvm.read_libsvm(path)
        note = f"labels left out; {bits.shape[1]} features, the largest that a row names"
        return Parts([bits], (note,))
    table = text.read(path, missing=MISSING if missing else None)
    return Parts([table.rows], table.notes)


def peek_width(path: str | Path) -> int:
    """Number of features of a user's file, from its header or first lines where they say it; DataError."""
    path = Path(paths.expand(str(path)))
    kind = kind_of(path)
    if kind in TEXT:
        return text.peek_width(path)
    if kind in LIBSVM:
        return int(mat_and_libsvm.read_libsvm(path).shape[1])
    if kind == ".npy":
        shape = archive.npy_header(path).shape
    elif kind == ".mat":
        shapes = mat_and_libsvm.mat_shapes(path, DATA_NAMES)
        shape = shapes[_names(path, set(shapes))[0]]
    else:
        headers = archive.npz_headers(path)
        if "n_features" in headers:
            return _n_features(archive.read_npz(path, "n_features")["n_features"], path)
        shape = headers[_names(path, set(headers))[0]].shape
    _check_shape(shape, str(path))
    return int(shape[1])
