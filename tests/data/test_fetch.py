"""Downloads against a loopback server: right, altered, truncated, absent and refused files."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from data_server import PACKED, N, Server, catalogue, offer

from bihm.data import archive, fetch
from bihm.data.catalogue import SPLITS
from bihm.errors import ConfigError, DataError


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BIHM_CACHE", str(tmp_path))
    monkeypatch.delenv("BIHM_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.stall.set()
        running.shutdown()
        thread.join()


def leftovers(home):
    """Every file in the cache except the finished ones."""
    done = {"tiny.npz", "tiny.json", *(f"tiny.{split}.data" for split in SPLITS)}
    return [path for path in home.rglob("*") if path.is_file() and path.name not in done]


@pytest.mark.parametrize("blob", [False, True])
def test_right_files_become_a_stored_dataset(home, server, capsys, blob):
    source, server.files = offer(server.base, "good", blob)
    path = fetch("tiny", catalogue(source))
    assert path == home / "data" / "tiny.npz"
    stored = archive.read_npz(path)
    for split, packed in PACKED.items():
        np.testing.assert_array_equal(stored[split], packed)
    assert stored["n_features"] == N
    about = json.loads((home / "data" / "tiny.json").read_text())
    assert about["sha256"]["test"] == archive.digest(PACKED["test"])
    assert (about["licence"], about["citation"]) == ("CC0", ["Nobody: Nothing, 2000"])
    assert about["source"] == [file.url for file in source.files]
    assert not leftovers(home)
    out, err = capsys.readouterr()
    assert not out
    assert "SHA256" not in err


def test_again_asks_for_nothing(home, server):
    source, server.files = offer(server.base, "good")
    fetch("tiny", catalogue(source))
    assert len(server.requests) == 3
    fetch("tiny", catalogue(source))
    (home / "data" / "tiny.npz").unlink()
    fetch("tiny", catalogue(source))
    assert len(server.requests) == 3


def test_resume_downloads_only_what_is_missing(home, server):
    source, files = offer(server.base, "good")
    server.files = {k: v for k, v in files.items() if "test" not in k}
    with pytest.raises(DataError):
        fetch("tiny", catalogue(source))
    assert not (home / "data").exists()
    server.files = files
    server.requests.clear()
    fetch("tiny", catalogue(source))
    assert server.requests == ["/good/tiny.test.data"]


def test_a_damaged_stored_file_is_fetched_again(home, server):
    source, server.files = offer(server.base, "good")
    path = fetch("tiny", catalogue(source))
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    fetch("tiny", catalogue(source))
    assert path.read_bytes() == raw


def test_a_damaged_file_in_bihm_data_is_reported_not_replaced(home, server, monkeypatch):
    source, server.files = offer(server.base, "good")
    monkeypatch.setenv("BIHM_DATA", str(home / "mine"))
    (home / "mine").mkdir()
    (home / "mine" / "tiny.npz").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"mine/tiny\.npz: damaged"):
        fetch("tiny", catalogue(source))
    assert not server.requests


def test_an_altered_download_on_disk_is_not_trusted(home, server):
    source, server.files = offer(server.base, "good")
    fetch("tiny", catalogue(source))
    (home / "data" / "tiny.npz").unlink()
    held = home / "downloads" / "tiny" / "tiny.train.data"
    held.write_bytes(held.read_bytes().replace(b"1", b"0"))
    fetch("tiny", catalogue(source))
    assert server.requests[3:] == ["/good/tiny.train.data"]


def spoil(server: Server, how: str, path: str) -> str:
    """Break one file on the server; returns the reason that the user must read."""
    raw = server.files[path]
    if how == "altered":
        server.files[path] = raw.replace(b"1", b"0", 1)
        return "the bytes are not the pinned ones"
    if how == "longer":
        server.files[path] = raw + b"\n"
        return "the bytes are not the pinned ones"
    if how == "truncated":
        server.cut.add(path)
        return "broke off"
    del server.files[path]
    return "HTTP 404"


@pytest.mark.parametrize("blob", [False, True])
@pytest.mark.parametrize("how", ["altered", "longer", "truncated", "absent"])
def test_a_bad_file_fails_with_a_way_out_and_leaves_nothing(home, server, how, blob):
    source, server.files = offer(server.base, "bad", blob)
    reason = spoil(server, how, "/bad/tiny.valid.data")
    with pytest.raises(DataError, match=reason) as caught:
        fetch("tiny", catalogue(source))
    message = str(caught.value)
    target = home / "downloads" / "tiny" / "tiny.valid.data"
    assert f"download {server.base}/bad/tiny.valid.data to {target}" in message
    assert "tiny.train.data" not in message  # that one is there already
    assert "bihm-data fetch tiny" in message
    assert "\n" not in message
    assert not target.exists()
    assert not (home / "data").exists()
    assert not leftovers(home)


@pytest.mark.parametrize("how", ["altered", "truncated", "absent"])
def test_the_mirror_is_tried(home, server, how, capsys):
    first, held = offer(server.base, "first")
    second, more = offer(server.base, "second")
    server.files = {**held, **more}
    reason = spoil(server, how, "/first/tiny.test.data")
    assert fetch("tiny", catalogue(first, second)).is_file()
    # Same bytes, same name: only what the first source failed to give is asked of the second.
    assert [r for r in server.requests if "second" in r] == ["/second/tiny.test.data"]
    assert reason in capsys.readouterr().err


def closed_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_dead_host_is_one_clear_error_and_by_hand_works(home):
    source, files = offer(f"http://127.0.0.1:{closed_port()}", "dead")
    other, _ = offer(f"http://127.0.0.1:{closed_port()}", "dead-too")
    with pytest.raises(DataError, match="dead: no connection; dead-too: no connection") as caught:
        fetch("tiny", catalogue(source, other))
    message = str(caught.value)
    for file, raw in zip(source.files, files.values(), strict=True):
        target = home / "downloads" / "tiny" / file.path
        assert f"download {file.url} to {target}" in message
        target.write_bytes(raw)
    assert fetch("tiny", catalogue(source, other)).is_file()


def test_a_silent_host_times_out(home, server):
    source, server.files = offer(server.base, "stall")
    server.cut = set(server.files)
    with pytest.raises(DataError, match="stall: timed out"):
        fetch("tiny", catalogue(source), timeout=0.2)
    assert not leftovers(home)


def test_right_bytes_with_wrong_rows_are_refused(home, server):
    source, server.files = offer(server.base, "good")
    wanted = catalogue(source)["tiny"]
    other = {**wanted.sha256, "test": "0" * 64}
    free = {**wanted.order_free_sha256, "test": "0" * 64}
    entries = {"tiny": wanted._replace(sha256=other, order_free_sha256=free)}
    with pytest.raises(DataError, match="test is not tiny's") as told:
        fetch("tiny", entries)
    assert str(told.value).endswith(" are those that are pinned")  # and nothing is left to download
    assert not (home / "data").exists()


def test_killed_half_way_leaves_no_file_under_its_final_name(home, server):
    source, server.files = offer(server.base, "stall")
    server.cut = {"/stall/tiny.valid.data"}
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent.parent)!r}); import data_server as d; "
        "from bihm.data import fetch; "
        f"fetch('tiny', d.catalogue(d.offer({server.base!r}, 'stall')[0]))"
    )
    running = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while len(server.requests) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert len(server.requests) == 2
    assert (home / "downloads" / "tiny" / "tiny.train.data").is_file()
    assert not (home / "downloads" / "tiny" / "tiny.valid.data").exists()
    assert not (home / "data").exists()
    server.cut.clear()
    fetch("tiny", catalogue(source))
    assert server.requests.count("/stall/tiny.train.data") == 1


def test_a_cache_that_cannot_be_made_is_a_wrong_place(home, server, monkeypatch):
    source, server.files = offer(server.base, "good")
    (home / "blocked").touch()
    monkeypatch.setenv("BIHM_CACHE", str(home / "blocked"))
    with pytest.raises(
        ConfigError,
        match=r"blocked/downloads/tiny: nothing can be written there: Not a directory; choose another",
    ):
        fetch("tiny", catalogue(source))


def test_what_needs_no_download(home):
    assert fetch("bars") is None
    assert fetch("digits").is_file()
    with pytest.raises(ConfigError, match="no dataset is called 'nope'"):
        fetch("nope")
