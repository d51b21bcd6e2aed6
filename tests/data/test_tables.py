"""Tables as other programs write them: each is read as it was meant, or refused by line and value."""

import csv
import gzip
import io
import re

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bihm import data
from bihm.data import archive, files, lines, splits, text
from bihm.errors import DataError
from bihm.run.samples.masks import observed_pixels

X = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 0, 0]], np.uint8)
NAMES, NUMBERS = ["a", "b", "c"], ["0", "1", "2"]
SHUFFLED = [523, 12, 7, 99]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BIHM_CACHE", str(tmp_path / "cache"))
    return tmp_path


def pandas(x, *, header=None, index=None, label="", values=str, sep=","):
    """What DataFrame.to_csv writes."""
    corner = [] if index is None else [label]
    out = [] if header is None else [sep.join([*corner, *header])]
    for i, row in enumerate(x.tolist()):
        name = [] if index is None else [str(index[i])]
        out.append(sep.join([*name, *map(values, row)]))
    return "\n".join(out) + "\n"


def boolean(value):
    return str(bool(value))


def r_table(x, *, sep=" ", corner=(), col_names=True, row_names=True, values=str):
    """What write.table writes; `corner` is the empty name of write.csv."""
    header = [*corner, *(f'"V{j + 1}"' for j in range(x.shape[1]))]
    out = [sep.join(header)] if col_names else []
    for i, row in enumerate(x.tolist(), start=1):
        out.append(sep.join([f'"{i}"'] * row_names + [values(v) for v in row]))
    return "\n".join(out) + "\n"


def savetxt(x, **options):
    stream = io.BytesIO()
    np.savetxt(stream, x, **options)
    return stream.getvalue()


def excel(x, end="\r\n"):
    return (
        "\ufeff" + end.join(["a;b;c"] + [";".join(map(str, row)) for row in x.tolist()])
    ).encode()


