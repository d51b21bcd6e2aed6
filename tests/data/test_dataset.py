"""Named datasets: what load returns, what it refuses, and what is pinned about them."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from bihm import data
from bihm.data import archive, bars, parse
from bihm.data.catalogue import SPLITS, catalogue
from bihm.data.dataset import HERE
from bihm.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parent.parent.parent
REAL = os.environ.get("BIHM_DATA")
needs_data = pytest.mark.skipif(not REAL, reason="BIHM_DATA is not set")
INTERFACE = [
    *("digits", "bars", "binarized_mnist", "mnist", "caltech101_silhouettes", "adult", "connect4"),
    *("dna", "mushrooms", "nips", "ocr_letters", "rcv1", "web"),
    *("nltcs", "plants", "jester", "baudio", "bnetflix", "accidents"),
]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user with an empty cache and an empty $BIHM_DATA."""
    monkeypatch.setenv("BIHM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BIHM_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path


def stored(name: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays of the right shapes for `name`, with wrong contents."""
    wanted = data.entry(name)
    random = np.random.default_rng(seed)
    arrays = {
        split: archive.pack(random.integers(0, 2, (wanted.rows[split], wanted.n_features)))
        for split in SPLITS
    }
    return {**arrays, "n_features": np.array(wanted.n_features)}


def test_names_are_those_of_the_interface():
    assert set(INTERFACE) <= set(data.names())


@pytest.mark.parametrize("name", data.names())
def test_catalogue_is_complete(name):
    wanted = data.entry(name)
    assert set(wanted.rows) == set(SPLITS)
    assert wanted.licence
    assert wanted.citation
    assert all(source.format in parse.PARSERS for source in wanted.sources)
    for file in (file for source in wanted.sources for file in source.files):
        assert file.bytes > 0
        assert file.sha256 or file.git_blob_sha1
    for hashed in [*wanted.sha256.values(), *wanted.order_free_sha256.values()]:
        assert hashed is None or len(bytes.fromhex(hashed)) == 32
    unseen = {key for key, pinned in wanted.sha256.items() if pinned is None}
    assert unseen == ({"train", "test"} if name == "rcv1" else set())


@pytest.mark.parametrize("name", data.names())
def test_every_name_has_its_config(name):
    wanted = data.entry(name)
    shape = "null" if wanted.image_shape is None else str(list(wanted.image_shape))
    text = f"name: {name}\nn_features: {wanted.n_features}\nimage_shape: {shape}\npath: null\n"
    assert (ROOT / "configs" / "dataset" / f"{name}.yaml").read_text() == text


def test_no_config_without_a_name():
    found = {path.stem for path in (ROOT / "configs" / "dataset").glob("*.yaml")}
    assert found == {*data.names(), "file"}


def test_digits(home):
    digits = data.load("digits")
    assert [len(rows) for rows in (digits.train, digits.valid, digits.test)] == [1397, 200, 200]
    assert digits.n_features == 64
    assert digits.image_shape == (8, 8)
    assert not digits.grey
    assert digits.train.dtype == np.uint8
    assert set(np.unique(digits.train)) == {0, 1}


def test_digits_are_what_the_script_makes(monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "reproduce"))
    made = __import__("make_digits").make()
    sys.modules.pop("make_digits")
    held = archive.read_npz(HERE / "digits.npz")
    assert set(held) == set(made)
    for key, array in made.items():
        np.testing.assert_array_equal(held[key], array)


def test_bars_distribution_is_the_coin_and_four_bars():
    states, p = data.bars_distribution()
    want: dict[bytes, float] = {}
    for orientation in (0, 1):
        for pattern in range(16):
            image = np.zeros((4, 4), dtype=np.uint8)
            for bar in range(4):
                if pattern >> bar & 1:
                    (image if orientation == 0 else image.T)[bar] = 1
            want[image.tobytes()] = want.get(image.tobytes(), 0.0) + 1 / 32
    assert {s.tobytes(): q for s, q in zip(states, p.tolist(), strict=True)} == want
    entropy = -sum(q * np.log(q) for q in want.values())
    np.testing.assert_allclose(data.BARS_ENTROPY, entropy, rtol=1e-12)


def test_bars_rows_follow_the_distribution(home):
    rows = data.load("bars").train
    states, p = data.bars_distribution()
    counts = np.array([(rows == state).all(axis=1).sum() for state in states])
    assert counts.sum() == len(rows) == bars.ROWS["train"]
    sem = np.sqrt(p * (1 - p) * len(rows))
    assert (np.abs(counts - p * len(rows)) < 5 * sem).all()


def test_missing_says_command_and_folders(home):
    with pytest.raises(DataError, match="bihm-data fetch nltcs") as caught:
        data.load("nltcs")
    assert str(home / "data") in str(caught.value)
    assert str(home / "cache" / "data") in str(caught.value)


def test_unknown_name_is_a_config_error_with_a_hint():
    with pytest.raises(ConfigError, match="did you mean binarized_mnist"):
        data.load("binarised_mnist")


def test_file_needs_a_path():
    with pytest.raises(ConfigError, match=r"dataset\.path"):
        data.load("file")


def test_wrong_rows_are_refused_by_file_and_split(home):
    path = home / "data" / "nltcs.npz"
    np.savez(path, **stored("nltcs"))
    with pytest.raises(DataError, match=r"nltcs\.npz: train is not nltcs's"):
        data.load("nltcs")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": np.zeros((3, 2), np.uint8)}, "train is uint8 .3, 2.; nltcs has"),
        ({"valid": np.zeros((2157, 2), np.int64)}, "valid is int64"),
        ({"test": np.zeros((0, 2), np.uint8)}, "test is uint8 .0, 2."),
        ({"n_features": np.array(15)}, "n_features must be 16"),
        ({"test": None}, "no array 'test'"),
        ({"n_features": None}, "n_features must be 16"),
    ],
)
def test_wrong_shapes_are_refused(home, change, message):
    arrays = {k: v for k, v in {**stored("nltcs"), **change}.items() if v is not None}
    np.savez(home / "data" / "nltcs.npz", **arrays)
    with pytest.raises(DataError, match=message):
        data.load("nltcs")


def pinned(arrays, order_free: bool = True, **fields):
    """A catalogue entry called nltcs that asks for exactly these packed arrays."""
    free = {s: archive.order_free_digest(arrays[s]) for s in SPLITS} if order_free else {}
    return data.entry("nltcs")._replace(
        sha256={s: archive.digest(arrays[s]) for s in SPLITS}, order_free_sha256=free, **fields
    )


def test_another_row_order_is_accepted_only_by_its_order_free_hash(home, monkeypatch):
    arrays = stored("nltcs")
    turned = {**arrays, "test": arrays["test"][::-1]}
    np.savez(home / "data" / "nltcs.npz", **turned)
    for order_free in (True, False):
        entries = {"nltcs": pinned(arrays, order_free)}
        monkeypatch.setattr("bihm.data.catalogue.catalogue", lambda entries=entries: entries)
        if order_free:
            assert len(data.load("nltcs").test) == 3236
        else:
            with pytest.raises(DataError, match="test is not nltcs's"):
                data.load("nltcs")


def test_bihm_data_comes_before_the_cache(home):
    for folder in (home / "cache" / "data", home / "data"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "nltcs.npz").touch()
        assert data.find("nltcs") == folder / "nltcs.npz"


def test_bits_behind_the_last_feature_are_refused_without_a_pinned_hash(home):
    arrays = stored("plants")
    arrays["valid"][5, -1] |= 1
    np.savez(home / "data" / "plants.npz", **arrays)
    with pytest.raises(DataError, match="valid, row 5 has bits behind feature 68"):
        data.load("plants")


@pytest.mark.data
@needs_data
@pytest.mark.parametrize("name", [name for name in INTERFACE if name != "rcv1"])
def test_real_data(name):
    got = data.load(name)
    wanted = data.entry(name)
    for split, rows in zip(SPLITS, (got.train, got.valid, got.test), strict=True):
        assert rows.shape == (wanted.rows[split], wanted.n_features)
        assert rows.max() == (255 if name == "mnist" else 1)
    assert got.grey == (name == "mnist")
    assert got.column_major == (name == "caltech101_silhouettes")


@pytest.mark.data
@needs_data
@pytest.mark.parametrize(
    "name",
    [
        name
        for name, e in catalogue().items()
        if e.sources and e.sources[0].format == "csv-bits" and name != "rcv1"
    ],
)
def test_csv_bits_made_of_real_rows_are_the_pinned_downloads(name, tmp_path):
    import hashlib

    dataset = data.load(name)
    for file in data.entry(name).sources[0].files:
        rows = getattr(dataset, file.split)
        table = np.full((len(rows), 2 * dataset.n_features), ord(","), dtype=np.uint8)
        table[:, ::2] = rows + ord("0")
        table[:, -1] = ord("\n")
        assert table.size == file.bytes
        path = tmp_path / file.path
        path.write_bytes(table.tobytes())
        if file.sha256:
            assert hashlib.sha256(table.tobytes()).hexdigest() == file.sha256
        parsed = parse.PARSERS["csv-bits"](path, file.split, dataset.n_features)
        np.testing.assert_array_equal(parsed[file.split], rows)
