"""`bihm-sample` as a user types it, on a run of a second."""

import io
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from PIL import Image

from bihm.cli import sample
from bihm.config import load as load_config
from bihm.config import to_yaml
from bihm.data import load
from bihm.errors import ConfigError, DataError
from bihm.records.checkpoint import Checkpoint, Checkpoints, read_checkpoint
from bihm.run.build import saved_like
from bihm.run.samples.masks import ImageLayout, observed_pixels

LONG = pytest.mark.long

DIGITS = ImageLayout((8, 8), column_major=False)


@pytest.fixture(scope="module")
def bars(uninterrupted, tmp_path_factory):
    """A run directory; its name is one that YAML would misread."""
    return shutil.copytree(uninterrupted[0], tmp_path_factory.mktemp("runs") / "a=b, 007")


@pytest.fixture
def run(shell):
    return partial(shell, sample)


def drawn(directory, stem):
    with np.load(directory / f"{stem}.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize(
    ("words", "method", "facts"),
    [
        ([], "ancestral", []),
        pytest.param(
            ["method=resample", "proposals=100"], "resample", ["ess", "distinct"], marks=LONG
        ),
        pytest.param(
            ["method=chain", "sweeps=3", "K=2"], "chain", ["acceptance", "ess"], marks=LONG
        ),
    ],
)
def test_every_method_writes_bits_and_a_picture(run, bars, words, method, facts):
    code, out, err = run(f"run={bars}", "n=5", *words)
    assert (code, err) == (0, "")
    stem = f"samples-{method}"
    lines = out.splitlines()
    assert lines[:2] == [str(bars / f"{stem}.npz"), str(bars / f"{stem}.png")]
    assert [part.split()[0] for part in "".join(lines[2:]).split("%")[:-1]] == facts
    first = drawn(bars, stem)
    assert list(first) == ["x"]
    assert first["x"].shape == (5, 16)
    assert first["x"].dtype == np.uint8
    assert set(np.unique(first["x"])) == {0, 1}
    picture = np.asarray(Image.open(io.BytesIO((bars / f"{stem}.png").read_bytes())))
    top = picture[2 + 3, 2 + 3 : 2 + 28 : 7]  # a bit is drawn as 7 x 7 pixels, behind a gap of 2
    np.testing.assert_array_equal(top, 255 * first["x"][0, :4])
    run(f"run={bars}", "n=5", "seed=1", *words)
    assert not np.array_equal(drawn(bars, stem)["x"], first["x"])
    run(f"run={bars}", "n=5", "seed=0", *words)
    np.testing.assert_array_equal(drawn(bars, stem)["x"], first["x"])
    assert {path.name for path in bars.glob(".*")} == {".arithmetic", ".checkpointed", ".lock"}


def test_inpainting_keeps_what_is_observed(run, bars):
    code, out, _ = run(f"run={bars}", "n=5", "mask=left", "sweeps=1", "K=2", "split=valid")
    assert code == 0
    assert "acceptance" in out.splitlines()[2]
    got = drawn(bars, "samples-inpaint")
    left = np.tile([1, 1, 0, 0], 4)
    np.testing.assert_array_equal(got["observed"], left)
    np.testing.assert_array_equal(got["x"][:, left == 1], got["data"][:, left == 1])
    assert not np.array_equal(got["x"], got["data"])
    rows = load("bars").valid
    assert all((rows == row).all(axis=1).any() for row in got["data"])
    assert not np.array_equal(got["data"], rows[:5])  # shuffled
    picture = np.asarray(Image.open(bars / "samples-inpaint.png"))
    assert set(np.unique(picture)) == {0, 128, 208, 255}
    # A line of one pixel within a triple (each 4 x 4 pixels, drawn as 7 x 7), four between two of them.
    line = [0] * 28 + [1] * 7 + [0] * 28 + [1] * 7 + [0] * 28
    apart = (picture == 208).all(axis=0).astype(int).tolist()
    assert apart == [1] * 28 + line + [1] * 28 + line + [1] * 28 + line + [1] * 28
    rows = (picture == 208).all(axis=1).astype(int).tolist()
    assert rows == [1] * 28 + [0] * 28 + [1] * 28 + [0] * 28 + [1] * 28