ONE_COLUMN = X[:, :1]
READ = {
    "savetxt": (savetxt(X), X),
    "savetxt %d": (savetxt(X, fmt="%d"), X),
    "savetxt ,": (savetxt(X, delimiter=","), X),
    "savetxt header": (savetxt(X, fmt="%d", header="a b c", footer="end"), X),
    "savetxt tabs": (savetxt(X, fmt="%g", delimiter="\t"), X),
    "minus zero": ("-0.0,1,1\n-0,0,1e0\n", [[0, 1, 1], [0, 0, 1]]),
    "pandas": (pandas(X, header=NUMBERS, index=range(4)), X),
    "pandas names": (pandas(X, header=NAMES, index=range(4)), X),
    "pandas index=False": (pandas(X, header=NUMBERS), X),
    "pandas names index=False": (pandas(X, header=NAMES), X),
    "pandas header=False": (pandas(X, index=range(4)), X),
    "pandas header=False of a part": (pandas(X, index=SHUFFLED), X),
    "pandas bare": (pandas(X), X),
    "pandas index_label": (pandas(X, header=NUMBERS, index=range(4), label="id"), X),
    "pandas index_label names": (pandas(X, header=NAMES, index=SHUFFLED, label="id"), X),
    "pandas words as index": (pandas(X, header=NAMES, index=["v", "w", "x", "y"]), X),
    "pandas bool": (pandas(X, header=NUMBERS, index=range(4), values=boolean), X),
    "pandas bool bare": (pandas(X, values=boolean), X),
    "pandas float": (pandas(X, header=NUMBERS, values=lambda v: f"{v:.1f}"), X),
    "pandas tabs": (pandas(X, header=NUMBERS, index=range(4), sep="\t"), X),
    "pandas blanks": (pandas(X, header=NUMBERS, index=range(4), sep=" "), X),
    "pandas two columns": (pandas(X[:, :2], header=NUMBERS[:2], index=range(4)), X[:, :2]),
    "pandas two bool columns": (pandas(X[:, :2], header=NUMBERS[:2], values=boolean), X[:, :2]),
    "pandas two float columns": (
        pandas(X[:, :2], header=NUMBERS[:2], values=lambda v: f"{v:.1f}"),
        X[:, :2],
    ),
    "pandas QUOTE_NONNUMERIC": (pandas(X[:, :2], header=['"0"', '"1"']), X[:, :2]),
    "pandas a column": (pandas(ONE_COLUMN, header=["0"], index=range(4)), ONE_COLUMN),
    "pandas a column bare, index": (pandas(ONE_COLUMN, index=range(4)), ONE_COLUMN),
    "a column": ("1\n0\n1\n", [[1], [0], [1]]),
    "pandas two rows": (pandas(X[:2], header=NUMBERS, index=range(2)), X[:2]),
    "names with separators": ('"a;b","c, d","e\tf"\n0,1,1\n1,0,1\n', X[:2]),
    "names with blanks": ("my a,my b,my c\n0,1,1\n1,0,1\n", X[:2]),
    "names in other letters": ("größe,длина,長さ\n0,1,1\n1,0,1\n", X[:2]),
    "names in Latin-1": ("größe,b,c\n0,1,1\n".encode("latin-1"), X[:1]),
    "one-hot names": ("red_0,red_1,1st\n0,1,1\n", X[:1]),
    "R": (r_table(X), X),
    "R row.names=F": (r_table(X, row_names=False), X),
    "R col.names=F": (r_table(X, col_names=False), X),
    "R bare": (r_table(X, row_names=False, col_names=False), X),
    "R write.csv": (r_table(X, sep=",", corner=('""',)), X),
    "R write.csv2": (r_table(X, sep=";", corner=('""',)), X),
    "R logical": (r_table(X, values=lambda v: str(bool(v)).upper()), X),
    "R tabs": (r_table(X, sep="\t"), X),
    "csvwrite": ("0,1,1\n1,0,1\n", X[:2]),
    "save -ascii": ("".join("".join(f"   {v:.7e}" for v in row) + "\n" for row in X.tolist()), X),
    "writetable": ("Var1,Var2,Var3\n0,1,1\n1,0,1\n", X[:2]),
    "Octave": ("# Created by Octave\n# name: x\n# type: matrix\n 0 1 1\n 1 0 1\n\n\n", X[:2]),
    "1, 2, 3": ("1,2,3\n0,1,1\n1,0,1\n", X[:2]),
    "Excel": (excel(X), X),
    "Excel sep=": (b"sep=;\r\n" + excel(X)[3:], X),
    "decimal commas": ("0,0;1,0;1,0\n1,0;0,0;1,0\n", X[:2]),
    "all quoted": ('"0","1","1"\n"1","0","1"\n', X[:2]),
    "tabs at the ends": ("0\t1\t1\t\n1\t0\t1\t\n", X[:2]),
    "tabs and blanks": ("0 1\t1\n1 0\t1\n", X[:2]),
    "printf": ("0 1 1 \n1 0 1 \n", X[:2]),
    "Julia": ("true\tfalse\ttrue\nfalse\tfalse\ttrue\n", [[1, 0, 1], [0, 0, 1]]),
}


@pytest.mark.parametrize("ending", [".csv", ".ts.data"])
@pytest.mark.parametrize("case", READ)
def test_what_is_read(home, case, ending):
    raw, expected = READ[case]
    path = home / f"x{ending}"
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    np.testing.assert_array_equal(files.read_parts(path).arrays[0], expected)
    assert data.peek_width(path) == np.shape(expected)[1]


