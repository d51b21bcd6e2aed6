"""Which runs are seeds of one setting, what was swept, and main effects against a computation by hand."""

from pathlib import Path

import numpy as np
import pytest
from read_runs import run

from bihm.report import write
from bihm.report.files import RunFiles
from bihm.report.settings import by_dataset, main_effects, score_of, settings, swept

VALUES = {  # model, learning rate: the scores of two seeds
    ("bihm", 0.1): (-20.0, -21.0),
    ("bihm", 0.2): (-22.0, -23.0),
    ("rws", 0.1): (-24.0, -27.0),
    ("rws", 0.2): (-28.0, -29.0),
}


def grid():
    return [
        run(f"{model}-{lr}-{seed}", score, model__name=model, optim__lr=lr, seed=seed)
        for (model, lr), scores in VALUES.items()
        for seed, score in enumerate(scores)
    ]


def test_main_effects_by_hand():
    effects = {effect.key: effect for effect in main_effects(grid(), "valid.log_p")}
    assert list(effects) == ["model.name", "optim.lr", "seed"]  # by spread, the seed last
    model = effects["model.name"].levels
    assert [(level.value, level.runs) for level in model] == [("bihm", 4), ("rws", 4)]
    # bihm: (-20 - 21 - 22 - 23) / 4 = -21.5, rws: (-24 - 27 - 28 - 29) / 4 = -27, all: -24.25
    assert [level.mean for level in model] == [-21.5, -27.0]
    assert [level.effect for level in model] == [2.75, -2.75]
    assert model[0].sem == pytest.approx(np.sqrt((1.5**2 + 0.5**2) * 2 / 3 / 4))
    assert effects["model.name"].spread == 5.5
    # 0.1: (-20 - 21 - 24 - 27) / 4 = -23, 0.2: (-22 - 23 - 28 - 29) / 4 = -25.5
    assert [(level.value, level.mean) for level in effects["optim.lr"].levels] == [
        ("0.1", -23.0),
        ("0.2", -25.5),
    ]
    assert effects["seed"].spread == 1.5  # seed 0: -94 / 4, seed 1: -100 / 4
    assert all(effect.balanced for effect in effects.values())


def test_a_run_without_a_number_is_left_out_and_told():
    runs = grid()
    del runs[-1].row["valid.log_p"]
    effects = {effect.key: effect for effect in main_effects(runs, "valid.log_p")}
    assert [level.runs for level in effects["model.name"].levels] == [4, 3]
    assert not effects["model.name"].balanced


def test_many_numbers_are_put_into_ranges():
    runs = [run(str(i), -float(i), optim__lr=0.01 * (i + 1)) for i in range(12)]
    (effect,) = main_effects(runs, "valid.log_p")
    assert [level.value for level in effect.levels] == [
        "0.01 to 0.03", "0.04 to 0.06", "0.07 to 0.09", "0.1 to 0.12",
    ]  # fmt: skip
    assert [level.mean for level in effect.levels] == [-1, -4, -7, -10]


def test_what_follows_from_another_key_was_not_swept():
    by_depth = [
        run(depth=depth, layers=layers) for depth, layers in ((1, [43]), (2, [43, 29]))
    ]  # the rule's own sizes on 16 features
    assert swept(by_depth) == ["layers"] or swept(by_depth) == ["depth"]
    by_sizes = [run(depth=1, layers=[5]), run(depth=2, layers=[5, 4])]
    assert swept(by_sizes) == ["layers"]
    by_data = [
        run(dataset__name=name, dataset__n_features=n) for name, n in (("adult", 123), ("dna", 180))
    ]
    assert swept(by_data) == ["dataset.name"]
    assert swept([run(max_seconds=1.0), run(max_seconds=2.0)]) == []
    assert swept([run(devices=1), run(devices=2)]) == []


def test_nats_of_different_data_are_not_compared():
    runs = [
        run("a", -20.0, dataset__name="bars", seed=0),
        run("b", -5.0, dataset__name="adult", seed=0),
        run("c", -19.0, dataset__name="bars", seed=1),
        run("d", -90.0, dataset__name="file", dataset__path="x.csv"),
        RunFiles(Path("e"), "e", {"layers": None, "dataset.name": None}, []),
    ]
    groups = {name: [one.label for one in some] for name, some in by_dataset(runs).items()}
    assert groups == {"bars": ["a", "c"], "adult": ["b"], "x.csv": ["d"]}
    best = [(one.label, what) for one, what in write._best(runs)]
    assert best == [
        ("c", "The best on valid of bars: "),
        ("b", "The best on valid of adult: "),
        ("d", "The best on valid of x.csv: "),
    ]
    assert [(one.label, what) for one, what in write._best(runs[::2][:2])] == [
        ("c", "The best on valid: ")
    ]
    sections = write._together(runs, "valid.log_p").sections
    titles = [section.title for section in sections if section.title.startswith("Main")]
    assert titles == ["Main effects on bars"]  # of the others nothing was swept
    assert list(by_dataset(runs[-1:])) == [""]


def test_seeds_of_one_setting_are_together():
    groups = settings(grid())
    assert [(group.label, len(group.runs)) for group in groups] == [
        ("model=bihm, optim.lr=0.1", 2),
        ("model=bihm, optim.lr=0.2", 2),
        ("model=rws, optim.lr=0.1", 2),
        ("model=rws, optim.lr=0.2", 2),
    ]
    lost = RunFiles(Path("x"), "x", {"status": "failed", "layers": None}, [])
    assert [group.label for group in settings([*grid()[:2], lost])] == ["bihm", "x"]


def test_a_run_that_was_made_twice_counts_once():
    runs = [run(name, -1.0, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    (group,) = settings(runs)
    assert [one.label for one in group.runs] == ["a", "c"]


def test_of_a_run_that_was_made_twice_the_one_that_finished_counts():
    lost = run("lost", status="failed", K=5)
    runs = [lost, run("b", -4.0, K=10), run("again", -1.0, K=5)]
    assert [[one.label for one in group.runs] for group in settings(runs)] == [["b"], ["again"]]
    (effect,) = main_effects(runs, "valid.log_p")
    assert [level.runs for level in effect.levels] == [1, 1]


def test_a_run_that_was_made_twice_counts_once_in_a_main_effect():
    runs = [run("a", -1.0, K=5), run("a-again", -1.0, K=5), run("b", -4.0, K=10)]
    (effect,) = main_effects(runs, "valid.log_p")
    assert [(level.value, level.runs, level.effect) for level in effect.levels] == [
        ("5", 1, 1.5),
        ("10", 1, -1.5),
    ]


def test_the_score_is_what_most_runs_have():
    assert score_of(grid()) == "valid.log_p"
    both = [run(score=-1.0, valid__log_p_star=-2.0)] * 2
    assert score_of(both) == "valid.log_p_star"
    assert score_of([*both, run(score=-1.0)]) == "valid.log_p"
    assert score_of([run(valid__parzen=3.0)]) == "valid.parzen"
