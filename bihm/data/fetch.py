"""Downloads: pinned sources in order of preference, hashes checked, a whole file or none."""

import hashlib
import json
import logging
import sys
from pathlib import Path

from bihm.data import archive
from bihm.data.catalogue import Entry, File, Source, entry
from bihm.data.dataset import check_rows, check_stored, find
from bihm.data.parse import parse
from bihm.errors import DataError, cannot_write
from bihm.paths import cache

TIMEOUT = 30.0  # seconds without a byte


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _blob_id(path: Path) -> str:
    """Git's name for a file's content."""
    raw = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(raw) + raw, usedforsecurity=False).hexdigest()


def _verified(file: File, path: Path) -> bool:
    """Whether `path` holds exactly the pinned bytes."""
    if not path.is_file() or path.stat().st_size != file.bytes:
        return False
    if file.sha256 is not None:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
    return _blob_id(path) == file.git_blob_sha1


def _download(file: File, path: Path, timeout: float) -> None:
    """Bring `file` to `path`, checked; DataError with a short reason, and then no file is there."""
    import pooch

    # Pooch tells the user to update registries and where it puts what; we print our own lines.
    pooch.get_logger().setLevel(logging.CRITICAL)
    unchecked = path.with_name(f".{path.name}.unchecked")
    unchecked.unlink(missing_ok=True)
    try:
        pooch.retrieve(
            file.url,
            known_hash=file.sha256 and f"sha256:{file.sha256}",
            fname=unchecked.name,
            path=path.parent,
            downloader=pooch.HTTPDownloader(timeout=timeout, chunk_size=1 << 16),
        )
        if not _verified(file, unchecked):
            raise DataError("the bytes are not the pinned ones")
        unchecked.replace(path)
    except (OSError, ValueError) as error:
        raise cannot_write(error) or DataError(_reason(error)) from error
    finally:
        unchecked.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    """A few words for what requests, urllib3 and pooch say in a paragraph."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "timed out"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the download broke off"
    if isinstance(error, requests.RequestException):
        return "no connection"
    if isinstance(error, ValueError):
        return "the bytes are not the pinned ones"
    return str(getattr(error, "strerror", None) or error)


def _collect(source: Source, folder: Path, timeout: float) -> None:
    """Bring what is missing of a source into `folder`; DataError for the first file that fails."""
    for file in source.files:
        path = folder / file.path
        if _verified(file, path):
            _say(f"  {file.path}: already downloaded")
            continue
        _say(f"  {file.path}: {file.bytes / 1e6:.1f} MB from {source.name}")
        _download(file, path, timeout)


def _store(wanted: Entry, source: Source, folder: Path, target: Path) -> None:
    """Parse, check, write NAME.json and then NAME.npz, whose presence means that all is well."""
    arrays = parse(wanted, source, folder)
    check_rows(wanted, arrays, f"{source.name} ({folder})")
    about = {
        "name": wanted.name,
        "source": [file.url for file in source.files],
        "sha256": {k: archive.digest(a) for k, a in arrays.items() if k != "n_features"},
        "licence": wanted.licence,
        "citation": list(wanted.citation),
        "note": wanted.note,
    }
    archive.write_text(target.with_suffix(".json"), json.dumps(about, indent=1) + "\n")
    archive.write_npz(target, arrays)
    check_stored(wanted, target)


def _present(wanted: Entry, target: Path) -> Path | None:
    """A good file that is there already; a damaged one in the cache counts as missing."""
    path = find(wanted.name)
    if path is None:
        return None
    try:
        check_stored(wanted, path)
    except DataError:
        if path != target:
            raise  # the user's own folder: ours to report, not to mend
        return None
    return path


def fetch(
    name: str, entries: dict[str, Entry] | None = None, timeout: float = TIMEOUT
) -> Path | None:
    """Bring dataset `name` into the cache and return its file; None if it needs no file.

    `entries` replaces the pinned catalogue; `timeout` is in seconds without a byte. ConfigError for
    an unknown name; DataError saying what was tried and what to put where by hand.
    """
    wanted = entry(name, entries)
    if not wanted.sources:
        _say(f"{name}: part of the package, nothing to fetch")
        return find(name)
    target = cache() / "data" / f"{name}.npz"
    path = _present(wanted, target)
    if path is not None:
        _say(f"{name}: already in {path.parent}")
        return path
    folder = cache() / "downloads" / name
    tried = []
    for source in wanted.sources:
        _say(f"{name}: trying {source.name}")
        try:
            archive.make_folder(folder)
            _collect(source, folder, timeout)
            _store(wanted, source, folder, target)
        except DataError as error:
            _say(f"  failed: {error}")
            tried.append(f"{source.name}: {error}")
            continue
        _say(f"{name}: {target}")
        return target
    raise DataError(_by_hand(wanted, folder, tried))


def _by_hand(wanted: Entry, folder: Path, tried: list[str]) -> str:
    """The way out when no source answers, in one line."""
    missing = [f for f in wanted.sources[0].files if not _verified(f, folder / f.path)]
    failed = f"{wanted.name} could not be fetched ({'; '.join(tried)})"
    if not missing:
        return f"{failed}, though the files in {folder} are those that are pinned"
    steps = "; ".join(f"download {f.url} to {folder / f.path}" for f in missing)
    return f"{failed}. By hand: {steps}; then run `bihm-data fetch {wanted.name}` again"