UNCLEAR = (
    "which may be a row or column numbers: save the table as .npy, or with a line of names above"
)
REFUSED = {
    "pandas of two columns": (pandas(X[:, :2], header=NUMBERS[:2]), f"line 1 is '0,1', {UNCLEAR}"),
    "rows that begin so": ("0,1\n1,1\n0,1\n", f"line 1 is '0,1', {UNCLEAR}"),
    "semicolons": ("0;1\n1;1\n", f"line 1 is '0;1', {UNCLEAR}"),
    "blanks": ("0 1\n1 1\n", f"line 1 is '0 1', {UNCLEAR}"),
    "two columns the other way round": ("1,0\n1,1\n0,1\n", f"line 1 is '1,0', {UNCLEAR}"),
    "a column": (
        "0\n1\n1\n",
        f"line 1 is '0', {UNCLEAR} it, such as a (pandas: to_csv(header=['a']",
    ),
    "behind a comment": ("# made by me\n0,1\n1,1\n", f"line 2 is '0,1', {UNCLEAR}"),
    "quoted": ('"0","1"\n"1","1"\n', 'line 1 is \'"0","1"\''),
    "labels": (
        "1,0,0\n5,1,1\n5,0,1\n",
        "line 2, value 1 is '5'; only 0 and 1 are bits; if the first column",
    ),
    "labels last": ("0,1,7\n1,1,7\n", "line 1, value 3 is '7'; only 0 and 1"),
    "words as index": (
        pandas(X, header=NAMES, index=list("vwxy"), label="id"),
        "line 2, value 1 is 'v'; only 0 and 1 are bits; if the first column holds labels or names of rows",
    ),
    "an index that repeats": (
        pandas(np.tile(X, (5, 1)), index=[*range(19), 3]),
        "line 20, value 1 is '3'; the first column has neither bits nor a new number for each row",
    ),
    "an index that ends": (
        pandas(np.tile(X, (5, 1)), index=[*range(19), "total"]),
        "line 20, value 1 is 'total'; the first column has neither bits nor a new number",
    ),
    "NaN of pandas": (
        "a,b,c\n0,,1\n",
        "line 2, value 2 is ''; a value is missing between two commas",
    ),
    "NaN of pandas, tabs": (
        "a\tb\tc\n0\t\t1\n",
        "a value is missing between two tabs, as pandas writes",
    ),
    "NA of R": ('"V1" "V2"\n0 NA\n', "line 2, value 2 is 'NA'; a missing value"),
    "half a header": ("x,1,1\n0,1,1\n", "line 1, value 1 is 'x'; only 0 and 1 are bits"),
    "a hole in a header": ("a,,b\n0,1,1\n", "line 1, value 1 is 'a'"),
    "a long header": (
        "a,b,c,d\n0,1,1\n",
        "value 1 is 'a'; only 0 and 1, or True and False, are bits; a header has",
    ),
    "a header of missing values": (
        "NA,NaN,null\n0,1,1\n",
        "line 1, value 1 is 'NA'; a missing value",
    ),
    "NA alone": ("NA,NA,NA\n0,1,1\n", "line 1, value 1 is 'NA'; a missing value"),
    "another separator": ("1,0,1\n" * 3 + "1;0,1\n", "line 4, value 1 is '1;0'"),
    "a row without its name": (",a,b\n0,1,1\n1,1\n", "line 3 has 2 values, the one before 3"),
    "names in the middle": ("a,b\n0,1\na,b\n1,1\n", "line 3, value 1 is 'a'"),
    "a bad row below names": ("a,b\n0,1\n1,2\n", "line 3, value 2 is '2'; only 0 and 1"),
    "a short header of numbers": ("0 1\n1 0 1\n", "line 2 has 3 values, the one before 2;"),
    "LIBSVM": ("+1 3:1 11:1\n", "value 2 is '3:1'; LIBSVM's format: the name of the file"),
    "a quote without end": ('"a,b\n0,1\n', "cannot be read: unexpected end of data"),
    "a quote below": ('0,0\n1,1\n"0,1\n', "cannot be read: unexpected end of data"),
    "old Mac": ("0,1\r1,1\r", "line 1 has a carriage return inside"),
    "a workbook": (
        b"PK\x03\x04" + bytes(30),
        "is a zip archive or a workbook; save the table itself",
    ),
    "UTF-16": ("0,1\n1,1\n".encode("utf-16"), "is text in UTF-16; save it as UTF-8"),
    "an array": (b"\x93NUMPY\1\0", "its name must end in .npy"),
    "HDF5": (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
    "bytes as words": ("b'0',b'1'\nb'1',b'1'\n", "line 2, value 1 is \"b'1'\"; only 0 and 1"),
    "a blank line": ("a,b\n0,1\n\n1,1\n", "line 3 is empty"),
    "rests of a spreadsheet": (
        "1;1\n0;1\n;\n",
        "line 3, value 1 is ''; a value is missing between two semi",
    ),
    "comments alone": ("# nothing\n", "is empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(home, case):
    raw, message = REFUSED[case]
    path = home / "x.csv"
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    for read in (files.read_parts, splits.read):
        with pytest.raises(DataError) as caught:
            read(path)
        assert message in str(caught.value)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def quoted(x):
    stream = io.StringIO()
    csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([NAMES[:1] * x.shape[1], *x.tolist()])
    return stream.getvalue()


WRITERS = [
    lambda x: pandas(x, header=[str(j) for j in range(x.shape[1])], index=range(len(x))),
    lambda x: pandas(x, header=[f"x{j}" for j in range(x.shape[1])], values=boolean, sep=";"),
    lambda x: pandas(x, index=[7 * i % 101 for i in range(len(x))], sep="\t"),
    lambda x: r_table(x),
    lambda x: r_table(x, sep=",", corner=('""',), values=lambda v: str(bool(v)).upper()),
    lambda x: r_table(x, col_names=False),
    lambda x: savetxt(x, header="any").decode(),
    quoted,
]


@pytest.mark.parametrize("ending", [".dat", ".amat.gz"])
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    x=st.tuples(st.integers(3, 25), st.integers(1, 19)).flatmap(
        lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1))
    ),
    write=st.sampled_from(WRITERS),
    end=st.sampled_from(["\n", "\r\n"]),
    bom=st.sampled_from([b"", lines.BOM]),
)
def test_written_tables_read_back_equal(home, ending, x, write, end, bom):
    path = home / f"x{ending}"
    raw = bom + write(x).replace("\r\n", "\n").replace("\n", end).encode()
    path.write_bytes(gzip.compress(raw, mtime=0) if ending.endswith(".gz") else raw)
    np.testing.assert_array_equal(files.read_parts(path).arrays[0], x)
    assert data.peek_width(path) == x.shape[1]


