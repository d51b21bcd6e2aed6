"""Checkpoints of states that are given: what is written, kept, found again and refused."""

import errno
import hashlib
import json
import shutil

import jax
import numpy as np
import pytest
from small_run import tiny

from bihm.config import to_dict
from bihm.errors import DataError
from bihm.machine.training_step import TrainState
from bihm.records import checkpoint as module
from bihm.records.checkpoint import Checkpoint, Checkpoints, Damaged, read_checkpoint
from bihm.records.digests import digest_arrays, digest_text
from bihm.records.orbax_messages import of_the_disk


def state(number):
    params = {"w": np.full((2, 3), number, np.float32), "b": np.arange(2, dtype=np.float32)}
    return TrainState(params, {"m": np.full(3, -number, np.float32)}, None, np.asarray(number))


def moment(number):
    return Checkpoint(state(number), state(number - 1), {"phase": number, "seconds": 0.5})


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found[:2], expected[:2])
    assert found.memory == expected.memory


@pytest.fixture
def opened(tmp_path):
    """Open the checkpoints of one run again and again; all are closed at the end."""
    several = []

    def opened(**changes):
        read_only = changes.pop("read_only", False)
        several.append(Checkpoints(tmp_path, tiny(**changes), read_only=read_only))
        return several[-1]

    yield opened
    for one in several:
        one.close()


def saved(opened, numbers):
    checkpoints = opened()
    for number in numbers:
        checkpoints.save(moment(number))
    checkpoints.wait()
    checkpoints.close()
    return checkpoints.folder


def spoil(folder, name="memory"):
    (path,) = (folder / name).glob("metadata")
    path.write_text("[]")


def test_what_is_saved_is_found_again_the_newest_of_two(opened, tmp_path):
    checkpoints = opened()
    assert checkpoints.restore(state(0)) is None
    assert str(checkpoints) == "none was written yet"
    checkpoints.save(moment(7))
    assert (tmp_path / ".checkpointed").exists()  # not before it is whole
    assert (checkpoints.folder / "0").is_dir()
    for number in (8, 9):
        checkpoints.save(moment(number))
    checkpoints.wait()
    assert str(checkpoints) == str(tmp_path / "checkpoints" / "2")
    assert {path.name for path in checkpoints.folder.iterdir()} == {"1", "2"}
    assert_same(opened().restore(state(0)), moment(9))
    assert_same(read_checkpoint(tmp_path, tiny(), state(0)), moment(9))


def test_the_item_of_json_says_whose_it_is_and_digests_of_all(opened):
    folder = saved(opened, [4])
    sealed = json.loads((folder / "0" / "memory" / "metadata").read_text())
    text = {"format": 1, "config": to_dict(tiny()), "memory": moment(4).memory}
    digests = {"latest": digest_arrays(state(4)), "best": digest_arrays(state(3))}
    assert sealed == {**text, "sha256": {**digests, "text": digest_text(text)}}


def test_a_damaged_one_is_set_aside_and_its_number_used_again(opened, caplog):
    folder = saved(opened, [4, 5])
    spoil(folder / "1")
    checkpoints = opened()
    assert_same(checkpoints.restore(state(0)), moment(4))
    assert caplog.messages == [
        f"{folder / '1'} is damaged (memory has no digest); kept as 1.damaged; using 0, of step 4"
    ]
    checkpoints.save(moment(6))
    checkpoints.wait()
    assert {path.name for path in folder.iterdir()} == {"0", "1", "1.damaged"}
    checkpoints.close()
    spoil(folder / "1")
    assert_same(opened().restore(state(0)), moment(4))
    assert {path.name for path in folder.iterdir()} == {"0", "1.damaged", "1.damaged.2"}


def test_who_only_reads_changes_nothing(opened, tmp_path, caplog):
    folder = saved(opened, [4, 5])
    (tmp_path / ".checkpointed").unlink()
    spoil(folder / "1")
    assert_same(read_checkpoint(tmp_path, tiny(), state(0)), moment(4))
    assert caplog.messages == [
        f"{folder / '1'} is damaged (memory has no digest); using 0, of step 4"
    ]
    assert {path.name for path in folder.iterdir()} == {"0", "1"}
    assert not (tmp_path / ".checkpointed").exists()


def test_reading_what_is_whole_proves_that_there_was_one(opened, tmp_path):
    saved(opened, [4])
    (tmp_path / ".checkpointed").unlink()
    opened().restore(state(0))
    assert (tmp_path / ".checkpointed").exists()


