"""Rows that lack values: taken where somebody asks for them, and refused elsewhere."""

import gzip

import numpy as np
import pytest
import scipy.io

from bihm.data import files, load
from bihm.errors import DataError

M = 2  # files.MISSING
TABLES = {
    "words.csv": ("1,0,?,1\n0,NA,1,nan\nNaN,n/a,.,0\n", [[1, 0, M, 1], [0, M, 1, M], [M, M, M, 0]]),
    "nothing.csv": ("1,,0\n,1,\n0,0,1\n", [[1, M, 0], [M, 1, M], [0, 0, 1]]),
    "named.csv": ('"a","b","c"\n1,"",0\n"NA",1,1\n', [[1, M, 0], [M, 1, 1]]),
    "numbered.csv": (",a,b\n0,1,\n1,,0\n2,1,1\n", [[1, M], [M, 0], [1, 1]]),
    "like_pandas.csv": (",0,1\n1,1,0\n0,,1\n1,0,1\n", [[M, 0, 1], [1, 1, 0], [0, M, 1], [1, 0, 1]]),
    "ends.tsv": ("1\t0\t\n0\t1\t1\n1\t\t\n", [[1, 0, M], [0, 1, 1], [1, M, M]]),
    "always.tsv": ("1\t1\t0\t\n0\t?\t1\t\n", [[1, 1, 0], [0, M, 1]]),  # each line ends so
    "semicolons.txt": ("1;;0\n0;1;null\n", [[1, M, 0], [0, 1, M]]),
    "blanks.dat": ("1 NA 0\n? 1 NaN\n", [[1, M, 0], [M, 1, M]]),
    "float.csv": ("1.0,,0.0\nnan,0.0,1.0\n", [[1, M, 0], [M, 0, 1]]),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_may_lack_values(tmp_path, name):
    text, expected = TABLES[name]
    path = tmp_path / name
    path.write_text(text)
    np.testing.assert_array_equal(files.read_parts(path, missing=True).arrays[0], expected)
    with pytest.raises(DataError, match=r"bihm-eval dataset=FILE takes missing values|values, the"):
        files.read_parts(path)
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    np.testing.assert_array_equal(files.read_parts(packed, missing=True).arrays[0], expected)


def test_an_array_may_lack_values(tmp_path):
    x = np.array([[1, np.nan, 0], [0, 1, np.nan]], np.float32)
    expected = [[1, M, 0], [0, 1, M]]
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", train=x, valid=x[:1], test=np.array([[1, 0, 1]]))
    scipy.io.savemat(tmp_path / "x.mat", {"X": x})
    for name in ("x.npy", "x.npz", "x.mat"):
        parts = files.read_parts(tmp_path / name, missing=True)
        np.testing.assert_array_equal(parts.arrays[0], expected)
        with pytest.raises(DataError, match=r"row 0, column 1 is nan; .* takes missing values"):
            files.read_parts(tmp_path / name)
    found = load("file", str(tmp_path / "x.npz"), missing=True)
    np.testing.assert_array_equal(found.train, expected)
    np.testing.assert_array_equal(found.test, [[1, 0, 1]])


WRONG = {
    "two.csv": ("1,2,0\n0,?,1\n", "line 1, value 2 is '2'; only 0 and 1"),
    "word.csv": ("1,,0\n0,what,1\n", "line 2, value 2 is 'what'; only 0 and 1"),
    "short, and its first missing value.csv": (
        "1,0,0\n?,1\n",
        "line 2 has 2 values, the one before 3",
    ),
    "short.csv": ("1,,0\n0,1\n", "line 2 has 2 values, the one before 3"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_not_taken_for_missing(tmp_path, name):
    (tmp_path / name).write_text(WRONG[name][0])
    with pytest.raises(DataError, match=WRONG[name][1]):
        files.read_parts(tmp_path / name, missing=True)


def test_a_two_is_no_missing_value(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[1, 2]]))
    with pytest.raises(DataError, match=r"column 1 is 2; only 0 and 1 are bits$"):
        files.read_parts(tmp_path / "x.npy", missing=True)


def test_files_beside_each_other_may_lack_values(tmp_path):
    for split, line in (("train", "1,?"), ("valid", "0,"), ("test", "NA,1")):
        (tmp_path / f"mine.{split}.csv").write_text(f"{line}\n0,1\n1,1\n")
    found = load("file", str(tmp_path / "mine.train.csv"), missing=True)
    np.testing.assert_array_equal(found.train[0], [1, M])
    np.testing.assert_array_equal(found.valid[0], [0, M])
    np.testing.assert_array_equal(found.test[0], [M, 1])