def test_what_was_left_out_is_said_by_line_and_content(home):
    path = home / "x.csv"
    path.write_text("# made by me\n" + pandas(np.tile(X, (3, 1)), header=NAMES, index=range(12)))
    *read, cut = data.load("file", str(path)).notes
    assert read == [
        f"{path}: line 2, ',a,b,c', holds names and is no row",
        f"{path}: the first column ('0', ..) names the rows and is left out",
    ]
    assert cut.startswith(f"{path}: one table of 12 rows, shuffled by RandomState(0) and cut")
    path = home / "x\x1b[2J\n.csv"
    path.write_text('"a\x1b[2J","b"\n' + "0,0\n" * 10)
    assert not {"\x1b", "\n"} & set("".join(data.load("file", str(path)).notes))


@pytest.mark.parametrize("ending", files.PACKED)
def test_every_ending_and_its_gz(home, ending):
    rows = np.tile(X[:3], (4, 1))
    if ending == ".npy":
        stream = io.BytesIO()
        np.save(stream, rows)
        raw = stream.getvalue()
    elif ending in files.LIBSVM:
        ones = [" ".join(f"{j + 1}:1" for j in np.flatnonzero(row)) for row in rows]
        raw = "".join(f"-1 {row}\n" for row in ones).encode()
    else:
        raw = pandas(rows, header=NAMES).encode()
    (home / f"x{ending}").write_bytes(raw)
    (home / f"x{ending}.gz").write_bytes(gzip.compress(raw, mtime=0))
    for name in (f"x{ending}", f"x{ending}.gz"):
        np.testing.assert_array_equal(files.read_parts(home / name).arrays[0], rows)
        assert data.peek_width(home / name) == 3
        assert len(data.load("file", str(home / name)).test) == 1


@pytest.mark.parametrize("raw", [b"1,1\n" * 3000, b"\n" * 9000, b"#\n" * 5000, b"1" * 9000])
def test_a_gz_that_inflates_beyond_the_limit_is_left_alone(home, monkeypatch, raw):
    monkeypatch.setattr(archive, "LIMIT", 8000)
    path = home / "x.csv.gz"
    path.write_bytes(gzip.compress(raw, mtime=0))
    with pytest.raises(DataError, match=r"inflates to more than 8000 bytes"):
        files.read_parts(path)


