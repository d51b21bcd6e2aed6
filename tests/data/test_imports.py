"""`import_file`: a name, a packed copy and a Hydra config, all or nothing."""

import numpy as np
import pytest

from bihm import data
from bihm.errors import ConfigError, DataError

EYE = np.eye(12, 5, dtype=np.uint8)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BIHM_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_import_gives_a_name_a_config_and_the_same_rows(tmp_path):
    np.savez(tmp_path / "x.npz", train=EYE, valid=EYE[:4], test=EYE[4:])
    made = data.import_file(tmp_path / "x.npz", "mine")
    assert made.data == tmp_path / "cache" / "data" / "mine.npz"
    assert made.config == tmp_path / "cache" / "configs" / "dataset" / "mine.yaml"
    assert made.config.read_text() == (
        f"name: mine\nn_features: 5\nimage_shape: null\npath: {made.data}\n"
    )
    got = data.load("mine", str(made.data))
    np.testing.assert_array_equal(got.train, EYE)
    np.testing.assert_array_equal(got.valid, EYE[:4])
    np.testing.assert_array_equal(got.test, EYE[4:])
    assert got.name == "mine"


def test_import_of_one_feature(tmp_path):
    x = (np.arange(20)[:, None] % 2).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    made = data.import_file(tmp_path / "x.npy", "mine")
    got = data.load("mine", str(made.data))
    rows = np.concatenate([got.train, got.valid, got.test])
    assert (rows.shape, rows.sum()) == ((20, 1), 10)


def test_import_quotes_an_odd_path(tmp_path, monkeypatch):
    monkeypatch.setenv("BIHM_CACHE", str(tmp_path / "a: #b"))
    np.save(tmp_path / "x.npy", EYE)
    made = data.import_file(tmp_path / "x.npy", "mine")
    assert made.config.read_text().endswith(f'path: "{made.data}"\n')


def test_import_of_three_files(tmp_path):
    for name, rows in {"a.csv": EYE, "b.txt": EYE[:2], "c.csv": EYE[2:]}.items():
        np.savetxt(tmp_path / name, rows, fmt="%d", delimiter="," if "csv" in name else " ")
    a, b, c = (tmp_path / name for name in ("a.csv", "b.txt", "c.csv"))
    got = data.load("mine", str(data.import_file(a, "mine", b, c).data))
    np.testing.assert_array_equal(got.valid, EYE[:2])
    with pytest.raises(ConfigError, match="go together"):
        data.import_file(a, "other", b)
    np.savez(tmp_path / "x.npz", train=EYE, valid=EYE, test=EYE)
    with pytest.raises(DataError, match="splits of its own"):
        data.import_file(a, "other", tmp_path / "x.npz", c)
    np.save(tmp_path / "narrow.npy", EYE[:, :4])
    with pytest.raises(DataError, match=r"\[5, 5, 4\] features"):
        data.import_file(a, "other", b, tmp_path / "narrow.npy")


@pytest.mark.parametrize("name", ["", "Mine", "9lives", "a-b", "../x", "a b", "a" * 65, "ä", "a\n"])
def test_import_refuses_names(tmp_path, name):
    np.save(tmp_path / "x.npy", EYE)
    with pytest.raises(ConfigError, match="cannot name a dataset"):
        data.import_file(tmp_path / "x.npy", name)


@pytest.mark.parametrize("name", ["mnist", "digits", "file", "null", "off"])
def test_import_refuses_taken_words(tmp_path, name):
    np.save(tmp_path / "x.npy", EYE)
    with pytest.raises(ConfigError, match="choose another"):
        data.import_file(tmp_path / "x.npy", name)


def test_import_overwrites_only_by_force(tmp_path):
    np.save(tmp_path / "x.npy", EYE)
    np.save(tmp_path / "y.npy", EYE[:, :3])
    data.import_file(tmp_path / "x.npy", "mine")
    with pytest.raises(ConfigError, match="--force"):
        data.import_file(tmp_path / "y.npy", "mine")
    made = data.import_file(tmp_path / "y.npy", "mine", force=True)
    assert data.load("mine", str(made.data)).n_features == 3
    assert "n_features: 3\n" in made.config.read_text()


def test_a_failed_import_leaves_nothing(tmp_path):
    (tmp_path / "x.csv").write_text("0,2\n")
    with pytest.raises(DataError):
        data.import_file(tmp_path / "x.csv", "mine")
    assert not (tmp_path / "cache").exists()
