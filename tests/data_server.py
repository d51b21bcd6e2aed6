"""A tiny dataset, its pinned catalogue, and a loopback server that offers it, for better or worse."""

import hashlib
import http.server
import threading

import numpy as np

from bihm.data import archive
from bihm.data.catalogue import Entry, File, Source

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
