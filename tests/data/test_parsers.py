"""Whatever is in a file or a word, the parsers read it or refuse it: they never raise anything else."""

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
from cases import rare
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from omegaconf import OmegaConf
from scipy.io import savemat

from bihm.cli.keyvalue import parse as parse_words
from bihm.config.machine_checks import layer_types
from bihm.config.read import parse as parse_config
from bihm.config.schema import register
from bihm.data import archive, catalogue, files, parse, text
from bihm.errors import BihmError, ConfigError, DataError
from bihm.machine.layer_sizes import layer_sizes
from bihm.machine.layers import LAYERS

quick = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
many = settings(quick, max_examples=150)
bits = st.tuples(st.integers(1, 12), st.integers(1, 19)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1))
)


def outcome(kind: type, call, *args):
    """What `call` returns; None if it refuses, in one line, with an error of that kind."""
    try:
        return call(*args)
    except BihmError as error:
        caught = error
    assert type(caught) is kind
    assert "\n" not in str(caught)
    return None


def saved(save, *values, **named) -> bytes:
    stream = io.BytesIO()
    save(stream, *values, **named)
    return stream.getvalue()


def mutated(valid: bytes):
    """The bytes of a valid file after a few of them were changed, cut out or put in."""
    change = st.tuples(st.integers(0, len(valid)), st.integers(0, 9), st.binary(max_size=9))

    def apply(changes) -> bytes:
        raw = valid
        for at, cut, put in changes:
            raw = raw[:at] + put + raw[at + cut :]
        return raw

    return st.lists(change, max_size=4).map(apply)


EYE = np.eye(12, 5, dtype=np.uint8)
VALID = {
    ".npy": saved(np.save, EYE),
    ".npz": saved(np.savez_compressed, train=EYE, valid=EYE, test=EYE),
    ".csv": "\n".join(",".join(map(str, row)) for row in EYE.tolist()).encode(),
}
VALID[".txt"] = VALID[".csv"].replace(b",", b" ")
VALID[".csv.gz"] = parse.gzip.compress(VALID[".csv"], mtime=0)
VALID[".npy.gz"] = parse.gzip.compress(VALID[".npy"], mtime=0)
VALID[".tsv"] = b'"a"\t"b"\n' + b'"7"\tTrue\t0\n"8"\tFALSE\t1.0\n"9"\t1e0\t0\n'
VALID[".svm"] = b"".join(b"1 %d:1\n" % (1 + i % 5) for i in range(12))
VALID[".mat"] = saved(savemat, {"X": EYE, "y": EYE[:, :1]}, do_compression=True)


@pytest.mark.parametrize(
    "ending",
    [".npy", ".npz", ".csv.gz", *rare(*sorted(VALID.keys() - {".npy", ".npz", ".csv.gz"}))],
)
@many
@given(data=st.data())
def test_a_users_file_is_bits_or_a_data_error(tmp_path, ending, data):
    raw = data.draw(st.one_of(st.binary(max_size=300), mutated(VALID[ending])))
    path = tmp_path / f"x{ending}"
    path.write_bytes(raw)
    parts = outcome(DataError, files.read_parts, path)
    for rows in parts.arrays if parts else []:
        assert rows.dtype == np.uint8
        assert rows.ndim == 2
        assert rows.size
        assert set(np.unique(rows)) <= {0, 1}


@many
@given(
    raw=st.one_of(
        st.binary(max_size=99), st.text('012 ,;\t\r\n\ufeff.e+"ab#', max_size=99).map(str.encode)
    )
)
def test_the_width_of_a_text_is_that_of_its_rows(tmp_path, raw):
    path = tmp_path / "x.csv"
    path.write_bytes(raw)
    table = outcome(DataError, text.read, path)
    if table is not None:
        assert text.peek_width(path) == table.rows.shape[1]


@quick
@given(x=bits)
def test_packed_bits_and_archives_read_back_equal(tmp_path, x):
    np.testing.assert_array_equal(archive.unpack(archive.pack(x), x.shape[1]), x)
    archive.write_npz(tmp_path / "x.npz", {"x": x})
    np.testing.assert_array_equal(archive.read_npz(tmp_path / "x.npz")["x"], x)


def source(form: str, *names: str) -> catalogue.Source:
    made = [catalogue.File(f"x/{name}", name, 0, None, None) for name in names]
    return catalogue.Source("here", form, tuple(made))


WANTED = catalogue.entry("nltcs")._replace(n_features=5)


def separated(x: np.ndarray, separator: str) -> bytes:
    return "".join(separator.join(map(str, row)) + "\n" for row in x.tolist()).encode()


def libsvm(x: np.ndarray) -> bytes:
    rows = (" ".join(f"{i + 1}:1" for i in np.flatnonzero(row)) for row in x)
    return "".join(f"1 {row}\n" for row in rows).encode()


