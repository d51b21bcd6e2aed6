"""Data, names and places that cannot be trusted: one line each, before any memory is filled."""

import os

import numpy as np
import pytest
from cases import rare
from malformed import attempt, check, home, name_of, words_of
from malformed_files import EYE, MADE

from bihm import data

__all__ = ["home"]  # a fixture
USE = "bihm-train dataset=file dataset.path="
LONG = "a" * 300


def brought(*names: str) -> str:
    return f"bihm-data import {names[0]} --name mine" + "".join(names[1:])


FILES = [
    (brought("nothing.npy"), 3, "nothing.npy: no such file"),
    (brought("two.npy"), 3, "two.npy: row 0, column 0 is 2; only 0 and 1 are bits"),
    (brought("half.npy"), 3, "row 0, column 0 is 0.5"),
    (brought("nan.npy"), 3, "row 0, column 0 is nan"),
    (brought("inf.npy"), 3, "row 0, column 0 is inf"),
    (brought("flat.npy"), 3, "has shape (60,); needed are (rows, features)"),
    (brought("cube.npy"), 3, "flatten it with x.reshape(len(x), -1)"),
    (brought("norows.npy"), 3, "has no rows"),
    (brought("nocols.npy"), 3, "has no features"),
    (brought("few.npy"), 3, "has 9 rows; at least 10 are needed"),
    (brought("words.npy"), 3, "holds <U3, not numbers"),
    (brought("complex.npy"), 3, "holds complex128, not numbers"),
    (brought("dates.npy"), 3, "holds datetime64[s], not numbers"),
    (brought("pickle.npy"), 3, "holds object, not numbers"),
    (brought("pickle.npz"), 3, "array 'x' holds object, not numbers"),
    (brought("short.npy"), 3, "short.npy: damaged"),
    (brought("negative.npy"), 3, "claims the impossible shape (-12, 5)"),
    (brought("code.npy"), 3, "code.npy: damaged"),
    (brought("bomb.npy"), 3, "claims 1000000000000000 bytes of arrays; the limit is"),
    (brought("bomb.npz"), 3, "claims 1000000000000000 bytes of arrays; the limit is"),
    (brought("parts.npz"), 3, "claims 5368709120 bytes of arrays; the limit is"),
    (brought("under.npz"), 3, "array 'x' has 20971648 bytes; its header needs 188"),
    (brought("claim.npz"), 3, "array 'x' has 4294967294 bytes; its header needs 188"),
    (brought("header.npz"), 3, "is in .npy version (2, 0); plain arrays need 1.0"),
    (brought("header.npy"), 3, "is in .npy version (2, 0); plain arrays need 1.0"),
    (brought("many.npz"), 3, "holds 200 arrays; the limit is 100"),
    (brought("dots.npz"), 3, "holds '/tmp/x.npy'; a .npz holds only .npy arrays"),
    (brought("script.npz"), 3, "holds 'setup.py'; a .npz holds only .npy arrays"),
    (brought("inner.npz"), 3, "holds 'x.npz'"),
    (brought("cut.npz"), 3, "cut.npz: damaged, or not a .npz (File is not a zip file)"),
    (brought("torn.npz"), 3, "torn.npz: damaged"),
    (brought("empty.npz"), 3, "empty.npz: damaged"),
    (brought("widths.npz"), 3, "train, valid and test have [5, 4, 5] features"),
    (brought("novalid.npz"), 3, "holds test, train; needed are train, valid and test"),
    (brought("hollow.npz"), 3, "valid has no rows"),
    (brought("packed.npz"), 3, "has bits behind feature 4"),
    (brought("width.npz"), 3, "n_features must be one integer above 0"),
    (brought("gzip.csv"), 3, "gzip.csv: is compressed by gzip; its name must end in .gz"),
    (brought("ragged.csv"), 3, "line 11 has 3 values, the one before 2"),
    (brought("nan.csv"), 3, "line 1, value 2 is 'nan'"),
    (brought("two.csv"), 3, "line 11, value 2 is '2'; only 0 and 1"),
    (brought("gap.csv"), 3, "a value is missing between two commas"),
    (brought("head.csv"), 3, "line 1, value 1 is 'a'; only 0 and 1"),
    (brought("glued.txt"), 3, "values need commas or blanks between them"),
    (brought("blank.csv"), 3, "line 2 is empty"),
    (brought("empty.csv"), 3, "is empty; every line is a row of 0 and 1"),
    (brought("nul.csv"), 3, r"line 1, value 2 is '\x00'"),
    (brought("utf16.csv"), 3, "is text in UTF-16; save it as UTF-8"),
    (brought("line.csv"), 3, "line 1 is longer than 67108864 bytes, the limit"),
    (brought("loop.csv"), 3, "loop.csv: Too many levels of symbolic links"),
    (brought("gone.npy"), 3, "gone.npy: no such file"),
    (brought("zero.csv"), 3, "zero.csv: is no regular file"),
    (brought("pipe.csv"), 3, "pipe.csv: is no regular file"),
    (brought("data.json"), 3, "files are read by their ending"),
    (brought("folder.npy"), 3, "folder.npy: is a folder"),
    (brought("plain/x.npy"), 3, "plain/x.npy: no such file"),
    (brought(LONG + ".npy"), 3, "File name too long"),
    (["bihm-data", "import", "a\0b.npy", "--name", "mine"], 3, r"a\x00b.npy: no such file"),
    (["bihm-data", "import", "a\nb.npy", "--name", "mine"], 3, r"a\nb.npy: no such file"),
    (brought("ok.npy", " --valid ok.npy"), 2, "--valid and --test go together"),
    (brought("ok.npy", " --valid again.npy --test ok.npz"), 3, "ok.npz: has splits of its own"),
    (brought("ok.npy", " --valid again.npy --test narrow.npy"), 3, "have [5, 5, 4] features"),
    (brought("ok.npy", " --valid ok.npy --test again.npy"), 2, "ok.npy and ok.npy are one file"),
    (brought("ok.npy", " --valid again.npy --test ./again.npy"), 2, "are one file: rows to choose"),
]

