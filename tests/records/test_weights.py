"""`bihm-export`, and `bihm-eval weights=`: the same numbers, or one line on what is wrong with the file."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from small_run import EACH_EPOCH, arrays_in, tiny

from bihm import __version__
from bihm.cli import evaluate as eval_command
from bihm.cli import export as export_command
from bihm.config import from_dict, to_dict
from bihm.errors import ConfigError, DataError
from bihm.records import weights
from bihm.run.evaluate import evaluate
from bihm.run.load import export, read_run, read_weights
from bihm.run.train import train


@pytest.fixture(scope="module")
def exported(uninterrupted, tmp_path_factory):
    """A run directory with its weights file in it."""
    directory = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(uninterrupted[0], directory)
    export_command.main([f"run={directory}"])
    return directory


def parts(path):
    """Arrays and facts of a weights file, read without our own code."""
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return arrays, json.loads(file.metadata()["bihm"])


def test_a_weights_file_holds_the_best_parameters_and_what_they_are_of(exported):
    arrays, facts = parts(exported / "weights.safetensors")
    assert list(arrays) == sorted(
        f"{side}.{layer}.{name}"
        for side, layers in (("p", 3), ("q", 2))
        for layer in range(layers)
        for name in ("b", "w")
        if (side, layer, name) != ("p", 2, "w")
    )
    trained = read_run(exported)
    np.testing.assert_array_equal(arrays["p.0.w"], trained.params["p"][0]["w"].get_value())
    assert (facts["format"], facts["version"]) == (1, __version__)
    assert from_dict(facts["config"]) == trained.config == tiny(**EACH_EPOCH)


def test_weights_give_exactly_the_numbers_of_their_run(shell, exported, tmp_path):
    code, out, err = shell(
        export_command, f"run={exported}", f"out={tmp_path / 'a machine.safetensors'}"
    )
    assert (code, out, err) == (0, f"{tmp_path / 'a machine.safetensors'}\n", "")
    shutil.copy(tmp_path / "a machine.safetensors", tmp_path / "other")
    words = ["K=5", "per_example=true"]
    results = [
        shell(eval_command, source, *words)
        for source in (f"run={exported}", f"weights={tmp_path / 'a machine.safetensors'}")
    ]
    (said, own), (same, theirs) = ((r[1].splitlines()[0], r[1].splitlines()[1:]) for r in results)
    assert said == same
    assert [r[::2] for r in results] == [(0, ""), (0, "")]
    stems = (exported / "eval-test-K5", tmp_path / "a machine.safetensors.eval-test-K5")
    assert [own, theirs] == [[f"{stem}.json", f"{stem}.npz"] for stem in stems]
    theirs = tmp_path / "a machine.safetensors.eval-test-K5.json"
    assert theirs.read_text() == (exported / "eval-test-K5.json").read_text()
    rows, same = (
        arrays_in(path.with_suffix(".npz")) for path in (theirs, exported / "eval-test-K5")
    )
    for name in same:
        np.testing.assert_array_equal(rows[name], same[name])
    assert {path.name for path in tmp_path.iterdir()} == {
        *(
            "a machine.safetensors",
            "other",
            "a machine.safetensors.eval-test-K5.json",
            "a machine.safetensors.eval-test-K5.npz",
        ),
    }


def test_an_average_is_what_is_exported(tmp_path):
    config = tiny(optim__average=0.9)
    from bihm.config import to_yaml
    from bihm.records.checkpoint import Checkpoint, Checkpoints
    from bihm.run.build import saved_like
    from bihm.run.load import export

    _, state = saved_like(config)
    state = state._replace(average=jax.tree.map(lambda w: w + 1, state.params))
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    checkpoints = Checkpoints(tmp_path, config)
    checkpoints.save(Checkpoint(state, state, {}))
    checkpoints.close()
    arrays, _ = parts(export(tmp_path))
    np.testing.assert_array_equal(arrays["q.1.b"], state.params["q"][1]["b"].get_value() + 1)


def test_the_same_machine_makes_the_same_file(exported, tmp_path, shell):
    for _ in range(3):
        shell(export_command, f"run={exported}", f"out={tmp_path / 'again.safetensors'}")
        assert (tmp_path / "again.safetensors").read_bytes() == (
            exported / "weights.safetensors"
        ).read_bytes()


def rewritten(source, path, change_arrays=lambda arrays: None, change_config=lambda config: None):
    """A file that is whole by its own digest, but does not hold together."""
    arrays, facts = parts(source)
    change_arrays(arrays)
    change_config(facts["config"])
    facts.pop("sha256")
    facts["sha256"] = weights._digest(facts, arrays)
    save_file(arrays, path, metadata={"bihm": json.dumps(facts)})


def spoil(change):
    def damage(source, path):
        content = bytearray(source.read_bytes())
        path.write_bytes(change(content))

    return damage


def flipped(content):
    content[-9] ^= 1
    return content


def without_metadata(source, path):
    save_file(parts(source)[0], path)


def with_metadata(text):
    return lambda source, path: save_file(parts(source)[0], path, metadata={"bihm": text})


def with_arrays(change):
    return lambda source, path: rewritten(source, path, change_arrays=change)


def with_config(change):
    return lambda source, path: rewritten(source, path, change_config=change)


WRONG = {
    "truncated": (spoil(lambda content: content[:-9]), "damaged, or not a safetensors file"),
    "empty": (spoil(lambda content: b""), "damaged, or not a safetensors file"),
    "another kind": (spoil(lambda content: b"PK\3\4" * 99), "damaged, or not a safetensors file"),
    "flipped": (spoil(flipped), "altered: what it holds is not what was written"),
    "altered config": (
        spoil(lambda content: content.replace(b'\\"seed\\": 0', b'\\"seed\\": 1')),
        "altered: what it holds is not what was written",
    ),
    "foreign": (without_metadata, "not written by bihm-export: its metadata have no entry bihm"),
    "bad metadata": (with_metadata("{"), "the entry bihm of its metadata is not JSON"),
    "deep metadata": (with_metadata("[" * 99999), "the entry bihm of its metadata is not JSON"),
    "a list": (with_metadata("[]"), "lacks format, config or sha256"),
    "a future format": (
        with_metadata('{"format": 2, "config": {}, "sha256": ""}'),
        "format 2; this version of bihm reads format 1",
    ),
    "a missing array": (
        with_arrays(lambda arrays: arrays.pop("p.0.w")),
        "has no p.0.w, which its machine needs in shape (6, 16)",
    ),
    "one more array": (
        with_arrays(lambda arrays: arrays.update(x=arrays["p.0.w"])),
        "has x, which its machine does not have",
    ),
    "another shape": (
        with_arrays(lambda arrays: arrays.update({"p.0.w": arrays["p.0.w"].T.copy()})),
        "p.0.w has shape (16, 6); its machine needs (6, 16)",
    ),
    "another type": (
        with_arrays(lambda arrays: arrays.update({"p.0.b": arrays["p.0.b"].astype(np.float64)})),
        "p.0.b is F64; the parameters of a machine are F32",
    ),
    "an unknown key": (
        with_config(lambda config: config.update(_target_="os.system")),
        "there is no key '_target_'",
    ),
    "a class to import": (
        with_config(lambda config: config["model"].update(_target_="os.system")),
        "there is no key 'model._target_'",
    ),
    "a look-up": (
        with_config(lambda config: config["dataset"].update(path="${oc.env:HOME}")),
        "a saved configuration holds no interpolations",
    ),
    "no sense": (with_config(lambda config: config.update(K=0)), "K must be at least 1, got 0"),
    "no layers": (with_config(lambda config: config.update(layers=None)), "lacks layers"),
    "other layers": (with_config(lambda config: config.update(layers=[6, 4])), "has shape"),
}


@pytest.mark.parametrize(("damage", "says"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_file_is_one_line(shell, exported, tmp_path, damage, says):
    path = tmp_path / "machine"
    damage(exported / "weights.safetensors", path)
    code, out, err = shell(eval_command, f"weights={path}", "K=5")
    assert (code, out) == (3, "")
    assert err.startswith(f"bihm-eval: {path}: ")
    assert says in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["machine"]


@pytest.mark.parametrize(
    ("command", "words", "code", "says"),
    [
        (eval_command, [], 2, "give one of run=DIR and weights=FILE"),
        (eval_command, ["run=a", "weights=b"], 2, "give one of run=DIR and weights=FILE"),
        (eval_command, ["weights=missing"], 3, "missing: no such file"),
        (eval_command, ["weights=."], 2, "weights=. is a folder; a run is run=."),
        (export_command, ["run=missing"], 2, "run=missing is not a run directory"),
        (export_command, [], 2, "run=... is missing"),
    ],
)
def test_mistakes_of_a_command_line(shell, command, words, code, says):
    got, out, err = shell(command, *words)
    assert (got, out) == (code, "")
    assert err.startswith(f"{command.PROGRAM}: {says}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("out", ["no/such/folder/a.safetensors", "no.safetensors/a.safetensors"])
def test_a_file_that_cannot_be_written_leaves_nothing_behind(shell, exported, tmp_path, out):
    (tmp_path / "no.safetensors").touch()
    before = {path.name for path in exported.iterdir()}
    code, _, err = shell(export_command, f"run={exported}", f"out={tmp_path / out}")
    assert code == 2
    assert err.startswith(f"bihm-export: {tmp_path / out}: ")
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["no.safetensors"]
    assert {path.name for path in exported.iterdir()} == before


def test_a_saved_configuration_goes_to_a_dictionary_and_back():
    config = tiny(seed=3, optim__average=0.5)
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    wrong = {
        "not a conf": [],
        "lacks layers": {"seed": 1},
        "key 'dpeth'": {"layers": [1], "dpeth": 3},
    }
    for says, plain in wrong.items():
        with pytest.raises(ConfigError, match=says):
            from_dict(plain)


@pytest.mark.long
def test_rows_that_nothing_pins_are_those_of_the_run_or_refused(tmp_path, monkeypatch):
    """Cut anew, its test rows would be rows it was trained on."""
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).integers(2, size=(60, 16), dtype=np.uint8)
    np.save("rows.npy", rows)
    mine = {"dataset__name": "file", "dataset__path": str(tmp_path / "rows.npy"), "batch_size": 12}
    train(tiny(**mine), tmp_path / "run")
    file = export(tmp_path / "run", str(tmp_path / "one.safetensors"))
    test = read_run(tmp_path / "run").rows("test")
    np.testing.assert_array_equal(read_weights(file).rows("test"), test)
    np.save("rows.npy", np.concatenate([rows, rows]))
    for use in (lambda m: m.rows("test"), lambda m: evaluate(m, split="test", K=5)):
        with pytest.raises(DataError) as refused:
            use(read_weights(file))
        assert str(refused.value) == (
            f"{tmp_path}/rows.npy: other rows than those of the run that {file} is of; put them back, "
            "or name those to evaluate with dataset=FILE"
        )


@pytest.mark.long
def test_another_dataset_may_be_asked_for(exported, tmp_path):
    np.save(tmp_path / "mine.npy", np.eye(16, dtype=np.uint8))
    trained = read_weights(exported / "weights.safetensors")
    evaluate(trained, split="train", K=5, dataset=str(tmp_path / "mine.npy"))
    assert (exported / "weights.safetensors.eval-mine-train-K5.json").is_file()
    with pytest.raises(DataError, match="no such file"):
        evaluate(trained, split="train", K=5, dataset=str(tmp_path / "other.npy"))