WRITERS = {
    "csv-bits": lambda x: separated(x, ","),
    "amat": lambda x: separated(x, " "),
    "libsvm": libsvm,
}
DOWNLOADS = {form: write(EYE) for form, write in WRITERS.items()} | {
    "npz": saved(np.savez, train_data=EYE, valid_data=EYE, test_data=EYE),
    "idx.gz": parse.gzip.compress(b"\0\0\x08\1\0\0\0\5hello", mtime=0),
    "mat": b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + b"\x0e\0\0\0\x30\0\0\0" + bytes(48),
}


@pytest.mark.parametrize("form", DOWNLOADS)
@quick
@given(data=st.data())
def test_a_download_is_rows_or_a_data_error(tmp_path, form, data):
    raw = data.draw(st.one_of(st.binary(max_size=300), mutated(DOWNLOADS[form])))
    (tmp_path / "test").write_bytes(raw)
    wanted = catalogue.entry("mnist") if form == "idx.gz" else WANTED
    got = outcome(DataError, parse.parse, wanted, source(form, "test"), tmp_path)
    assert all(array.dtype.kind in "ui" for array in (got or {}).values())


@pytest.mark.parametrize("form", WRITERS)
@quick
@given(x=bits)
def test_downloads_read_back_equal(tmp_path, form, x):
    (tmp_path / "test").write_bytes(WRITERS[form](x))
    wanted = WANTED._replace(n_features=x.shape[1])
    got = parse.parse(wanted, source(form, "test"), tmp_path)
    np.testing.assert_array_equal(archive.unpack(got["test"], x.shape[1]), x)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
sizes = st.lists(st.integers(-2, 2**40) | plain, max_size=4) | plain


@settings(quick, max_examples=15)
@given(layers=sizes, depth=st.integers(-3, 2**40) | plain)
@example(layers=[[1]], depth=12)
@example(layers=None, depth=10**11)
@example(layers={}, depth=12)
@pytest.mark.long
def test_sizes_are_positive_whole_numbers_or_a_config_error(layers, depth):
    register()
    dataset = {"name": "digits", "n_features": 64}
    raw = OmegaConf.create({"layers": layers, "depth": depth, "dataset": dataset})
    config = outcome(ConfigError, parse_config, raw)
    if config is None:
        return
    assert config.layers is None or config.depth == len(config.layers)
    assert all(type(size) is int and 1 <= size <= 10**6 for size in config.layers or [])


@given(depth=st.integers(1, 40), width=st.integers(1, 10**6))
@settings(quick, max_examples=100)
def test_sizes_by_rule_are_positive_and_a_deeper_machine_only_adds_layers(depth, width):
    made = layer_sizes(depth, width)
    assert len(made) == depth
    assert min(made) >= 10
    assert layer_sizes(depth + 1, width)[:depth] == made


kinds = st.one_of(
    st.sampled_from(sorted(LAYERS)), st.lists(st.sampled_from(sorted(LAYERS)) | plain, max_size=4)
)


@pytest.mark.long
@many
@given(given_=kinds | plain, entries=st.integers(1, 4))
def test_layer_lists_name_one_type_a_layer_or_are_a_config_error(given_, entries):
    types = outcome(ConfigError, layer_types, given_, "p", entries)
    if types is None:
        assert given_ not in list(LAYERS)
        return
    assert len(types) == entries
    assert set(types) <= set(LAYERS)


@dataclass
class Command:
    run: str
    n: int = 1
    split: Literal["valid", "test"] = "test"
    seconds: float | None = None
    quiet: bool = False


value = st.text(max_size=6) | st.integers().map(str) | st.floats().map(repr)
word = st.one_of(
    st.text(max_size=12),
    st.tuples(st.sampled_from(["run", "n", "split", "seconds", "quiet"]), value).map("=".join),
)


@many
@given(words=st.lists(word, max_size=4))
def test_words_are_a_command_or_a_config_error(words):
    if {"-h", "--help"} & set(words):
        return
    command = outcome(ConfigError, parse_words, words, Command, "bihm-x", "usage")
    if command is None:
        return
    assert f"run={command.run}" in words
    assert type(command.n) is int
    assert command.split in ("valid", "test")
    assert command.seconds is None or np.isfinite(command.seconds)


@quick
@given(run=st.text(min_size=1), n=st.integers(-(2**31), 2**32), seconds=st.floats(-1e300, 1e300))
def test_words_read_back_equal(run, n, seconds):
    words = [f"run={run}", f"n={n}", f"seconds={seconds!r}", "quiet=true"]
    assert parse_words(words, Command, "bihm-x", "") == Command(run, n, "test", seconds, True)