@pytest.mark.long
def test_an_animation_shows_the_chains_from_their_start_to_the_same_end(run, bars):
    words = [f"run={bars}", "n=4", "method=chain", "sweeps=230"]
    run(*words)
    alone = drawn(bars, "samples-chain")["x"]
    last = np.asarray(Image.open(bars / "samples-chain.png"))
    code, out, _ = run(*words, "gif=true")
    assert code == 0
    assert f"{bars / 'samples-chain.gif'}\n" in out
    np.testing.assert_array_equal(drawn(bars, "samples-chain")["x"], alone)
    with Image.open(bars / "samples-chain.gif") as gif:
        assert gif.n_frames == 1 + 77  # the start, and then after each three sweeps
        assert gif.info["loop"] == 0
        first = np.asarray(gif.convert("L"))
        gif.seek(77)
        np.testing.assert_array_equal(np.asarray(gif.convert("L")), last)
    assert (first != last).any()


def test_an_animation_stays_beside_the_same_samples_and_goes_with_others(run, bars):
    words = [f"run={bars}", "n=5", "method=chain", "sweeps=1", "K=2"]
    gif = bars / "samples-chain.gif"
    for more, stays in ((["gif=true"], True), ([], True), (["seed=1"], False)):
        assert run(*words, *more)[0] == 0
        assert gif.exists() == stays


def test_samples_are_those_of_the_best_state_and_need_no_data(run, bars, monkeypatch):
    def only_the_best(*arguments):
        return read_checkpoint(*arguments)._replace(latest=None)

    run(f"run={bars}", "n=5")
    before = drawn(bars, "samples-ancestral")["x"]
    monkeypatch.setattr("bihm.run.load.read_checkpoint", only_the_best)
    monkeypatch.setattr("bihm.run.trained.own_dataset", None)
    assert run(f"run={bars}", "n=5")[0] == 0
    np.testing.assert_array_equal(drawn(bars, "samples-ancestral")["x"], before)


MISTAKES = [
    (["n=0"], 2, "n must be at least 1, got 0"),
    (["n=99999999999"], 2, "n must be at most 10000000, got 99999999999"),
    (["n=1.5"], 2, "n must be a whole number, got '1.5'"),
    (["methd=chain"], 2, "there is no key 'methd'; did you mean 'method'?"),
    (
        ["method=gibbs"],
        2,
        "method must be one of ancestral, resample, chain, layerwise, generate, best, got 'gibbs'",
    ),
    (["sweeps=9"], 2, "sweeps has no meaning with method=ancestral; it belongs to chain"),
    (["method=chain", "proposals=9"], 2, "proposals has no meaning with method=chain"),
    (["method=resample", "mask=left"], 2, "mask has no meaning with method=resample"),
    (["method=chain", "K=1"], 2, "K must be at least 2, got 1"),
    (["method=chain", "sweeps=0"], 2, "sweeps must be at least 1, got 0"),
    (["method=resample", "proposals=0"], 2, "proposals must be at least 1, got 0"),
    (["gif=true"], 2, "gif has no meaning with method=ancestral; it belongs to chain"),
    (["method=best"], 2, "method=best needs a mask: it looks for the best completion of a row"),
    (["method=best", "gif=true"], 2, "gif has no meaning with method=best"),
    (["split=test"], 2, "split has no meaning without mask"),
    (["seed=-1"], 2, "seed must lie in 0 .. 2**32 - 1, got -1"),
    (["mask=lfet"], 2, "mask=lfet is neither one of left, right, top, bottom nor a file"),
    (["mask=left", "n=1000000"], 2, "n=1000000 but test has 80 rows: n=80 takes all"),
    (["mask=left", "n=1000000", "split=valid"], 2, "n=1000000 but valid has"),
]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [*MISTAKES[::3], *(pytest.param(*row, marks=LONG) for i, row in enumerate(MISTAKES) if i % 3)],
)
def test_a_mistake_dies_in_one_line(run, bars, words, code, message):
    got, out, err = run(f"run={bars}", *words)
    assert (got, out) == (code, "")
    assert err.startswith(f"bihm-sample: {message}")
    assert err.count("\n") == 1


