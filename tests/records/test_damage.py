"""What a run does when its files were damaged, exchanged or lost while it did not look."""

import json
import random
import shutil

import numpy as np
import pytest
from cases import rare
from small_run import (
    EACH_EPOCH,
    StopAt,
    assert_same_state,
    metrics,
    numbers,
    saved,
    tiny,
    without_clock,
)

from bihm.errors import BihmError, ConfigError, DataError, Interrupted
from bihm.records.checkpoint import Checkpoint, Checkpoints, read_checkpoint
from bihm.run.build import saved_like
from bihm.run.evaluate import evaluate
from bihm.run.load import read_run
from bihm.run.train import train


@pytest.fixture(scope="module")
def broken_off(tmp_path_factory):
    """That small run, stopped by a signal in its third epoch: two checkpoints lie there."""
    directory = tmp_path_factory.mktemp("broken_off") / "run"
    with pytest.MonkeyPatch.context() as patch:
        StopAt(patch, 12)  # the third epoch has done its steps
        with pytest.raises(Interrupted):
            train(tiny(**EACH_EPOCH), directory)
    return directory


@pytest.fixture
def run(broken_off, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(broken_off, tmp_path / "run")


def numbered(run):
    """The folders of the checkpoints, the newest last."""
    folders = (path for path in (run / "checkpoints").iterdir() if path.name.isdigit())
    return sorted(folders, key=lambda path: int(path.name))


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def restore(run, **changes):
    config = tiny(**EACH_EPOCH | changes)
    checkpoints = Checkpoints(run, config)
    try:
        return checkpoints.restore(saved_like(config)[1])
    finally:
        checkpoints.close()


def arrays(folder):
    return sorted(folder.glob("ocdbt.process_0/d/*"), key=lambda path: path.stat().st_size)


def flip(path, positions=slice(8, None, 64)):
    damaged = np.frombuffer(path.read_bytes(), np.uint8).copy()
    damaged[positions] ^= 1
    path.write_bytes(damaged.tobytes())


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut(path):
    """Not in half: behind the arrays a file may hold an index that nothing reads any more."""
    path.write_bytes(path.read_bytes()[:8])


def exchange(path, other):
    shutil.rmtree(path)
    shutil.copytree(other, path)


def edit(path, change):
    text = json.loads(path.read_text())
    change(text)
    path.write_text(json.dumps(text))


def older_one(newest):
    return numbered(newest.parent.parent)[0]


DAMAGE = {
    "flipped bits": lambda newest: [flip(path) for path in arrays(newest / "best")],
    "truncated": lambda newest: [cut(path) for path in arrays(newest / "latest")],
    "an older latest": lambda newest: exchange(newest / "latest", older_one(newest) / "latest"),
    "another best": lambda newest: exchange(newest / "best", newest / "latest"),
    "no best": lambda newest: shutil.rmtree(newest / "best"),
    "no memory": lambda newest: (newest / "memory" / "metadata").unlink(),
    "truncated memory": lambda newest: halve(newest / "memory" / "metadata"),
    "another memory": lambda newest: edit(
        newest / "memory" / "metadata", lambda text: text["memory"].update(best_epoch=7)
    ),
    "another config": lambda newest: edit(
        newest / "memory" / "metadata", lambda text: text["config"].update(seed=7)
    ),
    "memory of another type": lambda newest: (newest / "memory" / "metadata").write_text("[]"),
    "empty": lambda newest: (shutil.rmtree(newest), newest.mkdir()),
}


RARE = ("an older latest", "another memory", "memory of another type", "empty")


@pytest.mark.parametrize("damage", [*(name for name in DAMAGE if name not in RARE), *rare(*RARE)])
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(run, caplog, capfd, damage):
    older, newest = numbered(run)
    good = read_checkpoint(run, tiny(**EACH_EPOCH), saved_like(tiny(**EACH_EPOCH))[1])
    DAMAGE[damage](newest)
    before = content(newest)
    found = restore(run)
    assert int(found.latest.step) == 40 < int(good.latest.step)
    (line,) = caplog.messages
    assert line.startswith(f"{newest} is damaged (")
    assert line.endswith(f"); kept as {newest.name}.damaged; using {older.name}, of step 40")
    assert numbered(run) == [older]
    assert content(newest.with_name(f"{newest.name}.damaged")) == before
    assert capfd.readouterr() == ("", "")  # orbax and TensorStore would have a lot to say


def test_no_flipped_byte_of_a_checkpoint_goes_unnoticed(run, caplog):
    newest = numbered(run)[1]
    like = saved_like(tiny(**EACH_EPOCH))[1]
    good = read_checkpoint(run, tiny(**EACH_EPOCH), like)
    chance = random.Random(0)
    noticed = 0
    for path in [newest / "memory" / "metadata", *newest.rglob("d/*")]:
        intact = path.read_bytes()
        flip(path, chance.randrange(len(intact)))
        caplog.clear()
        found = read_checkpoint(run, tiny(**EACH_EPOCH), like)
        if caplog.messages:
            assert int(found.latest.step) == 40
            noticed += 1
        else:  # a byte that nobody reads
            assert found.memory == good.memory
            assert_same_state(found.latest, good.latest)
            assert_same_state(found.best, good.best)
        path.write_bytes(intact)
    assert noticed > 1


@pytest.mark.long
@pytest.mark.parametrize("damage", ["another best", "no memory"])
def test_the_run_ends_as_if_nothing_had_happened(run, uninterrupted, damage):
    DAMAGE[damage](numbered(run)[1])
    assert numbers(train(tiny(**EACH_EPOCH), run)) == numbers(uninterrupted[1])
    assert_same_state(saved(run).latest, saved(uninterrupted[0]).latest)
    assert_same_state(saved(run).best, saved(uninterrupted[0]).best)
    assert without_clock(metrics(run)) == without_clock(metrics(uninterrupted[0]))


def test_after_a_fall_back_two_whole_checkpoints_are_kept_again(run):
    config = tiny(**EACH_EPOCH)
    halve(numbered(run)[1] / "memory" / "metadata")
    checkpoints = Checkpoints(run, config)
    found = checkpoints.restore(saved_like(config)[1])
    assert not found.latest.step.committed  # or all programs would be compiled once more
    checkpoints.save(found)
    checkpoints.close()
    assert len(numbered(run)) == 2
    assert_same_state(restore(run), found)


def test_once_the_first_checkpoint_is_saved_its_loss_is_noticed(tmp_path):
    config = tiny(**EACH_EPOCH)
    like = saved_like(config)[1]
    checkpoints = Checkpoints(tmp_path, config)
    assert checkpoints.restore(like) is None
    checkpoints.save(Checkpoint(like, like, {}))
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(DataError, match="checkpoints of this run are gone"):
        restore(tmp_path)
    checkpoints.close()


def test_a_number_can_be_damaged_twice(run):
    for _ in range(2):
        shutil.copytree(numbered(run)[0], run / "checkpoints" / "7")
        halve(run / "checkpoints" / "7" / "memory" / "metadata")
        restore(run)
    kept = {path.name for path in (run / "checkpoints").iterdir() if "damaged" in path.name}
    assert kept == {"7.damaged", "7.damaged.2"}


def assert_refused_and_untouched(run, kind, says, **changes):
    """One line, and nothing but the status differs afterwards."""
    before = content(run)
    with pytest.raises(kind, match=says) as caught:
        train(tiny(**EACH_EPOCH | changes), run)
    assert "\n" not in str(caught.value)
    after = content(run)
    assert json.loads(after.pop("status.json"))["status"] == "failed"
    before.pop("status.json", None)
    assert after == before


def test_when_all_are_damaged_nothing_is_touched(run):
    for folder in numbered(run):
        halve(folder / "latest" / "_METADATA")
    assert_refused_and_untouched(run, DataError, "no checkpoint is whole.*nothing was changed")
    assert read_error(run).startswith(f"{run / 'checkpoints'}: no checkpoint is whole")


def read_error(run):
    with pytest.raises(BihmError) as caught:
        read_run(run)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 3}, "seed was 0, now 3"),
        ({"depth": 1, "layers": [6]}, r"depth was 2, now 1, layers was \[6, 3\], now \[6\]"),
        ({"model__name": "rws"}, "model.name was bihm, now rws"),
        ({"dataset__name": "digits"}, "dataset.name was bars, now digits"),
    ],
    ids=["seed", "depth", "rule", "dataset"],
)
def test_a_foreign_checkpoint_is_refused_before_its_arrays_are_read(run, change, says):
    newest = numbered(run)[1]
    shutil.rmtree(newest / "latest")
    before = content(run)
    with pytest.raises(DataError, match=f"{newest}: is of another run: {says}$"):
        restore(run, **change)
    assert content(run) == before