NAMES = [
    ("bihm-data", 2, "the following arguments are required: COMMAND"),
    ("bihm-data lsit", 2, "invalid choice: 'lsit'"),
    ("bihm-data list --all", 2, "unrecognized arguments: --all"),
    ("bihm-data fetch", 2, "the following arguments are required: NAME"),
    ("bihm-data fetch mnits", 2, "no dataset is called 'mnits'; did you mean mnist?"),
    ("bihm-data import a.csv --name all", 2, "'all' stands for every dataset; choose another name"),
    ("bihm-data fetch ../adult", 2, "no dataset is called '../adult'"),
    ("bihm-data check digits ../../x", 2, "no dataset is called '../../x'"),
    ("bihm-data check adult", 3, "adult.npz is missing: run `bihm-data fetch adult`"),
    (["bihm-data", "check", ""], 2, "no dataset is called ''"),
    (["bihm-data", "check", "a\nb\x1b[2J"], 2, r"no dataset is called 'a\nb\x1b[2J'"),
    ("bihm-data import ok.npy", 2, "the following arguments are required: --name"),
    ("bihm-data import ok.npy --name ../x", 2, "'../x' cannot name a dataset"),
    ("bihm-data import ok.npy --name a/b", 2, "'a/b' cannot name a dataset"),
    ("bihm-data import ok.npy --name Ä", 2, "'Ä' cannot name a dataset"),
    ("bihm-data import ok.npy --name mnist", 2, "the name of a built-in dataset; choose another"),
    ("bihm-data import ok.npy --name null", 2, "'null' is a word with a meaning in YAML"),
    (USE.replace(" dataset.path=", ""), 2, "dataset=file needs dataset.path=FILE"),
    (USE + "nothing.npz", 3, "nothing.npz: no such file"),
    (USE + "bomb.npz", 3, "claims 1000000000000000 bytes of arrays"),
    (USE + "ok.npy batch_size=11", 2, "batch_size=11 is larger than the 10 training rows"),
    (USE + "ok.npy batch_size=5 hydra.run.dir=plain", 2, "plain: nothing can be written there"),
    *rare(
        (USE + "pickle.npz", 3, "array 'x' holds object, not numbers"),
        (USE + "two.csv", 3, "line 11, value 2 is '2'"),
        (USE + "folder.npy", 3, "folder.npy: is a folder"),
        (USE + LONG + ".csv", 3, "File name too long"),
        (
            USE + "ok.npy batch_size=5 dataset.n_features=6",
            2,
            "dataset.n_features=6 but file has 5",
        ),
        (USE + "ok.npy batch_size=5 dataset.image_shape=[2,2]", 2, "does not fit the 5 features"),
        (
            USE + "ok.npy batch_size=5 hydra.run.dir=plain/x",
            2,
            "plain/x: nothing can be written there",
        ),
    ),
]


@pytest.mark.parametrize("row", FILES + NAMES, ids=name_of)
def test_wrong_files_and_names(row, home):
    for word in words_of(row):
        name = word.removeprefix("dataset.path=").removeprefix("hydra.run.dir=").split("/")[0]
        if name in MADE and not (home / name).exists():
            MADE[name](home / name)
    check(row, home)


def cache_is_a_file(cache):
    cache.touch()


def data_is_a_file(cache):
    cache.mkdir()
    (cache / "data").touch()


def data_is_not_ours(cache):
    cache.symlink_to("/proc/self/net")


@pytest.mark.parametrize("spoil", [cache_is_a_file, data_is_a_file, data_is_not_ours])
def test_a_cache_that_cannot_be_written(spoil, home):
    MADE["ok.npy"](home / "ok.npy")
    spoil(home.parent / "cache")
    check((brought("ok.npy"), 2, "nothing can be written there"), home)


def as_nobody(call):
    """The exit code of `call` in a child without root's rights."""
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            os._exit(call())
        except BaseException:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_folder_without_permission(home):
    """Pytest's folders belong to root alone."""
    MADE["ok.npy"](home / "ok.npy")
    words = words_of((brought("ok.npy"), 2, ""))
    assert as_nobody(lambda: attempt(words)[0]) == 2
    assert not (home.parent / "cache").exists()


def test_an_import_over_a_link_leaves_what_the_link_points_to(home):
    """The cached file may be a link to elsewhere: it is replaced, not written through."""
    np.save(home / "x.npy", EYE)
    assert attempt(words_of((brought("x.npy"), 0, "")))[0] == 0
    stored = home.parent / "cache" / "data" / "mine.npz"
    (home / "precious").write_text("mine")
    stored.unlink()
    stored.symlink_to(home / "precious")
    assert attempt([*words_of((brought("x.npy"), 0, "")), "--force"])[0] == 0
    assert (home / "precious").read_text() == "mine"
    assert not stored.is_symlink()
    assert len(data.load("mine", str(stored)).train) == 10


def test_a_cached_dataset_that_links_elsewhere_must_have_the_right_content(home):
    folder = home.parent / "cache" / "data"
    folder.mkdir(parents=True)
    (folder / "adult.npz").symlink_to("/etc/passwd")
    check(("bihm-data check adult", 3, "adult.npz: damaged, or not a .npz"), home)
    check(("bihm-train dataset=adult", 3, "adult.npz: damaged, or not a .npz"), home)
