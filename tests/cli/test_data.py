"""`bihm-data` as a user types it: what it prints, and its exit codes."""

import os
import re
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from bihm import data
from bihm.cli import data as command
from bihm.cli.evaluate import USAGE
from bihm.data import archive, catalogue, files
from bihm.data.catalogue import SPLITS

EYE = np.eye(12, 5, dtype=np.uint8)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BIHM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BIHM_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(shell):
    return partial(shell, command)


def test_list_shows_every_set_and_where_it_is(run, home):
    np.save(home / "x.npy", EYE)
    run("import", "x.npy", "--name", "mine")
    code, out, err = run("list")
    rows = {line.split()[0]: line.split() for line in out.splitlines()}
    assert (code, err) == (0, "")
    assert list(rows) == ["name", *data.names(), "mine"]
    assert rows["digits"][1:6] == ["1397", "200", "200", "64", "embedded"]
    assert rows["bars"][5] == "generated"
    assert rows["mnist"][1:6] == ["50000", "10000", "10000", "784", "missing"]
    assert rows["mine"][1:] == ["10", "1", "1", "5", "imported", "bits", "yours"]
    assert {name for name, row in rows.items() if row[6] == "grey"} == {"mnist"}


def test_list_tells_bihm_data_from_the_cache(run, home, monkeypatch):
    monkeypatch.setenv("BIHM_DATA", str(home / "shared"))
    for folder, name in ((home / "shared", "nltcs"), (home / "cache" / "data", "plants")):
        folder.mkdir(parents=True)
        (folder / f"{name}.npz").touch()
    rows = {line.split()[0]: line.split() for line in run("list")[1].splitlines()}
    assert rows["nltcs"][5] == "$BIHM_DATA"
    assert rows["plants"][5] == "cache"


def test_check_ok_missing_damaged(run, home):
    assert run("check", "digits", "bars")[0] == 0
    code, _, err = run("check", "nltcs")
    assert code == 3
    assert err.startswith("bihm-data: nltcs.npz is missing: run `bihm-data fetch nltcs`")
    assert err.count("\n") == 1
    (home / "cache" / "data").mkdir(parents=True)
    (home / "cache" / "data" / "nltcs.npz").write_bytes(b"PK\3\4 no more")
    code, out, err = run("check", "nltcs", "digits")
    assert code == 3
    assert "nltcs.npz: damaged" in err
    assert out.startswith("digits: ok")  # goes on after a failure


def test_every_name_that_fails_is_told(run, home):
    code, _, err = run("check", "nltcs", "plants")
    assert code == 3
    assert [line.split()[1] for line in err.splitlines()] == ["nltcs.npz", "plants.npz"]


def test_check_says_what_it_could_not_check(run, home, monkeypatch):
    packed = np.packbits(EYE, axis=1)
    wanted = data.entry("rcv1")._replace(n_features=5, rows=dict.fromkeys(SPLITS, 12))
    sha = {**wanted.sha256, "valid": archive.digest(packed[::-1])}
    free = {"valid": archive.order_free_digest(packed)}
    entries = {"rcv1": wanted._replace(sha256=sha, order_free_sha256=free)}
    monkeypatch.setattr(catalogue, "catalogue", lambda: entries)
    (home / "cache" / "data").mkdir(parents=True)
    path = home / "cache" / "data" / "rcv1.npz"
    np.savez(path, **dict.fromkeys(SPLITS, packed), n_features=5)
    code, out, _ = run("check", "rcv1")
    assert code == 0
    assert "valid: the right rows in another order" in out
    assert "train, test: only the shape, no hash is known" in out


def test_check_of_an_import(run, home):
    np.save(home / "x.npy", EYE)
    run("import", "x.npy", "--name", "mine")
    assert run("check", "mine")[0] == 0
    np.save(home / "x.npy", EYE[::-1])
    path = home / "cache" / "data" / "mine.npz"
    np.savez(path, train=EYE, valid=EYE, test=EYE, n_features=5)
    code, _, err = run("check", "mine")
    assert code == 3
    assert "mine.npz: train has changed since it was imported" in err
    path.with_suffix(".json").write_text("{}")
    assert run("check", "mine")[0] == 3
    assert run("list")[1].splitlines()[-1].split() == [
        "mine",
        *"????",
        "damaged",
        "bits",
        "yours",
    ]


