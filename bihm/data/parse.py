"""Downloaded files to arrays, one parser per format; none of them opens a pickle.

Each parser takes (path, split, n_features) and returns arrays by name: `train`, `valid`, `test` or
`train+valid` as 0/1 uint8 (rows, n_features); labels and grey images under their stored names.
"""

import gzip
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bihm.data import archive, mat_and_libsvm
from bihm.data.catalogue import SPLITS, Entry, Source
from bihm.data.files import check_bits
from bihm.errors import DataError

Arrays = dict[str, np.ndarray]
Parser = Callable[[Path, str, int], Arrays]


def _digits(path: Path, split: str, n_features: int, separator: bytes) -> Arrays:
    """One digit, one separator, a newline at the end of a row: a fixed width, so no tokenising."""
    raw = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    if raw.size == 0 or raw.size % (2 * n_features):
        raise DataError(f"{path}: {raw.size} bytes are no rows of {n_features} separated digits")
    table = raw.reshape(-1, 2 * n_features)
    inner, last = table[:, 1:-1:2], table[:, -1]
    if not ((inner == separator[0]).all() and (last == ord("\n")).all()):
        raise DataError(f"{path}: the digits are not separated by {separator.decode()!r}")
    return {split: check_bits(table[:, ::2] - ord("0"), f"{path}: {split}")}


def _csv_bits(path: Path, split: str, n_features: int) -> Arrays:
    return _digits(path, split, n_features, b",")


def _amat(path: Path, split: str, n_features: int) -> Arrays:
    return _digits(path, split, n_features, b" ")


def _npz(path: Path, split: str, n_features: int) -> Arrays:
    """MADE's files: float32 train_data, valid_data, test_data."""
    arrays = archive.read_npz(path)
    return {s: check_bits(arrays[f"{s}_data"], f"{path}: {s}_data") for s in SPLITS}


def _libsvm(path: Path, split: str, n_features: int) -> Arrays:
    """Lines `label i:1 j:1 ..`, features counted from 1; the label is dropped."""
    return {split: mat_and_libsvm.read_libsvm(path, n_features)}


def _mat(path: Path, split: str, n_features: int) -> Arrays:
    """MATLAB 5 matrices: `X` for one split, or {train,val,test}_data with _labels for all."""
    if split != "all":
        return {split: check_bits(mat_and_libsvm.read_mat(path, ("X",))["X"], f"{path}: X")}
    theirs = dict(zip(SPLITS, ("train", "val", "test"), strict=True))
    names = [f"{word}_{what}" for word in theirs.values() for what in ("data", "labels")]
    held = mat_and_libsvm.read_mat(path, tuple(names))
    arrays = {}
    for name, word in theirs.items():
        arrays[name] = check_bits(held[f"{word}_data"], f"{path}: {word}_data")
        arrays[f"y_{name}"] = held[f"{word}_labels"].ravel().astype(np.uint8)
    return arrays


def _idx(path: Path, split: str, n_features: int) -> Arrays:
    """Gzipped IDX of bytes: magic 0 0 8 ndim, big-endian sizes, data."""
    with gzip.open(path) as stream:
        magic = stream.read(4)
        if magic[:3] != b"\0\0\x08" or magic[3] not in (1, 3):
            raise DataError(f"{path}: is not an IDX file of bytes")
        shape = tuple(int(n) for n in np.frombuffer(stream.read(4 * magic[3]), dtype=">u4"))
        size = math.prod(shape)
        if size > archive.LIMIT:
            raise DataError(f"{path}: claims {size} bytes; the limit is {archive.LIMIT} (4 GiB)")
        raw = stream.read(size + 1)
    if len(raw) != size:
        raise DataError(f"{path}: does not hold the {size} bytes that its header claims")
    return {split: np.frombuffer(raw, dtype=np.uint8).reshape(shape)}


PARSERS: dict[str, Parser] = {
    "csv-bits": _csv_bits,
    "amat": _amat,
    "npz": _npz,
    "libsvm": _libsvm,
    "mat": _mat,
    "idx.gz": _idx,
}


def _stored(wanted: Entry, arrays: Arrays) -> Arrays:
    """Parsed arrays in the form of a stored NAME.npz."""
    if wanted.grey:
        return arrays
    if "train+valid" in arrays:
        # web: which rows are Larochelle's valid split is not known; this cut is ours.
        both = arrays.pop("train+valid")
        both = both[np.random.RandomState(0).permutation(len(both))]
        n_train = wanted.rows["train"]
        arrays = {"train": both[:n_train], "valid": both[n_train:], **arrays}
    packed = {k: v if k.startswith("y_") else archive.pack(v) for k, v in arrays.items()}
    return {**packed, "n_features": np.array(wanted.n_features, dtype=np.int64)}


def parse(wanted: Entry, source: Source, folder: Path) -> Arrays:
    """The arrays of NAME.npz from a source's files in `folder`; DataError names the bad file."""
    arrays: Arrays = {}
    for file in source.files:
        path = folder / file.path
        with archive.guarded(path, f"a {source.format} file"):
            arrays |= PARSERS[source.format](path, file.split, wanted.n_features)
    return _stored(wanted, arrays)