def test_a_run_with_the_checkpoints_of_another_is_refused(run, tmp_path):
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("seed: 0", "seed: 5"))
    assert_refused_and_untouched(run, DataError, "is of another run: seed was 0, now 5$", seed=5)
    assert read_error(run).endswith("is of another run: seed was 0, now 5")


@pytest.mark.parametrize("leave", ["nothing", "an empty folder", "what was set aside"])
def test_lost_checkpoints_are_not_replaced_by_a_new_start(run, leave):
    newest = numbered(run)[1]
    if leave == "what was set aside":
        newest.rename(newest.with_name(f"{newest.name}.damaged"))
    for folder in numbered(run):
        shutil.rmtree(folder)
    if leave == "nothing":
        (run / "checkpoints").rmdir()
    assert_refused_and_untouched(run, DataError, "checkpoints of this run are gone; put them back")


def test_a_run_that_died_before_its_first_checkpoint_starts_again(
    tmp_path, monkeypatch, uninterrupted
):
    class Died(Exception):
        pass

    def die(*_):
        (tmp_path / "checkpoints" / "0.orbax-checkpoint-tmp").mkdir(parents=True)
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", die)
        with pytest.raises(Died):
            train(tiny(epochs=4), tmp_path)
    assert len(metrics(tmp_path)) == 4
    assert numbers(train(tiny(**EACH_EPOCH), tmp_path)) == numbers(uninterrupted[1])
    assert without_clock(metrics(tmp_path)) == without_clock(metrics(uninterrupted[0]))