def test_comments_and_blank_lines_have_an_end(home):
    path = home / "x.csv"
    for line in (b"#\n", b"\n"):
        path.write_bytes(b"1,1\n" + line * (lines.MOST_SKIPPED + 1))
        with pytest.raises(DataError, match="blank or comments"):
            files.read_parts(path)


@pytest.mark.parametrize(
    "name", ["x.npz.gz", "x.mat.gz", "x.gz", "x.csv.bz2", "x.csv.gz.gz", "csv"]
)
def test_other_endings_are_refused_with_those_that_there_are(home, name):
    (home / name).write_bytes(b"1,1\n" * 10)
    with pytest.raises(DataError, match=r"one of \.npz, .* with \.gz behind"):
        files.read_parts(home / name)


def test_a_damaged_gz(home):
    path = home / "x.csv.gz"
    whole = gzip.compress(b"1,1\n1,0\n" * 1000, mtime=0)
    for raw in (whole[:-9], whole[:20], b"1,1\n", b""):
        path.write_bytes(raw)
        with pytest.raises(DataError, match=r"damaged, or not a text|Not a gzipped file|is empty"):
            files.read_parts(path)


def test_matlab(home):
    path = home / "x.mat"
    for name, matrix in (("X", X), ("anything", X.astype(float)), ("b", X.astype(bool))):
        scipy.io.savemat(path, {name: matrix}, do_compression=name == "X")
        np.testing.assert_array_equal(files.read_parts(path).arrays[0], X)
        assert data.peek_width(path) == 3
    scipy.io.savemat(path, {"X": scipy.sparse.csc_matrix(X.astype(float)), "words": ["a"]})
    np.testing.assert_array_equal(files.read_parts(path).arrays[0], X)
    scipy.io.savemat(path, {"m": X}, format="4")
    np.testing.assert_array_equal(files.read_parts(path).arrays[0], X)
    scipy.io.savemat(path, {"X": X, "y": X[:, :1]})
    assert files.read_parts(path).notes == ("y left out beside X",)


@pytest.mark.parametrize(
    "names", [("train", "valid", "test"), ("train_data", "val_data", "test_data")]
)
@pytest.mark.parametrize("ending", [".mat", ".npz"])
def test_splits_under_the_names_that_others_give(home, names, ending):
    path = home / f"x{ending}"
    held = dict(zip(names, (X, X[:2], X[2:]), strict=True)) | {"train_labels": X[:, 0]}
    (scipy.io.savemat if ending == ".mat" else lambda p, a: np.savez(p, **a))(path, held)
    got = data.load("file", str(path))
    np.testing.assert_array_equal(got.valid, X[:2])
    assert got.cut is None
    (note,) = got.notes
    assert note.startswith(f"{path}: train_labels left out beside train")


CELLS = np.empty((1, 2), dtype=object)
CELLS[:] = [[X, X[:2]]]
MATLAB = {
    "two": ({"a": X, "b": X}, "holds a, b; needed are train, valid and test, or one array x"),
    "one split": ({"train": X}, "holds train; needed are train, valid and test, all three"),
    "grey": ({"X": X * 7}, "X: row 0, column 1 is 7; only 0 and 1"),
    "complex": ({"X": X * 1j}, "X holds complex128, not real numbers"),
    "words": ({"X": np.array(["a", "b"])}, "X is of class char; needed is a matrix of 0 and 1"),
    "cells": (
        {"X": CELLS},
        "X is of class cell; needed is a matrix of 0 and 1 (MATLAB: X = cell2mat(X))",
    ),
    "cells beside labels": ({"X": CELLS, "y": X[:, :1]}, "X is of class cell"),
    "a split of cells": ({"train": X, "val": CELLS, "test": X}, "val is of class cell"),
    "a struct": (
        {"s": {"a": X}},
        "s is of class struct; needed is a matrix of 0 and 1 (MATLAB: save(.., '-s",
    ),
    "a cube": ({"X": X.reshape(2, 2, 3)}, "flatten it with x.reshape(len(x), -1)"),
    "a huge one": ({"X": scipy.sparse.csc_matrix((10**6, 10**6))}, "claims 8000000000000 bytes"),
}