def test_not_a_run_and_no_checkpoint(run, bars, tmp_path):
    code, _, err = run(f"run={tmp_path}")
    assert (code, err.count("\n")) == (2, 1)
    assert "is not a run directory" in err
    (tmp_path / "config.yaml").write_bytes((bars / "config.yaml").read_bytes())
    code, _, err = run(f"run={tmp_path}")
    assert (code, err) == (3, f"bihm-sample: {tmp_path}/checkpoints: there is no checkpoint\n")
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def altered(bars, path, change):
    """A copy of the run with another configuration, untrained."""
    shutil.copytree(bars, path, ignore=lambda *_: ["checkpoints", ".checkpointed"])
    saved = load_config(path / "config.yaml")
    change(saved)
    (path / "config.yaml").write_text(to_yaml(saved))
    state = saved_like(saved)[1]
    checkpoints = Checkpoints(path, saved)
    checkpoints.save(Checkpoint(state, state, {}))
    checkpoints.close()
    return path


def test_p_star_belongs_to_bihm(run, bars, tmp_path):
    other = altered(bars, tmp_path / "run", lambda c: setattr(c.model, "name", "wake_sleep"))
    for words in (["method=chain"], ["method=resample"], ["method=layerwise", "mask=left"]):
        code, _, err = run(f"run={other}", *words)
        assert (code, err.count("\n")) == (2, 1)
        assert "which only model=bihm has; this run's model is wake_sleep" in err
    assert run(f"run={other}", "n=5")[0] == 0


@pytest.mark.long
@pytest.mark.parametrize(
    ("rule", "bottom"),
    [
        ("rws", "sbn"),
        ("wake_sleep", "darn"),
        ("bihm", "nade"),
    ],
)
def test_every_model_with_every_bottom_completes(run, bars, tmp_path, rule, bottom):
    def change(config):
        config.model.name, config.p.layer = rule, [bottom, "sbn", "sbn"]

    other = altered(bars, tmp_path / "run", change)
    code, out, err = run(f"run={other}", "n=5", "mask=top", "sweeps=3", "K=3")
    assert (code, err) == (0, "")
    assert "acceptance" in out
    got = drawn(other, "samples-inpaint")
    np.testing.assert_array_equal(got["x"][:, :8], got["data"][:, :8])
    assert not np.array_equal(got["x"], got["data"])
    if rule == "bihm":
        assert run(f"run={other}", "n=5", "method=chain", "sweeps=3", "K=3")[0] == 0
        assert drawn(other, "samples-chain")["x"].shape == (5, 16)


def test_data_without_an_image_shape_get_no_picture(run, bars, tmp_path):
    np.save(tmp_path / "x.npy", load("bars").test)
    other = altered(
        bars,
        tmp_path / "run",
        lambda c: vars(c.dataset).update(
            name="mine", path=str(tmp_path / "x.npy"), image_shape=None
        ),
    )
    for path in other.glob("samples*"):
        path.unlink()
    np.save(tmp_path / "m.npy", np.arange(16) < 4)
    assert run(f"run={other}", "n=5", f"mask={tmp_path / 'm.npy'}", "sweeps=1", "K=2")[0] == 0
    assert [path.name for path in other.glob("samples*")] == ["samples-inpaint.npz"]
    assert drawn(other, "samples-inpaint")["observed"].sum() == 4
    code, _, err = run(f"run={other}", "mask=left")
    assert (code, "mask=left needs image data" in err) == (2, True)


@pytest.mark.parametrize(("half", "shape"), [("top", (1, 16)), ("left", (16, 1))])
def test_a_mask_that_observes_nothing_is_refused(half, shape, tmp_path):
    np.save(tmp_path / "m.npy", np.zeros(16, np.uint8))
    for mask in (half, str(tmp_path / "m.npy")):
        with pytest.raises(ConfigError, match="observes no pixel"):
            observed_pixels(mask, 16, ImageLayout(shape, column_major=False))
    with pytest.raises(ConfigError, match="is neither one of left, right, top, bottom nor a file"):
        observed_pixels("a" * 300, 16, None)