def test_what_cannot_be_restored_is_one_line(opened, tmp_path):
    with pytest.raises(DataError, match="checkpoints: there is no checkpoint"):
        read_checkpoint(tmp_path, tiny(), state(0))
    folder = saved(opened, [4, 5])
    with pytest.raises(DataError, match=r"checkpoints/1: is of another run: seed was 0, now 3"):
        opened(seed=3).restore(state(0))
    spoil(folder / "0")
    spoil(folder / "1")
    says = r"no checkpoint is whole \(1: memory has no digest; 0: .*\); nothing was changed"
    with pytest.raises(DataError, match=says):
        opened().restore(state(0))
    assert {path.name for path in folder.iterdir()} == {"0", "1"}
    shutil.rmtree(folder)
    with pytest.raises(DataError, match="the checkpoints of this run are gone"):
        opened().restore(state(0))


def sealed():
    return module._seal(moment(4), tiny())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s["memory"].update(phase=5), "memory is not the one that was saved"),
        (lambda s: s["sha256"].pop("text"), "memory is not the one that was saved"),
        (lambda s: s["sha256"].pop("best"), "memory is not the one that was saved"),
        (lambda s: s["sha256"].pop("latest"), "memory is not the one that was saved"),
        (lambda s: s.pop("sha256"), "memory has no digest"),
        (lambda s: s.update(sha256="text"), "memory has no digest"),
    ],
)
def test_an_item_of_json_that_was_changed_is_damaged(change, says):
    item = sealed()
    module._check(item)
    change(item)
    with pytest.raises(Damaged, match=says):
        module._check(item)


def test_another_format_is_not_read():
    text = {key: value for key, value in sealed().items() if key != "sha256"} | {"format": 2}
    item = {**text, "sha256": {**sealed()["sha256"], "text": digest_text(text)}}
    with pytest.raises(Damaged, match="its format is 2, not 1"):
        module._check(item)


@pytest.mark.parametrize("name", ["latest", "best"])
def test_a_state_that_is_not_the_one_that_was_saved_is_damaged(opened, name, monkeypatch):
    saved(opened, [4])
    checkpoints = opened()
    items = checkpoints._items

    def exchanged(number, **wanted):
        found = {key: items(number, **wanted)[key] for key in wanted}
        return found | {key: state(5) for key in wanted if key == name}

    monkeypatch.setattr(checkpoints, "_items", exchanged)
    with pytest.raises(DataError, match=f"its {name} state is not the one that was saved"):
        checkpoints.restore(state(0))


@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOMEM, errno.EIO, None])
def test_what_the_system_refuses_says_nothing_against_a_file(opened, tmp_path, code):
    folder = saved(opened, [4])
    checkpoints = opened()
    checkpoints.prepare()

    def refuse(*_, **__):
        raise MemoryError if code is None else OSError(code, "no")

    checkpoints._manager.restore = refuse
    if code == errno.EIO:
        with pytest.raises(DataError, match="0: memory cannot be read"):
            checkpoints.restore(state(0))
    else:
        with pytest.raises(MemoryError if code is None else OSError) as caught:
            checkpoints.restore(state(0))
        assert code is None or (caught.value.errno, caught.value.filename) == (
            code,
            str(folder / "0"),
        )
    del checkpoints._manager.restore


def test_what_tensorstore_says_of_the_disk_becomes_an_error_of_the_system(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught, of_the_disk(tmp_path):
        raise ValueError("[os_error_code='28'] it says")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path))
    with pytest.raises(ValueError, match="else"), of_the_disk(tmp_path):
        raise ValueError("something else")


def test_a_digest_is_of_names_types_shapes_and_bytes():
    w, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(1, np.int32)
    expected = hashlib.sha256()
    for name, array in (("['b']", b), ("['w']", w)):
        expected.update(f"{name} {array.dtype} {array.shape}\n".encode() + array.tobytes())
    assert digest_arrays({"w": w, "b": b}) == expected.hexdigest()
    others = [
        {"v": w, "b": b},
        {"w": w.reshape(3, 2), "b": b},
        {"w": w.view(np.int32), "b": b},
        {"w": w + np.float32(1e-6), "b": b},
    ]
    assert len({expected.hexdigest(), *map(digest_arrays, others)}) == 5


def test_a_digest_of_text_knows_no_order_of_keys():
    expected = hashlib.sha256(b'{"a": [1, 2], "b": null}').hexdigest()
    assert digest_text({"b": None, "a": [1, 2]}) == expected
    assert digest_text({"b": None, "a": [2, 1]}) != expected