@pytest.mark.parametrize("case", MATLAB)
def test_what_is_refused_of_matlab(home, case):
    held, message = MATLAB[case]
    scipy.io.savemat(home / "x.mat", held)
    for read in (files.read_parts, data.peek_width):
        if read is files.read_parts or " is of class " in message:
            with pytest.raises(DataError) as caught:
                read(home / "x.mat")
            assert message in str(caught.value)


@pytest.mark.parametrize(("form", "packed"), [("5", False), ("5", True), ("4", False)])
def test_a_matlab_file_that_ends_early_is_damaged(home, form, packed):
    path = home / "x.mat"
    scipy.io.savemat(path, {"X": np.tile(X, (9, 9))}, format=form, do_compression=packed)
    whole = path.read_bytes()
    for end in (0, 10, 100, 130, 160, len(whole) - 20):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"x\.mat: damaged, or not a MATLAB file \("):
            files.read_parts(path)


def test_matlab_7_3_is_one_clear_line(home):
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    (home / "x.mat").write_bytes(head.ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n" + bytes(90))
    for read in (files.read_parts, data.peek_width):
        with pytest.raises(DataError, match=r"version 7\.3, which is HDF5; save it with save"):
            read(home / "x.mat")


def test_libsvm_leaves_labels_out_and_says_so(home):
    path = home / "x.svm"
    path.write_text("# a9a\n+1 3:1.0 2:1 # in any order\n-1 1:1 3:1\n1 1:1 2:1\n0\n")
    parts = files.read_parts(path)
    np.testing.assert_array_equal(parts.arrays[0], X)
    assert parts.notes == ("labels left out; 3 features, the largest that a row names",)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            "1 0:1 2:1\n",
            "line 1 has '0:1'; features are counted from 1 (scikit-learn: dump_svmlight_file",
        ),
        ("1 2:1\n1 1:0.5\n", "line 2 has '1:0.5'; only 0 and 1 are bits"),
        ("1 qid:3 2:1\n", "line 1 has 'qid:3'"),
        ("1:1 2:1\n", "line 1 begins with '1:1'; a label is due"),
        ("1 -2:1\n", "line 1 has '-2:1'"),
        ("1 2\n", "line 1 has '2'"),
        ("1 3:1 3:1\n", "line 1 names feature 3 twice; once is right"),
        ("1 1:1\n0 3:1 2:1 03:0\n", "line 2 names feature 3 twice"),
        ("1\n0\n", "has no features"),
        ("1 999999999:1\n" * 5, "claims 5 rows of 999999999 features"),
        ("1 9999999999999999999:1\n", "line 1 has '9999999999999999999:1'"),
    ],
)
def test_what_is_refused_of_libsvm(home, raw, message):
    (home / "x.libsvm").write_text(raw)
    with pytest.raises(DataError) as caught:
        files.read_parts(home / "x.libsvm")
    assert message in str(caught.value)


def test_libsvm_splits_are_as_wide_as_the_widest(home):
    for name, raw in (("a.svm", "1 3:1\n"), ("b.svm", "1 1:1\n"), ("c.svm", "1 2:1\n")):
        (home / name).write_text(raw)
    got = splits.read_three((home / "a.svm", home / "b.svm", home / "c.svm"))
    assert [rows.tolist() for rows in got[:3]] == [[[0, 0, 1]], [[1, 0, 0]], [[0, 1, 0]]]


def test_libsvm_has_bits_as_tables_have_them(home):
    (home / "x.svm").write_text("1 1:true 2:1,0 3:1e0 4:+1 5:False 6:0,0 7:1.\n")
    assert files.read_parts(home / "x.svm").arrays[0].tolist() == [[1, 1, 1, 1, 0, 0, 1]]