def test_an_import_is_not_fetched_and_its_loss_is_seen(run, home):
    np.save(home / "x.npy", EYE)
    run("import", "x.npy", "--name", "mine")
    code, _, err = run("fetch", "mine")
    assert (code, "mine is your own import" in err) == (2, True)
    (home / "cache" / "data" / "mine.npz").unlink()
    assert run("list")[1].splitlines()[-1].split()[-3:] == ["lost", "bits", "yours"]


def test_import_prints_how_to_use_it(run, home):
    np.save(home / "x.npy", EYE)
    code, out, err = run("import", "x.npy", "--name", "mine")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].endswith("bihm-train dataset=mine")
    assert out.startswith(
        "x.npy: one table of 12 rows, shuffled by RandomState(0) and cut 80/10/10: "
    )
    code, _, err = run("import", "x.npy", "--name", "mine")
    assert (code, err) == (2, "bihm-data: 'mine' is imported already; --force replaces it\n")
    assert run("import", "x.npy", "--name", "mine", "--force")[0] == 0


def test_help_names_every_ending(run):
    code, out, _ = run("--help")
    assert not code
    for text in (out, USAGE):
        assert set(files.KINDS) <= set(re.findall(r"\.[a-z]+", text))


def test_import_with_split_files(run, home):
    for name in ("a", "b", "c"):
        np.savetxt(home / f"{name}.csv", EYE, fmt="%d", delimiter=",")
    argv = ("import", "a.csv", "--name", "mine", "--valid", "b.csv")
    assert run(*argv)[0] == 2
    assert run(*argv, "--test", "c.csv")[0] == 0
    assert len(data.load("mine", str(home / "cache" / "data" / "mine.npz")).valid) == 12


def test_import_of_a_bad_file_is_one_line_with_line_and_value(run, home):
    (home / "x.csv").write_text("1,1\n1,7\n")
    code, out, err = run("import", "x.csv", "--name", "mine")
    assert (code, out) == (3, "")
    assert (
        err
        == "bihm-data: x.csv: line 2, value 2 is '7'; only 0 and 1, or True and False, are bits\n"
    )


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("lsit",),
        ("fetch",),
        ("import", "x.npy"),
        ("list", "--all"),
        ("fetch", "mnits"),
        ("check", "digits", "mnits"),
    ],
)
def test_wrong_commands_exit_2(run, argv):
    code, out, err = run(*argv)
    assert code == 2
    assert not out
    assert "Traceback" not in err
    if "mnits" in argv:
        assert "did you mean mnist?" in err


def test_fetch_goes_on_and_exits_with_the_first_failure(run, monkeypatch):
    from bihm.errors import DataError

    asked = []

    def fake(name):
        asked.append(name)
        if name == "nltcs":
            raise DataError("no network")

    monkeypatch.setattr("bihm.data.fetch", fake)
    code, _, err = run("fetch", "nltcs", "plants")
    assert (code, err) == (3, "bihm-data: no network\n")
    assert asked == ["nltcs", "plants"]
    asked.clear()
    run("fetch", "all")
    assert asked == list(data.names())


def test_ctrl_c_exits_130(run, monkeypatch):
    def interrupt(name):
        raise KeyboardInterrupt

    monkeypatch.setattr("bihm.data.fetch", interrupt)
    assert run("fetch", "nltcs") == (130, "", "bihm-data: interrupted\n")


def test_nothing_heavy_is_imported():
    program = (
        "import sys; from bihm.cli.data import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'scipy', 'pooch', 'jax', 'hydra'} & set(sys.modules)\n"
        "import bihm.data\n"
        "heavy |= {'scipy', 'pooch', 'requests', 'jax', 'hydra'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert "usage: bihm-data" in done.stdout