def test_evaluating_a_damaged_run_falls_back_and_changes_nothing(run, caplog):
    older, newest = numbered(run)
    halve(newest / "best" / "_METADATA")
    before = content(run)
    trained = read_run(run)
    assert content(run) == before
    (line,) = caplog.messages
    assert (
        line
        == f"{newest} is damaged (latest and best cannot be read); using {older.name}, of step 40"
    )
    shutil.rmtree(newest)
    assert_same_state(trained.params, read_run(run).params)
    assert np.isfinite(evaluate(trained, split="test", K=5)["log_p"]["mean"])


SMALL_FILES = {"truncated": lambda text: text[: len(text) // 2], "a list": lambda text: "[]\n"}


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(("status.json", "a list"), ("results.json", "truncated")),
        pytest.param("status.json", "truncated", marks=pytest.mark.long),
        pytest.param("results.json", "a list", marks=pytest.mark.long),
    ],
)
def test_what_a_finished_run_can_make_again_it_does(uninterrupted, tmp_path, caplog, name, damage):
    run = shutil.copytree(uninterrupted[0], tmp_path / "run")
    path = run / name
    path.write_text(SMALL_FILES[damage](path.read_text()))
    with caplog.at_level("WARNING"):
        assert numbers(train(tiny(**EACH_EPOCH), run)) == numbers(uninterrupted[1])
    said, _ = caplog.messages  # the other: so short a run ends on the plateau
    assert said == f"{path} is damaged; it is made again"
    assert numbers(json.loads((run / "results.json").read_text())) == numbers(uninterrupted[1])
    assert json.loads((run / "status.json").read_text())["status"] == "finished"
    assert metrics(run) == metrics(uninterrupted[0])


@pytest.mark.long
def test_results_without_their_numbers_are_made_again(uninterrupted, tmp_path, caplog):
    run = shutil.copytree(uninterrupted[0], tmp_path / "run")
    edit(run / "results.json", lambda results: results["test"].pop("log_p"))
    assert numbers(train(tiny(**EACH_EPOCH), run)) == numbers(uninterrupted[1])
    said, _ = caplog.messages  # the other: so short a run ends on the plateau
    assert said == f"{run / 'results.json'} is damaged; it is made again"


@pytest.mark.parametrize(
    "text",
    ["", "a: [", "- 1\n", "\0", "layers: x\n", "dataset:\n  name: bars\n", "K: 4\n  b: 5\n"],
)
def test_a_damaged_configuration_is_one_line_that_names_the_file(run, text):
    (run / "config.yaml").write_text(text)
    before = content(run)
    with pytest.raises(ConfigError) as caught:
        train(tiny(**EACH_EPOCH), run)
    assert "\n" not in str(caught.value)
    assert str(run) in str(caught.value)
    assert content(run) == before
    said = read_error(run)
    assert "config.yaml" in said
    assert "Unsupported" not in said
