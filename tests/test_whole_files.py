"""Files that are replaced whole: what a reader, a crash, a thread and the user's umask see."""

import os
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from bihm.data import archive
from bihm.errors import BihmError
from bihm.paths import replaced
from bihm.records.run_files import write_bytes, write_json


def test_a_reader_sees_the_old_content_until_the_new_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with replaced(path) as stream:
        stream.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


def test_what_fails_on_the_way_leaves_the_old_content_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with suppress(KeyboardInterrupt), replaced(path) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_threads_do_not_write_into_each_others_files(tmp_path):
    path, meeting = tmp_path / "file", threading.Barrier(2)

    def write(letter: bytes) -> None:
        with replaced(path) as stream:
            stream.write(letter * 1000)
            stream.flush()
            meeting.wait(10)
            stream.write(letter * 1000)

    threads = [threading.Thread(target=write, args=[letter]) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in (b"a" * 2000, b"b" * 2000)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o002])
def test_who_may_read_a_file_is_for_the_umask_to_say(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_json(tmp_path / "a.json", {})
        write_bytes(tmp_path / "a", b"")
        archive.write_text(tmp_path / "a.txt", "")
        archive.write_npz(tmp_path / "a.npz", {"x": np.zeros(1)})
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~umask}
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("write", [write_bytes, lambda path, _: archive.write_npz(path, {})])
def test_a_name_as_long_as_a_name_may_be(write, tmp_path):
    write(tmp_path / ("n" * 251 + ".npz"), b"")
    assert [len(name) for name in os.listdir(tmp_path)] == [255]


def test_where_the_disk_refuses_the_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    kinds = {
        tmp_path / "none" / "file": FileNotFoundError,
        tmp_path / "file" / "file": NotADirectoryError,
    }
    for path, kind in kinds.items():
        with pytest.raises(kind) as caught:
            write_bytes(path, b"")
        assert Path(caught.value.filename) == path
    with pytest.raises(BihmError, match="file"):
        archive.write_text(tmp_path / "file" / "file", "")