def test_halves_name_what_is_observed():
    for name, where in (
        ("left", np.s_[:, :4]),
        ("right", np.s_[:, 4:]),
        ("top", np.s_[:4]),
        ("bottom", np.s_[4:]),
    ):
        expected = np.zeros((8, 8), bool)
        expected[where] = True
        np.testing.assert_array_equal(observed_pixels(name, 64, DIGITS), expected.ravel())
    upright = observed_pixels("top", 6, ImageLayout((3, 2), column_major=True))
    np.testing.assert_array_equal(upright, [1, 0, 0, 1, 0, 0])
    with pytest.raises(ConfigError, match="mask=top needs image data; give a file of 6 bits"):
        observed_pixels("top", 6, None)


def test_a_mask_file_is_read_in_every_form(tmp_path):
    bits = np.array([1, 0, 0, 1, 1, 0])
    np.save(tmp_path / "a.npy", bits.astype(bool))
    np.savez(tmp_path / "b.npz", anything=bits)
    np.savez(tmp_path / "c.npz", mask=bits.astype(float), other=1 - bits)
    np.savetxt(tmp_path / "d.csv", bits[None], fmt="%d", delimiter=",")
    np.savetxt(tmp_path / "e.txt", bits, fmt="%d")
    for name in ("a.npy", "b.npz", "c.npz", "d.csv", "e.txt"):
        got = observed_pixels(str(tmp_path / name), 6, None)
        np.testing.assert_array_equal(got, bits.astype(bool))


@pytest.mark.parametrize(
    ("array", "kind", "message"),
    [
        (np.ones(5), ConfigError, r"has the shape \(5,\); this run needs 6 bits"),
        (np.ones((2, 3)), ConfigError, r"has the shape \(2, 3\); this run needs 6 bits"),
        (np.ones(6), ConfigError, "observes every pixel"),
        (np.arange(6), DataError, "only 0 and 1 are bits of a mask"),
    ],
)
def test_a_wrong_mask_is_refused(tmp_path, array, kind, message):
    np.save(tmp_path / "m.npy", array)
    with pytest.raises(kind, match=message):
        observed_pixels(str(tmp_path / "m.npy"), 6, None)


def test_a_mask_file_that_cannot_be_read(tmp_path):
    (tmp_path / "m.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match=r"m\.npy: damaged"):
        observed_pixels(str(tmp_path / "m.npy"), 6, None)
    (tmp_path / "m.png").touch()
    with pytest.raises(ConfigError, match=r"must end in one of \.npy, \.npz, \.mat, \.csv"):
        observed_pixels(str(tmp_path / "m.png"), 6, None)
    np.savez(tmp_path / "m.npz", a=np.ones(6), b=np.ones(6))
    with pytest.raises(DataError, match="holds a, b; one array is needed"):
        observed_pixels(str(tmp_path / "m.npz"), 6, None)


def test_help_answers_before_jax_is_imported_and_names_every_key():
    code = (
        "import sys; from bihm.cli.sample import Command, main\n"
        "try: main(['--help'])\n"
        "finally: print(*vars(Command('')), 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    text, *_, last = done.stdout.rpartition("\nrun ")
    *keys, jax = last.split()
    assert jax == "False"
    assert all(f"{key}=" in text for key in ["run", *keys])


@pytest.mark.long
def test_the_parts_that_a_chain_is_drawn_in_do_not_show(run, bars, monkeypatch):
    """Else the sweeps of each part would repeat the randomness of the first."""
    said, words = {}, ("method=chain", "sweeps=5", "K=2", "n=20", "mask=top")
    for part in (50, 2):
        monkeypatch.setattr("bihm.run.samples.sampler.PART", part)
        code, out, _ = run(f"run={bars}", *words)
        assert code == 0
        said[part] = drawn(bars, "samples-inpaint")["x"], out
    np.testing.assert_array_equal(said[50][0], said[2][0])
    assert said[50][1] == said[2][1]
