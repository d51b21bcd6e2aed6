"""Downloads against a loopback server: right, altered, truncated, absent and refused files."""

import contextlib
import gzip
import hashlib
import http.server
import json
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from bihm.data import archive, fetch, parse
from bihm.data.catalogue import SPLITS, Entry, File, Source
from bihm.errors import ConfigError, DataError

N = 11
ROWS = {"train": 30, "valid": 7, "test": 9}
RANDOM = np.random.default_rng(3)
BITS = {split: RANDOM.integers(0, 2, (rows, N), dtype=np.uint8) for split, rows in ROWS.items()}
PACKED = {split: archive.pack(bits) for split, bits in BITS.items()}


def csv_bits(bits: np.ndarray, separator: str = ",") -> bytes:
    return "".join(separator.join(map(str, row)) + "\n" for row in bits.tolist()).encode()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by path, keeps the list of requests; `cut` ones end half-way."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {}
        self.requests = []
        self.cut = set()
        self.stall = threading.Event()
        self.base = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        body = self.server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        half = self.path in self.server.cut
        self.wfile.write(body[: len(body) // 2] if half else body)
        self.wfile.flush()
        if half and "stall" in self.path:
            self.server.stall.wait(30)

    def log_message(self, *_):
        pass


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


def offer(base: str, folder: str, blob: bool = False) -> tuple[Source, dict[str, bytes]]:
    """A csv-bits source under `base`/`folder` and what a server must hold for it."""
    held, files = {}, []
    for split, bits in BITS.items():
        raw = csv_bits(bits)
        path = f"/{folder}/tiny.{split}.data"
        git = hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest()
        sha = None if blob else hashlib.sha256(raw).hexdigest()
        files.append(File(base + path, split, len(raw), sha, git))
        held[path] = raw
    return Source(folder, "csv-bits", tuple(files)), held


def catalogue(*sources: Source) -> dict[str, Entry]:
    hashes = {split: archive.digest(packed) for split, packed in PACKED.items()}
    free = {split: archive.order_free_digest(packed) for split, packed in PACKED.items()}
    return {
        "tiny": Entry(
            "tiny", N, None, ROWS, hashes, free, "CC0", ("Nobody: Nothing, 2000",), "", sources
        )
    }


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
    with pytest.raises(DataError, match="test is not tiny's"):
        fetch("tiny", entries)
    assert not (home / "data").exists()


def test_killed_half_way_leaves_no_file_under_its_final_name(home, server):
    source, server.files = offer(server.base, "stall")
    server.cut = {"/stall/tiny.valid.data"}
    program = (
        "import sys; sys.path.insert(0, 'tests'); import test_data_fetch as t; "
        f"t.fetch('tiny', t.catalogue(t.offer({server.base!r}, 'stall')[0]))"
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


def test_an_unwritable_cache_is_a_data_error(home, server, monkeypatch):
    source, server.files = offer(server.base, "good")
    (home / "blocked").touch()
    monkeypatch.setenv("BIHM_CACHE", str(home / "blocked"))
    with pytest.raises(DataError, match="blocked/downloads/tiny: cannot be made"):
        fetch("tiny", catalogue(source))


def test_what_needs_no_download(home):
    assert fetch("bars") is None
    assert fetch("digits").is_file()
    with pytest.raises(ConfigError, match="no dataset is called 'nope'"):
        fetch("nope")


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
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())


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
        ("libsvm", b"1 12:1\n", "row 0 has 12:1"),
        ("libsvm", b"1 0:1\n", "row 0 has 0:1"),
        ("libsvm", b"1 1:1\n1 2:0.5\n", "row 1 has 2:0.5"),
        ("libsvm", b"1 x:1\n", "damaged, or not a libsvm file"),
        ("npz", b"PK", "damaged"),
        ("mat", b"\0" * 200, "damaged"),
        ("idx.gz", b"\0" * 20, "gzip"),
        ("idx.gz", gzip.compress(b"\0\0\x08\x02"), "not an IDX file"),
        ("idx.gz", gzip.compress(b"\0\0\x08\x01\0\0\0\x09" + b"x" * 8), "does not hold the 9"),
        ("idx.gz", gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12), "the limit is"),
    ],
)
def test_bad_downloads_name_their_file(tmp_path, form, raw, message):
    with pytest.raises(DataError, match=message) as caught:
        parsed(tmp_path, form, {"test": raw})
    assert str(caught.value).startswith(str(tmp_path / "test"))
