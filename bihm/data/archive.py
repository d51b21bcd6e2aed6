"""NumPy files, read with suspicion and written whole.

Headers are looked at before any array is allocated, a pickle is never opened, and a file appears
under its final name complete or not at all.
"""

import contextlib
import gzip
import hashlib
import io
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from bihm.errors import BihmError, DataError, disk_refusals, writing
from bihm.paths import replaced

LIMIT = 4 << 30  # bytes of uncompressed arrays in one file
MEMBERS = 100  # arrays in one file
SPARSE = {  # what save_npz of scipy.sparse and of pydata's sparse write, by what makes it whole again
    "toarray": {"format.npy", "shape.npy", "data.npy"},
    "todense": {"coords.npy", "shape.npy", "data.npy"},
}


class Header(NamedTuple):
    """What a .npy header promises."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def bytes(self) -> int:
        """What the array takes."""
        return math.prod(self.shape) * self.dtype.itemsize


@contextlib.contextmanager
def guarded(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into one DataError that names `path`."""
    try:
        yield
    except BihmError:
        raise
    except Exception as error:  # a stranger's file fails in any way that zip, zlib and numpy invent
        if isinstance(error, OSError) and error.errno is not None:  # the system, not a reader
            raise DataError(f"{path}: {error.strerror or error}") from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: damaged, or not {kind} ({reason})") from error


class _Bounded(io.RawIOBase):
    """What a .gz inflates to, up to LIMIT bytes; DataError for more, however little it is on disk."""

    def __init__(self, stream: io.BufferedIOBase, path: Path) -> None:
        self.stream, self.path, self.left = stream, path, LIMIT

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        got = self.stream.read(len(buffer))
        self.left -= len(got)
        if self.left < 0:
            raise DataError(f"{self.path}: inflates to more than {LIMIT} bytes, the limit (4 GiB)")
        buffer[: len(got)] = got
        return len(got)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """The bytes of a file; of one whose name ends in .gz, those that were compressed."""
    with path.open("rb") as stream:
        if path.suffix.lower() != ".gz":
            yield stream
            return
        with gzip.GzipFile(fileobj=stream) as inflated:
            yield io.BufferedReader(_Bounded(inflated, path), buffer_size=1 << 20)


def _header(stream: Any, path: Path, name: str) -> Header:
    """The header at the start of a .npy stream; DataError if no plain array of numbers follows."""
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):  # headers of later ones may be 4 GiB long, and numpy reads them whole
        raise DataError(f"{path}: {name} is in .npy version {version}; plain arrays need 1.0")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.kind not in "buif":
        raise DataError(f"{path}: {name} holds {dtype}, not numbers; save it as uint8")
    if any(size < 0 for size in shape):
        raise DataError(f"{path}: {name} claims the impossible shape {shape}")
    return Header(shape, dtype)


def _refuse_large(path: Path, headers: dict[str, Header]) -> None:
    size = sum(header.bytes for header in headers.values())
    if size > LIMIT:
        raise DataError(f"{path}: claims {size} bytes of arrays; the limit is {LIMIT} (4 GiB)")


def _npz_headers(archive: zipfile.ZipFile, path: Path) -> dict[str, Header]:
    headers, needed = {}, {}
    members = archive.namelist()
    if len(members) > MEMBERS:
        raise DataError(f"{path}: holds {len(members)} arrays; the limit is {MEMBERS}")
    for whole, kind in SPARSE.items():
        if kind <= set(members):
            raise DataError(
                f"{path}: holds a sparse matrix; save it whole: numpy.savez(.., x=matrix.{whole}())"
            )
    for member in members:
        if not member.endswith(".npy") or "/" in member or "\\" in member:
            raise DataError(f"{path}: holds {member!r}; a .npz holds only .npy arrays")
        name = member.removesuffix(".npy")
        with archive.open(member) as stream:
            headers[name] = _header(stream, path, f"array {name!r}")
            needed[name] = stream.tell() + headers[name].bytes
    _refuse_large(path, headers)
    for name, bytes_ in needed.items():
        held = archive.getinfo(name + ".npy").file_size
        if held != bytes_:
            raise DataError(f"{path}: array {name!r} has {held} bytes; its header needs {bytes_}")
    return headers


def npz_headers(path: Path) -> dict[str, Header]:
    """Names, shapes and dtypes of a .npz, no array read; DataError."""
    with guarded(path, "a .npz"), zipfile.ZipFile(path) as archive:
        return _npz_headers(archive, path)


def read_npz(path: Path, only: str | None = None) -> dict[str, np.ndarray]:
    """The arrays of a .npz, or `only` one; DataError if damaged, pickled, or above 4 GiB."""
    with guarded(path, "a .npz"), zipfile.ZipFile(path) as archive:
        arrays = {}
        for name in _npz_headers(archive, path):
            if only not in (None, name):
                continue
            with archive.open(name + ".npy") as stream:
                arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
                stream.read(1)  # only at the end does zipfile compare the checksum
        return arrays


def npy_header(path: Path) -> Header:
    """Shape and dtype of a .npy, the array not read; DataError."""
    with guarded(path, "a .npy"), opened(path) as stream:
        header = _header(stream, path, "the array")
        _refuse_large(path, {"": header})
        return header


def read_npy(path: Path) -> np.ndarray:
    """The array of a .npy; DataError if damaged, pickled, not numbers, or above 4 GiB."""
    npy_header(path)
    with guarded(path, "a .npy"), opened(path) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def make_folder(path: Path) -> None:
    """Make a folder and those above it; ConfigError if that is not allowed, BihmError on a full disk."""
    with disk_refusals("place"), writing(path):
        path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A stream whose bytes get the name `path` when the block ends well; errors as of `make_folder`."""
    make_folder(path.parent)
    with disk_refusals("place"), replaced(path) as stream:
        yield stream


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a compressed .npz that is whole or absent; errors as of `make_folder`."""
    with whole(path) as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def write_text(path: Path, text: str) -> None:
    """Write a text file that is whole or absent; errors as of `make_folder`."""
    with whole(path) as stream:
        stream.write(text.encode())


def pack(bits: np.ndarray) -> np.ndarray:
    """Bits (rows, n) to bytes (rows, ceil(n / 8)), the first bit highest, zeros behind the last."""
    return np.packbits(bits, axis=1)


def unpack(packed: np.ndarray, n_features: int) -> np.ndarray:
    """Bytes (rows, ceil(n / 8)) to bits (rows, n), uint8."""
    return np.unpackbits(packed, axis=1, count=n_features)


def digest(array: np.ndarray) -> str:
    """SHA-256 of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def order_free_digest(packed: np.ndarray) -> str:
    """SHA-256 of the rows, sorted bytewise and joined: equal for the same rows in any order."""
    return hashlib.sha256(b"".join(sorted(row.tobytes() for row in packed))).hexdigest()
