"""Estimates of a finished run again: of which rows, by which samples, and into which file."""

import json
import re
import shutil
from functools import partial

import jax
import numpy as np
import pytest
from cases import rare
from small_run import EACH_EPOCH, arrays_in, own_rows, tiny
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bihm.cli.evaluate import main as evaluate_main
from bihm.data import entry, import_file, load
from bihm.errors import ConfigError, DataError
from bihm.run.build import make_parts
from bihm.run.estimates.estimate_files import file_of
from bihm.run.estimates.listener import Listener
from bihm.run.estimates.sandwich import sandwich_rows
from bihm.run.evaluate import evaluate, evaluate_curve
from bihm.run.load import read_run
from bihm.run.train import train
from bihm.run.trained import TrainedMachine
from bihm.run.training.own_rows import hold_to_its_rows


@pytest.fixture
def run(uninterrupted, tmp_path):
    return shutil.copytree(uninterrupted[0], tmp_path / "run")


def rows_of(path, seed=0):
    path.parent.mkdir(exist_ok=True)
    np.save(path, np.random.default_rng(seed).integers(0, 2, (40, 16), dtype=np.uint8))
    return path


def images_in(run):
    events = EventAccumulator(str(run), size_guidance={"images": 0})
    events.Reload()
    return sorted(events.Tags()["images"])


def test_the_k_of_the_run_gives_its_numbers_again(run, uninterrupted):
    K = tiny(**EACH_EPOCH).eval.final_K
    assert tiny(**EACH_EPOCH).eval.K != K  # the run worked in blocks of that size
    assert evaluate(read_run(run), split="test", K=K) == uninterrupted[1]["test"]
    saved = json.loads((run / f"eval-test-K{K}.json").read_text())
    assert re.fullmatch("[0-9a-f]{16}", saved.pop("parameters"))
    assert saved == {"dataset": "bars", **uninterrupted[1]["test"]}


def test_every_estimate_comes_with_how_far_to_believe_it(run, tmp_path, capsys):
    """The run's q is hardly trained: the weights of many of the 80 rows have heavy tails."""
    evaluate_main([f"run={run}", "K=100", "per_example=true", f"out={tmp_path}"])
    out, err = capsys.readouterr()
    block = json.loads((tmp_path / "eval-test-K100.json").read_text())
    arrays = arrays_in(tmp_path / "eval-test-K100.npz")
    for name in ("k_hat_p", "k_hat_p_star"):
        assert block[f"high_{name}"] == np.mean(arrays[name] > 0.7)
        assert len(arrays[name]) == len(arrays["log_p"])
    assert f"k-hat p > 0.7: {100 * block['high_k_hat_p']:.1f} %" in out
    assert ("log p may be understated" in err) == (block["high_k_hat_p"] > 0.1)


@pytest.mark.parametrize(
    "estimate", [partial(evaluate_curve, Ks=[1, 3]), *rare(partial(evaluate, K=3))]
)
def test_whoever_listens_hears_of_the_work_on_2_log_z_and_on_the_rows(run, estimate):
    heard = []
    to = Listener(report=lambda done, total: heard.append((done, total)))
    estimate(read_run(run), split="test", to=to)
    assert sum(done == total for done, total in heard) == 2


@pytest.mark.long
def test_a_sandwich_stands_beside_the_estimates(run, tmp_path, capsys):
    evaluate_main([f"run={run}", "K=7", "sandwich=true", f"out={tmp_path}"])
    line = capsys.readouterr().out.splitlines()[1]
    found = json.loads((tmp_path / "eval-test-K7-sandwich.json").read_text())["sandwich"]
    assert (found["examples"], found["K"]) == (1000, 7)
    assert found["upper"]["mean"] - found["lower"]["mean"] == pytest.approx(found["gap"]["mean"])
    assert line.startswith("sandwich 1000 dreamt rows, K=7:  log_p from ")
    assert line.endswith(f"gap {found['gap']['mean']:.3f} +- {found['gap']['sem']:.3f}")
    rows = sandwich_rows(read_run(run), 7, 33)  # a number that no tile divides
    assert rows.x.shape == (33, 16)
    assert rows.lower.shape == rows.upper.shape == (33,)
    assert (rows.lower != rows.upper).all()
    other = sandwich_rows(read_run(run), 7, 33, seed=5)
    assert (other.x != rows.x).any()