@pytest.mark.parametrize(
    "names",
    [
        ("x.train.data", "x.valid.data", "x.ts.data"),
        ("x_train.amat", "x_valid.amat", "x_test.amat"),
        ("x-train.csv.gz", "x-val.csv.gz", "x-test.csv.gz"),
        ("x.train.csv", "x.dev.csv", "x.test.csv"),
    ],
)
def test_files_of_splits_beside_each_other_are_three_splits(home, names):
    for name, rows in zip(names, (X, X[:2], X[2:]), strict=True):
        raw = pandas(rows).encode()
        (home / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    got = data.load("file", str(home / names[0]))
    for rows, expected in zip((got.train, got.valid, got.test), (X, X[:2], X[2:]), strict=True):
        np.testing.assert_array_equal(rows, expected)
    assert got.cut is None
    assert got.notes == (
        f"{home / names[0]}: train; valid and test are {names[1]} and {names[2]} beside it",
    )
    made = data.import_file(home / names[0], "mine")
    np.testing.assert_array_equal(data.load("mine", str(made.data)).test, X[2:])
    (home / names[1]).unlink()  # with one of them alone, the other would be ignored
    lacking = re.sub(r"(val|dev)\.", "valid.", names[1])
    with pytest.raises(
        DataError, match=f"{names[2]} is beside it, but no {lacking}; splits are three"
    ):
        data.load("file", str(home / names[0]))
    (home / names[2]).rename(home / names[1])
    lacking = re.sub(r"ts\.", "test.", names[2])
    with pytest.raises(
        DataError, match=f"{names[1]} is beside it, but no {lacking}; splits are three"
    ):
        data.load("file", str(home / names[0]))
    (home / names[1]).unlink()
    with pytest.raises(DataError, match="has 4 rows; at least 10"):  # without them it is cut
        data.load("file", str(home / names[0]))


def test_a_cut_is_said_of_the_file_and_of_its_import(home):
    (home / "x.csv").write_text("1,1\n0,1\n" * 10)
    said = []
    made = data.import_file(home / "x.csv", "mine", say=said.append)
    cut = (
        "one table of 20 rows, shuffled by RandomState(0) and cut 80/10/10: "
        "16 train, 2 valid, 2 test"
    )
    own = "for splits of your own: .npz with train, valid, test, or bihm-data import --valid --test"
    assert said == [f"{home / 'x.csv'}: {cut}; {own}"]
    for path in (None, str(made.data)):
        got = data.load("mine", path)
        assert (got.cut, got.notes) == (cut, (f"mine: {cut}, when it was imported",))
    made.about.write_text("{}")  # only `bihm-data check` needs it
    assert data.load("mine", str(made.data)).cut is None
    np.savez(home / "three.npz", train=X, valid=X, test=X)
    got = data.load("file", str(home / "three.npz"))
    assert (got.cut, got.notes) == (None, ())
    assert data.load("digits").cut is None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("0,1\n", [0, 1]),
        ("0\n1\n", [0, 1]),
        ("0,1\n1,0\n", [1, 0]),  # column numbers, since two bits are due
        ("0\n1\n0\n", [1, 0]),
        ("a,b\n0,1\n", [0, 1]),
        ("False;True\n", [0, 1]),
    ],
)
def test_the_size_of_a_mask_tells_a_header_from_a_row(home, raw, expected):
    (home / "m.tsv.gz").write_bytes(gzip.compress(raw.encode()))
    np.testing.assert_array_equal(observed_pixels(str(home / "m.tsv.gz"), 2, None), expected)
    scipy.io.savemat(home / "m.mat", {"mask": np.array([expected])})
    np.testing.assert_array_equal(observed_pixels(str(home / "m.mat"), 2, None), expected)


def test_an_unclear_mask_of_another_size_is_refused(home):
    (home / "m.csv").write_text("0,1\n1,0\n1,0\n1,0\n")
    with pytest.raises(DataError, match="may be a row or column numbers"):
        observed_pixels(str(home / "m.csv"), 5, None)


def test_bare_digits_are_read_in_any_order_of_layouts(home):
    """The quick way and the slow way through a line agree."""
    path = home / "x.csv"
    path.write_text("1,0,1\n1, 0, 1\n1.0,0,1\n1,0,1\n")
    np.testing.assert_array_equal(text.read(path).rows, [[1, 0, 1]] * 4)
