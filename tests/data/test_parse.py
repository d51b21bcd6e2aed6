"""Parsers: each format gives the same rows, and a bad download names its file."""

import gzip

import numpy as np
import pytest
from data_server import BITS, PACKED, RANDOM, ROWS, N, catalogue, csv_bits

from bihm.data import archive, parse
from bihm.data.catalogue import File, Source
from bihm.errors import DataError


def parsed(tmp_path, form: str, contents: dict[str, bytes], **fields) -> dict[str, np.ndarray]:
    """What bihm.data.parse makes of files {split: bytes} in a format."""
    files = []
    for split, raw in contents.items():
        (tmp_path / split.replace("+", "_")).write_bytes(raw)
        files.append(File(f"x/{split.replace('+', '_')}", split, len(raw), None, None))
    source = Source("here", form, tuple(files))
    return parse.parse(catalogue(source)["tiny"]._replace(**fields), source, tmp_path)


def assert_tiny(arrays: dict[str, np.ndarray]) -> None:
    for split, packed in PACKED.items():
        np.testing.assert_array_equal(arrays[split], packed)
    assert arrays["n_features"] == N


def libsvm(bits: np.ndarray) -> bytes:
    lines = ["+1 " + " ".join(f"{i + 1}:1" for i in np.flatnonzero(row)) for row in bits]
    return ("\n".join(lines) + "\n").encode()


def saved(path, save, *args, **kwargs) -> bytes:
    save(path, *args, **kwargs)
    return path.read_bytes()


def test_parsers_agree(tmp_path):
    from scipy.io import savemat

    assert_tiny(parsed(tmp_path, "csv-bits", {s: csv_bits(b) for s, b in BITS.items()}))
    assert_tiny(parsed(tmp_path, "amat", {s: csv_bits(b, " ") for s, b in BITS.items()}))
    assert_tiny(parsed(tmp_path, "libsvm", {s: libsvm(b) for s, b in BITS.items()}))
    floats = {f"{s}_data": b.astype(np.float32) for s, b in BITS.items()}
    raw = saved(tmp_path / "made.npz", np.savez, **floats)
    assert_tiny(parsed(tmp_path, "npz", {"all": raw}))
    single = {s: saved(tmp_path / "m.mat", savemat, {"X": b}) for s, b in BITS.items()}
    assert_tiny(parsed(tmp_path, "mat", single))
    theirs = {"train": "train", "valid": "val", "test": "test"}
    matrices = {f"{theirs[s]}_data": b for s, b in BITS.items()}
    labels = {f"{theirs[s]}_labels": b[:, :1] for s, b in BITS.items()}
    raw = saved(tmp_path / "m.mat", savemat, {**matrices, **labels}, do_compression=True)
    arrays = parsed(tmp_path, "mat", {"all": raw})
    assert_tiny(arrays)
    np.testing.assert_array_equal(arrays["y_valid"], BITS["valid"][:, 0])


def test_train_and_valid_of_web_are_one_permuted_file(tmp_path):
    both = np.concatenate([BITS["train"], BITS["valid"]])
    files = {"train+valid": libsvm(both), "test": libsvm(BITS["test"])}
    arrays = parsed(tmp_path, "libsvm", files)
    shuffled = both[np.random.RandomState(0).permutation(len(both))]
    np.testing.assert_array_equal(arrays["train"], archive.pack(shuffled[: ROWS["train"]]))
    np.testing.assert_array_equal(arrays["valid"], archive.pack(shuffled[ROWS["train"] :]))


def idx(array: np.ndarray) -> bytes:
    sizes = np.array(array.shape, dtype=">u4").tobytes()
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes(), mtime=0)


def test_idx(tmp_path):
    images = RANDOM.integers(0, 256, (3, 4, 5), dtype=np.uint8)
    files = {"x_train": idx(images), "y_train": idx(images[:, 0, 0])}
    arrays = parsed(tmp_path, "idx.gz", files, sha256={"x_train": None})
    np.testing.assert_array_equal(arrays["x_train"], images)
    np.testing.assert_array_equal(arrays["y_train"], images[:, 0, 0])
    assert "n_features" not in arrays


@pytest.mark.parametrize(
    ("form", "raw", "message"),
    [
        ("csv-bits", b"", "are no rows"),
        ("csv-bits", csv_bits(BITS["test"])[:-1], "are no rows"),
        ("csv-bits", csv_bits(BITS["test"], " "), "not separated by ','"),
        ("amat", csv_bits(BITS["test"] + 1, " "), "only 0 and 1"),
        ("libsvm", b"1 12:1\n", "line 1 has 12:1; the features are 1 to"),
        ("libsvm", b"1 0:1\n", "line 1 has '0:1'; features are counted from 1"),
        ("libsvm", b"1 1:1\n1 2:0.5\n", "line 2 has '2:0.5'; only 0 and 1"),
        ("libsvm", b"1 x:1\n", "line 1 has 'x:1'; a feature is written as i:1"),
        ("npz", b"PK", "damaged"),
        ("mat", b"\0" * 200, "damaged"),
        ("idx.gz", b"\0" * 20, "gzip"),
        ("idx.gz", gzip.compress(b"\0\0\x08\x02", mtime=0), "not an IDX file"),
        (
            "idx.gz",
            gzip.compress(b"\0\0\x08\x01\0\0\0\x09" + b"x" * 8, mtime=0),
            "does not hold the 9",
        ),
        ("idx.gz", gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12, mtime=0), "the limit is"),
    ],
)
def test_bad_downloads_name_their_file(tmp_path, form, raw, message):
    with pytest.raises(DataError, match=message) as caught:
        parsed(tmp_path, form, {"test": raw})
    assert str(caught.value).startswith(str(tmp_path / "test"))