@pytest.mark.long
def test_repeats_are_the_numbers_of_the_seeds_that_follow(run, tmp_path, capsys):
    words = [f"run={run}", "K=7", "repeats=3", "per_example=true", f"out={tmp_path}"]
    evaluate_main(words)
    out = capsys.readouterr().out.splitlines()
    block = json.loads((tmp_path / "eval-test-K7-repeats3.json").read_text())
    machine = read_run(run)
    rows = machine.rows("test")
    each = np.stack([machine.log_p(rows, 7, seed=seed) for seed in range(3)])
    assert block["repeats"] == 3
    assert block["log_p"]["mean"] == pytest.approx(each.mean())
    assert block["two_log_z"]["outer"] == 2400
    arrays = arrays_in(tmp_path / "eval-test-K7-repeats3.npz")
    np.testing.assert_allclose(arrays["log_p"], each.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(
        arrays["log_p_sem"], each.std(axis=0, ddof=1) / np.sqrt(3), rtol=1e-4
    )
    assert out[1].startswith("log_p by 3 seeds: ")
    assert out[1].endswith("bias: low")
    assert "high by about" in out[3]
    for wrong in ("repeats=0", "repeats=1001"):
        with pytest.raises(SystemExit, match="2"):
            evaluate_main([*words[:2], wrong])
    assert "repeats must be at least 1 and at most 1000" in capsys.readouterr().err


@pytest.mark.long
def test_several_k_are_one_pass_whose_last_is_that_of_the_largest_alone(run, tmp_path, capsys):
    for name in ("curve", "alone"):
        (tmp_path / name).mkdir()
    evaluate_main([f"run={run}", "K=[40,7,22,10]", "per_example=true", f"out={tmp_path / 'curve'}"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines if line.startswith("test")] == [
        "K=7:",
        "K=10:",
        "K=22:",
        "K=40:",
    ]
    evaluate_main([f"run={run}", "K=40", f"out={tmp_path / 'alone'}"])
    blocks = [
        json.loads((tmp_path / "curve" / f"eval-test-K{K}.json").read_text())
        for K in (7, 10, 22, 40)
    ]
    assert blocks[-1] == json.loads((tmp_path / "alone" / "eval-test-K40.json").read_text())
    machine = read_run(run)  # it works in blocks of five
    expected = machine.estimates(machine.rows("test"), 10)
    arrays = arrays_in(tmp_path / "curve" / "eval-test-K10.npz")
    np.testing.assert_array_equal(arrays["log_p"], np.float32(expected.log_p))
    expected = machine.estimates(machine.rows("test"), 22)
    arrays = arrays_in(tmp_path / "curve" / "eval-test-K22.npz")
    np.testing.assert_array_equal(arrays["k_hat_p"], np.float32(expected.k_hat_p))
    np.testing.assert_array_equal(arrays["log_p"], np.float32(expected.log_p))
    for wrong, message in (
        (["repeats=2"], "repeats goes with one K, got K=[1, 2]"),
        (["sandwich=true"], "sandwich goes with one K"),
        ([f"out={tmp_path / 'new.json'}"], "must be a folder that is there: each K has a file"),
    ):
        with pytest.raises(SystemExit, match="2"):
            evaluate_main([f"run={run}", "K=[1,2]", *wrong])
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        evaluate_main([f"run={run}", "K=[1,x]"])
    assert (
        "K must be a whole number, or several as [1,10,100], got '[1,x]'" in capsys.readouterr().err
    )


@pytest.mark.long
def test_what_is_missing_has_a_probability_given_what_is_seen(run, tmp_path, capsys):
    """By p, and by p* of this run of BiHM; the machine's own method has the same numbers."""
    words = [f"run={run}", "K=200", "given=left", "per_example=true", f"out={tmp_path}"]
    evaluate_main(words)
    line = capsys.readouterr().out.splitlines()[1]
    found = json.loads((tmp_path / "eval-test-K200-given-left.json").read_text())["given"]
    arrays = arrays_in(tmp_path / "eval-test-K200-given-left.npz")
    assert (found["mask"], found["seen"], found["missing"]) == ("left", 8, 8)
    assert found["samples_seen"] == 200
    for missing, seen, whole in (
        ("log_p_missing", "log_p_seen", "log_p"),
        ("log_p_star_missing", "log_p_tilde_star_seen", "log_p_tilde_star"),
    ):
        np.testing.assert_allclose(arrays[missing] + arrays[seen], arrays[whole], atol=1e-4)
        assert found[seen]["mean"] == pytest.approx(arrays[seen].mean(), rel=1e-5)
        assert (arrays[seen] > arrays[whole]).mean() > 0.9  # fewer bits are likelier
    assert line.startswith("given left:  log_p of the 8 missing units ")
    assert line.endswith(f"ESS p of the seen {100 * found['ess_p_seen']:.1f} %")
    assert found["ess_p_seen"] == pytest.approx(arrays["ess_p_seen"].mean(), rel=1e-5)
    assert f"log_p_star of the missing {found['log_p_star_missing']['mean']:.3f}" in line
    machine = read_run(run)
    rows = machine.rows("test")
    alone = machine.given(rows, "left", 200)
    for name, values in alone._asdict().items():
        np.testing.assert_array_equal(np.float32(values), arrays[name])
    other = np.where(machine.observed("left", 0), rows, np.nan)
    lacking = machine.given(other, K=200)
    assert lacking.log_p_missing is None
    np.testing.assert_array_equal(lacking.log_p_seen, alone.log_p_seen)
    np.save(tmp_path / "none.npy", np.zeros(16))
    with pytest.raises(SystemExit, match="2"):
        evaluate_main([f"run={run}", "K=1", f"given={tmp_path}/none.npy"])
    assert f"given={tmp_path}/none.npy observes no pixel: nothing is" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        evaluate_main([f"run={run}", "K=[1,2]", "given=left"])
    assert "given goes with one K" in capsys.readouterr().err


LACKING = ["1,0,?,1", "0,NA,1,", "0,1,0,0", ",nan,1,0"]  # of 16 values, four times


@pytest.mark.long
def test_rows_that_lack_values_are_estimated_by_what_is_there(run, tmp_path, capsys):
    path = tmp_path / "lacking.csv"
    lines = [",".join([line] * 4) for line in LACKING * 3] + [",".join(["NA"] * 16)] * 8
    path.write_text("\n".join(lines) + "\n")
    evaluate_main([f"run={run}", "K=99", f"dataset={path}", "split=train", "per_example=true"])
    out, err = capsys.readouterr()
    arrays = arrays_in(run / "eval-lacking-train-K99.npz")
    missing = int((16 - arrays["seen"]).sum())
    assert f"{missing} of 256 values of split=train are missing: the numbers are those of" in err
    some = arrays["seen"] > 0
    assert 8 <= some.sum() < 16
    assert f"{16 - some.sum()} of the 16 rows have no value at all; the means leave them out" in err
    assert f"{some.sum()} rows without {missing} missing values, K=100:  log_p " in out
    assert (arrays["log_p"][~some] == 0).all()  # the probability of nothing is 1
    block = json.loads((run / "eval-lacking-train-K99.json").read_text())
    assert (block["missing_values"], block["K"], block["samples_seen"]) == (missing, 99, 100)
    assert block["log_p"]["mean"] == pytest.approx(arrays["log_p"][some].mean(), rel=1e-6)
    machine = read_run(run)
    rows = load("file", str(path), missing=True).train
    found = machine.given(np.where(rows == 2, np.nan, rows), K=100)
    np.testing.assert_array_equal(arrays["log_p"], np.float32(found.log_p_seen))
    star = found.log_p_tilde_star_seen[some].mean() - machine.two_log_z().mean
    assert block["log_p_star"]["mean"] == pytest.approx(star, rel=1e-6)
    (tmp_path / "empty.csv").write_text((",".join(["NA"] * 16) + "\n") * 20)
    with pytest.raises(SystemExit, match="3"):
        evaluate_main([f"run={run}", f"dataset={tmp_path / 'empty.csv'}"])
    assert "/empty.csv: no row of split=test has any value" in capsys.readouterr().err
    for word, message in (
        ("repeats=2", "repeats cannot be had of rows that lack values"),
        ("given=left", "given cannot be had of rows that lack values"),
        ("K=[1,2]", "several K cannot be had of rows that lack values"),
    ):
        with pytest.raises(SystemExit, match="2"):
            evaluate_main([f"run={run}", f"dataset={path}", "split=train", word])
        assert message in capsys.readouterr().err
    with pytest.raises(DataError, match="bihm-eval dataset=FILE takes missing values"):
        train(tiny(dataset__name="file", dataset__path=str(path)), tmp_path / "new")


def test_a_libsvm_file_may_lack_features_that_no_row_has_on(run, tmp_path, capsys):
    rows = np.eye(16, dtype=np.uint8)[:10]  # the last six are off in all
    lines = [f"0 {int(row.argmax()) + 1}:1\n" for row in rows]
    (tmp_path / "rows.libsvm").write_text("".join(lines))
    found = evaluate(read_run(run), split="train", K=5, dataset=str(tmp_path / "rows.libsvm"))
    np.save(tmp_path / "same.npy", rows)
    assert found == evaluate(read_run(run), split="train", K=5, dataset=str(tmp_path / "same.npy"))
    np.save(tmp_path / "narrow.npy", rows[:, :10])
    with pytest.raises(
        ConfigError, match=r"/narrow\.npy has 10 features; this run's machine has 16"
    ):
        evaluate(read_run(run), split="train", K=5, dataset=str(tmp_path / "narrow.npy"))


@pytest.mark.long
def test_an_import_is_a_dataset_like_any_other(run, tmp_path):
    import_file(rows_of(tmp_path / "rows.npy"), "mine")
    by_name = evaluate(read_run(run), split="test", K=5, dataset="mine")
    by_file = evaluate(read_run(run), split="test", K=5, dataset=str(tmp_path / "rows.npy"))
    assert by_name == by_file
    assert json.loads((run / "eval-mine-test-K5.json").read_text())["dataset"] == "mine"
    np.testing.assert_array_equal(
        load("mine").train, load("file", str(tmp_path / "rows.npy")).train
    )


@pytest.mark.long
def test_files_of_the_same_name_do_not_replace_each_other(run, tmp_path):
    one, other = (rows_of(tmp_path / name / "rows.npy", i) for i, name in enumerate("ab"))
    before = evaluate(read_run(run), split="test", K=5, dataset=str(one))
    with pytest.raises(ConfigError, match=r"holds the estimates of .*/a/rows\.npy; move it away"):
        evaluate(read_run(run), split="test", K=5, dataset=str(other))
    assert evaluate(read_run(run), split="test", K=5, dataset=str(one)) == before
    (run / "eval-rows-test-K5.json").write_text("[]")  # damaged: nothing to lose
    assert evaluate(read_run(run), split="test", K=5, dataset=str(one)) == before


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*test-K5*")}


@pytest.mark.parametrize(
    "asked",
    [{"repeats": 2}, *rare({"given": "left"}, {"repeats": 2, "sandwich": True})],
)
def test_each_question_keeps_its_own_file(asked, run, tmp_path):
    evaluate(read_run(run), split="test", K=5, per_example=True, out=str(tmp_path))
    before = files_in(tmp_path)
    assert sorted(before) == ["eval-test-K5.json", "eval-test-K5.npz"]
    evaluate(read_run(run), split="test", K=5, out=str(tmp_path), **asked)
    assert files_in(tmp_path).items() > before.items()
    name = {"given": "-given-left", "repeats": "-repeats2", "sandwich": "-sandwich"}
    own = "".join(name[key] for key in asked)
    assert files_in(tmp_path).keys() - before == {f"eval-test-K5{own}.json"}
    evaluate(read_run(run), split="test", K=5, out=str(tmp_path))  # the same numbers: its rows stay
    assert files_in(tmp_path).items() > before.items()


def test_estimates_given_one_mask_are_not_replaced_by_those_given_another(run, tmp_path):
    for folder, columns in (("a", 4), ("b", 8)):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "left.npy", np.arange(16) < columns)
    masks = ["left", *(str(tmp_path / folder / "left.npy") for folder in "ab")]
    file, machine = run / "eval-test-K5-given-left.json", read_run(run)
    for mask in masks:
        before = json.dumps({"dataset": "bars", "given": {"mask": mask}})
        file.write_text(before)
        for other in set(masks) - {mask}:
            with pytest.raises(ConfigError, match="holds the estimates given another mask"):
                evaluate(machine, split="test", K=5, given=other)
        assert file.read_text() == before
        assert file_of(machine, "bars", "test-K5-given-left", None, mask) == file


def test_parts_of_rows_of_bits_that_depend_on_each_other_are_refused_before_the_work():
    config = tiny(p__layer="darn")
    config.dataset.n_features = 16
    structure, params, _ = make_parts(config)
    machine = TrainedMachine(config, structure, params, "nowhere/")
    machine.estimates = None  # nobody gets there
    calls = (
        lambda: evaluate(machine, split="test", K=5, given="left"),
        lambda: machine.given(np.zeros((3, 16)), "left"),
    )
    for call in calls:
        with pytest.raises(ConfigError, match="needs independent bits in p"):
            call()


def other_parameters(run):
    machine = read_run(run)
    machine.params = jax.tree.map(lambda leaf: leaf * 1.5, machine.params)
    return machine


def test_numbers_of_rows_go_when_their_block_is_another(run):
    evaluate(read_run(run), split="test", K=5, per_example=True)
    evaluate(other_parameters(run), split="test", K=5)  # the run has gone on
    assert sorted(files_in(run)) == ["eval-test-K5.json"]


def test_estimates_of_another_machine_are_not_replaced(run, tmp_path):
    for out in (tmp_path, tmp_path / "mine.json"):
        evaluate(read_run(run), split="test", K=5, out=str(out))
        with pytest.raises(
            ConfigError, match=r"K5|mine.*\.json holds the estimates of other param"
        ):
            evaluate(other_parameters(run), split="test", K=5, out=str(out))
        evaluate(read_run(run), split="test", K=5, out=str(out))


@pytest.mark.long
def test_a_run_finds_its_file_from_any_directory(tmp_path, monkeypatch):
    rows_of(tmp_path / "rows.npy")
    monkeypatch.chdir(tmp_path)
    config = tiny(dataset__name="file", dataset__path="rows.npy", epochs=1, batch_size=10)
    results = train(config, tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    rows_of(tmp_path / "elsewhere" / "rows.npy", seed=1)  # not these, of the same width
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in (None, "file"):
        got = evaluate(read_run(tmp_path / "run"), split="test", K=15, dataset=name)
        assert got == results["test"]


CUT = "one table of 40 rows, shuffled by RandomState(0) and cut 80/10/10: 32 train, 4 valid, 4 test"


@pytest.mark.long
def test_a_run_on_one_table_says_that_it_was_cut(tmp_path, caplog):
    path = rows_of(tmp_path / "rows.npy")
    config = tiny(dataset__name="file", dataset__path=str(path), epochs=1, batch_size=10)
    with caplog.at_level("INFO", "bihm"):
        results = train(config, tmp_path / "run")
    assert (
        results["cut"] == json.loads((tmp_path / "run" / "results.json").read_text())["cut"] == CUT
    )
    assert sum(f"{path}: {CUT}; for splits of your own" in line for line in caplog.messages) == 1


@pytest.mark.long
def test_estimates_say_which_rows_of_a_file_a_split_is(run, tmp_path, capsys):
    path, folder = rows_of(tmp_path / "rows.npy"), str(run)
    evaluate_main([f"run={folder}", "K=5", "split=valid", f"dataset={path}"])
    cut, split = capsys.readouterr().err.splitlines()
    assert cut.startswith(f"bihm-eval: {path}: {CUT}; for splits of your own")
    assert split == "bihm-eval: split=valid means 4 of those rows"
    assert json.loads((run / "eval-rows-valid-K5.json").read_text())["cut"] == CUT
    rows = np.load(path)
    np.savez(tmp_path / "mine.npz", train=rows, valid=rows[:4], test=rows)
    evaluate_main([f"run={folder}", "K=5", "split=valid", f"dataset={tmp_path / 'mine.npz'}"])
    assert capsys.readouterr().err == ""  # the file's own splits
    assert "cut" not in json.loads((run / "eval-mine-valid-K5.json").read_text())


@pytest.mark.long
def test_pictures_are_made_of_a_file_that_says_its_shape(tmp_path):
    path = str(rows_of(tmp_path / "rows.npy"))
    for shape, name in (([4, 4], "images"), (None, "none")):
        config = tiny(dataset__name="file", dataset__path=path, dataset__image_shape=shape)
        config.epochs, config.batch_size = 1, 10
        train(config, tmp_path / name)
    assert images_in(tmp_path / "images") == [
        *("samples/p", "weights/p_x_given_h1", "weights/q_h1_given_x")
    ]
    assert images_in(tmp_path / "none") == []


def test_rows_of_a_dataset_that_nobody_has_hashed_are_noted_like_a_users(tmp_path, monkeypatch):
    config, bars, pinned = tiny(), load("bars"), entry("bars")
    hold_to_its_rows(config, bars, tmp_path)
    assert not (tmp_path / ".rows").exists()
    unseen = pinned._replace(sha256=pinned.sha256 | {"test": None})  # as those of rcv1
    monkeypatch.setattr("bihm.data.dataset.entry", lambda name: unseen)
    hold_to_its_rows(config, bars, tmp_path)
    with pytest.raises(DataError, match="bars: other rows than when"):
        hold_to_its_rows(config, bars._replace(test=bars.test[::-1]), tmp_path)


def test_a_run_does_not_go_on_with_other_rows(tmp_path):
    path, bars = tmp_path / "rows.npz", load("bars")  # of which others have compiled a run
    rows = {split: getattr(bars, split) for split in ("train", "valid", "test")}
    np.savez(path, **rows)
    config = tiny(dataset__name="file", dataset__path=str(path), epochs=1)
    results = train(config, tmp_path / "run")
    np.savez(path, **rows | {"train": rows["train"][::-1]})
    with pytest.raises(DataError, match=r"rows\.npz: other rows than when .*run began"):
        train(config, tmp_path / "run")
    machine = read_run(tmp_path / "run")  # nor are they its test rows
    with pytest.raises(DataError, match=r"other rows than when .*run began; .* dataset=FILE"):
        machine.rows("test")
    with pytest.raises(DataError, match="other rows than when"):
        evaluate(machine, split="test", K=6)
    assert (
        evaluate(machine, split="test", K=6, dataset=str(path), out=str(tmp_path))["examples"] > 0
    )
    np.savez(path, **rows)
    assert train(config, tmp_path / "run") == results
    assert evaluate(machine, split="test", K=config.eval.final_K) == results["test"]
    for damage in (b"", b"\xff\xfe", b"0123"):
        (tmp_path / "run" / ".rows").write_bytes(damage)
        for ask in (lambda: train(config, tmp_path / "run"), machine.rows):
            with pytest.raises(DataError, match=r"\.rows is damaged; remove it if"):
                ask()


def test_an_import_that_was_replaced_is_no_longer_the_data_of_a_run(tmp_path):
    import_file(own_rows(tmp_path / "a" / "rows.npz"), name="mine")
    config = tiny(dataset__name="mine", dataset__image_shape=None, epochs=1)
    train(config, tmp_path / "run")
    import_file(own_rows(tmp_path / "b" / "rows.npz", seed=1), name="mine", force=True)
    machine = read_run(tmp_path / "run")
    for ask in (lambda: train(config, tmp_path / "run"), machine.rows):
        with pytest.raises(DataError, match=r"mine: other rows than when .*run began"):
            ask()


def test_a_file_is_named_itself(run):
    with pytest.raises(ConfigError, match=r"dataset=file: name the file itself, as dataset=rows"):
        evaluate(read_run(run), split="test", K=3, dataset="file")


def test_a_path_does_not_go_with_the_name_of_another_dataset(tmp_path):
    path = str(rows_of(tmp_path / "rows.npy"))
    with pytest.raises(ConfigError, match=r"dataset\.path has no meaning with dataset=bars"):
        train(tiny(dataset__path=path), tmp_path / "run")
