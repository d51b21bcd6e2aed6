"""Files of other programs that are neither NumPy's nor tables of text: LIBSVM's and MATLAB's."""

import math
import re
import warnings
from array import array
from collections.abc import Collection
from pathlib import Path

import numpy as np

from bihm.data import archive
from bihm.data.layout import BIT, shown
from bihm.data.lines import read_lines
from bihm.errors import DataError

# What whosmat calls arrays of numbers; nothing else is looked into.
MATRICES = re.compile("double|single|logical|sparse|u?int(8|16|32|64)")
MADE_A_MATRIX = {
    "cell": "{0} = cell2mat({0})",
    "opaque": "{0} = table2array({0})",
    "struct": "save(.., '-struct', '{0}')",
}


def _on(line: bytes, where: str) -> list[int]:
    """The features, from 1 on, that a line `label 3:1 11:1 # comment` sets; DataError."""
    label, *items = line.partition(b"#")[0].split()
    if b":" in label:
        raise DataError(f"{where} begins with {shown(label)!r}; a label is due before the features")
    on, seen = [], set[int]()
    for item in items:
        index, _, value = item.partition(b":")
        if not index.isdigit() or len(index) > 9:
            raise DataError(f"{where} has {shown(item)!r}; a feature is written as i:1")
        bit = BIT.fullmatch(value)
        if bit is None:
            raise DataError(f"{where} has {shown(item)!r}; only 0 and 1 are bits")
        if int(index) == 0:
            raise DataError(
                f"{where} has {shown(item)!r}; features are counted from 1 "
                "(scikit-learn: dump_svmlight_file(.., zero_based=False))"
            )
        if int(index) in seen:
            raise DataError(f"{where} names feature {int(index)} twice; once is right")
        seen.add(int(index))
        if bit["one"] or bit["true"]:
            on.append(int(index))
    return on


def read_libsvm(path: Path, n_features: int | None = None) -> np.ndarray:
    """Lines `label i:1 j:1 ..`, features counted from 1; the label is dropped.

    Returns uint8 (rows, features), as wide as the largest index says unless `n_features` does; DataError.
    """
    rows, columns = array("q"), array("i")  # of the ones; lists would take ten times as much
    width = n_rows = 0
    with archive.guarded(path, "a LIBSVM file"):
        for line in read_lines(path):
            where = f"{path}: line {line.number}"
            for column in _on(line.text, where):
                if n_features is not None and column > n_features:
                    raise DataError(f"{where} has {column}:1; the features are 1 to {n_features}")
                width = max(width, column)
                rows.append(n_rows)
                columns.append(column - 1)
            n_rows += 1
        width = n_features or width
        if not width:
            raise DataError(f"{path}: has no features; a line is: label i:1 j:1 ..")
        if n_rows * width > archive.LIMIT:
            raise DataError(
                f"{path}: claims {n_rows} rows of {width} features; the limit is {archive.LIMIT} (4 GiB)"
            )
        bits = np.zeros((n_rows, width), dtype=np.uint8)
        bits[np.frombuffer(rows, np.int64), np.frombuffer(columns, np.int32)] = 1
        return bits


def mat_shapes(path: Path, data_names: Collection[str] = ()) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the matrices of a MATLAB file, none of them read.

    Raises:
        DataError: the file is damaged, or one of `data_names`, or all that it holds, is no matrix.
    """
    import scipy.io

    with archive.guarded(path, "a MATLAB file"), path.open("rb") as stream:
        try:
            held = scipy.io.whosmat(stream)
        except NotImplementedError as error:
            raise DataError(
                f"{path}: is a MATLAB file of version 7.3, which is HDF5; save it with save(.., '-v7')"
            ) from error
        shapes = {name: shape for name, shape, kind in held if MATRICES.fullmatch(kind)}
        if len(shapes) > archive.MEMBERS:
            raise DataError(f"{path}: holds {len(shapes)} arrays; the limit is {archive.MEMBERS}")
        for name, _, kind in held:
            if name not in shapes and (name in data_names or not shapes):
                how = MADE_A_MATRIX.get(kind, "").format(name)
                hint = f" (MATLAB: {how})" if how else ""
                raise DataError(
                    f"{path}: {name} is of class {kind}; needed is a matrix of 0 and 1{hint}"
                )
        return shapes


def read_mat(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The matrices of these names in a MATLAB file; DataError if damaged, or above 4 GiB."""
    import scipy.io

    shapes = mat_shapes(path)
    with archive.guarded(path, "a MATLAB file"), path.open("rb") as stream:
        size = sum(8 * math.prod(shapes[name]) for name in names)  # most are doubles
        if size > archive.LIMIT:
            raise DataError(
                f"{path}: claims {size} bytes of arrays; the limit is {archive.LIMIT} (4 GiB)"
            )
        with warnings.catch_warnings():
            # Of which of scipy's two kinds a sparse matrix will be: either kind can be unfolded.
            warnings.simplefilter("ignore", DeprecationWarning)
            held = scipy.io.loadmat(stream, variable_names=names)
        arrays = {}
        for name in names:
            matrix = held[name]
            arrays[name] = matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
            if arrays[name].dtype.kind not in "buif":
                raise DataError(f"{path}: {name} holds {arrays[name].dtype}, not real numbers")
        return arrays
