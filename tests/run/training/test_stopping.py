"""What ends a run: patience, which does not count on the plateau, and scores that say it broke."""

import json
import logging

import numpy as np
import pytest
from small_run import tiny

from bihm.config import PhaseConfig
from bihm.errors import NumbersError
from bihm.machine.machine import independent_log_p
from bihm.run.build import Phase, make_run
from bihm.run.train import train
from bihm.run.training import loop
from bihm.run.training.stopping import Memory, Stopping


def stopping(patience, **more):
    phases = [Phase(K=1, lr=1.0, lr_end=1.0, epochs=1000, patience=patience)]
    levels = {"independent": -100.0, "broken": -1000.0, "warm_up": 0}
    return Stopping(phases, None, 7, "log_p", **levels | more)


def ends_at(scores, patience):
    """The epoch at which a sequence of scores, one an epoch, runs out of patience; None if it does not."""
    memory = Memory()
    for epoch, score in enumerate(scores, start=1):
        if memory.best_score is None or score > memory.best_score:
            memory.best_score, memory.best_epoch = score, epoch
        if stopping(patience).out_of_patience(memory, 7 * epoch):
            return epoch
    return None


PLATEAU = [-100.0, *[-100.1] * 49]


@pytest.mark.parametrize(
    ("scores", "patience", "ends"),
    [
        (PLATEAU, 10, None),
        ([*PLATEAU, *[-99.1] * 50], 10, None),  # better, but not clearly
        ([*PLATEAU, -98.9, *[-98.95] * 50], 10, 61),
        ([*PLATEAU, -90.0, -80.0, *[-85.0] * 50], 10, 62),
        ([*PLATEAU, -90.0, *[-100.0] * 50], 10, 61),  # what fell back has left it once
        ([-180.0, *[-190.0] * 50], 10, None),  # on the way to the plateau
        ([-300.0, *[-400.0] * 50], 10, 11),  # far from it
        ([-150.0 + i for i in range(50)], 10, None),
        ([-90.0, *[-95.0] * 50], None, None),
    ],
)
def test_patience_counts_when_the_plateau_has_been_left(scores, patience, ends):
    assert ends_at(scores, patience) == ends


def test_where_next_to_nothing_is_left_to_learn_there_is_no_plateau():
    """Columns that hardly change: above a tenth of a nat a score counts, near independent bits or not."""
    limits = stopping(3, independent=-0.5)
    assert [limits.on_plateau(score) for score in (-0.2, -0.5, -0.9, -1.1)] == [
        False,
        True,
        True,
        False,
    ]
    almost = stopping(3, independent=-0.05)
    assert [almost.on_plateau(score) for score in (-0.05, -0.09, -0.11)] == [False, False, False]


def test_patience_counts_when_the_warm_up_is_over():
    """Its weights are others than the score's, which may fall until then."""
    memory = Memory(best_score=-50.0, best_epoch=5)
    warmed = stopping(3, warm_up=40)
    ends = [epoch for epoch in range(6, 50) if warmed.out_of_patience(memory, 7 * epoch)]
    assert ends[0] == 43
    assert ends == list(range(43, 50))
    memory.best_epoch = 41
    assert not warmed.out_of_patience(memory, 7 * 43)
    assert warmed.out_of_patience(memory, 7 * 44)


def test_a_run_knows_its_warm_up():
    run = make_run(tiny(model__warm_up=12))
    assert Stopping.of(run, run.fixed_rows("valid")).warm_up == 12
    assert Stopping.of(make_run(tiny()), run.fixed_rows("valid")).warm_up == 0


def test_a_phase_waits_from_its_own_beginning():
    limits = stopping(3)._replace(phases=stopping(3).phases * 2)
    memory = Memory(phase=1, phase_step=70, best_score=-50.0, best_epoch=5)
    assert not limits.out_of_patience(memory, 70 + 2 * 7)
    assert limits.out_of_patience(memory, 70 + 3 * 7)


def test_columns_that_hardly_change_are_no_plateau_and_no_advice_is_given(caplog):
    """Independent bits have learnt them, and a run that is as good has no more to learn."""
    few = stopping(2, independent=-0.005)
    assert not few.on_plateau(-0.009)
    assert few.out_of_patience(Memory(best_score=-0.009, best_epoch=1), 7 * 3)
    few.check_end(Memory(best_score=-0.009))
    assert caplog.records == []
    few.check_end(Memory(best_score=-3.0))
    assert "far below that of independent bits" in caplog.text


def test_independent_bits_have_the_likelihood_that_they_have():
    rng = np.random.default_rng(0)
    rows, mean = rng.integers(0, 2, (50, 9)), rng.uniform(0.1, 0.9, 9)
    mean[0], rows[:, 0] = 0.0, np.arange(50) == 0  # never on in training, once in valid
    clipped = np.clip(mean, 1e-3, 1 - 1e-3)
    exact = np.log(np.where(rows == 1, clipped, 1 - clipped)).sum(axis=1).mean()
    assert independent_log_p(mean, rows.mean(axis=0)) == pytest.approx(exact, rel=1e-12)


def test_the_level_of_a_run_is_that_of_its_own_rows():
    """Grey levels stand for the probabilities of bits."""
    run = make_run(tiny())
    level = Stopping.of(run, run.dataset.valid).independent
    train_mean, valid_mean = (getattr(run.dataset, s).mean(axis=0) for s in ("train", "valid"))
    assert level == independent_log_p(train_mean, valid_mean)
    grey = run._replace(dataset=run.dataset._replace(train=255 * run.dataset.train, grey=True))
    assert Stopping.of(grey, run.dataset.valid).independent == pytest.approx(level, rel=1e-12)


def score_of(results):
    return results["valid"]["log_p_tilde_star"]["mean"]


def test_a_run_waits_on_its_first_plateau_and_not_on_a_later_one(tmp_path, monkeypatch):
    """Nothing is learnt for five epochs, then something, then nothing again."""
    compiled = loop.TrainingLoop._finish_epoch

    def finish(self, chunk, rates):
        learning = 5 <= self.epoch < 9
        rate = rates.start * (1.0 if learning else 0.0)
        return compiled(self, chunk, rates._replace(start=rate, end=rate))

    monkeypatch.setattr(loop.TrainingLoop, "_finish_epoch", finish)
    results = train(tiny(optim__lr=0.1, stop__patience=2, epochs=30), tmp_path / "run")
    train_facts = results["train"]
    assert (train_facts["best_epoch"], train_facts["epochs"]) == (9, 11)
    assert train_facts["stopped_by"] == "patience"
    assert score_of(results) > -9.0


def test_a_run_that_ends_on_the_plateau_says_so(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "bihm"):
        results = train(tiny(optim__lr=1e-12, stop__patience=1, epochs=3), tmp_path / "run")
    assert results["train"]["epochs"] == 3
    (line,) = (record.getMessage() for record in caplog.records)
    assert "not clearly above that of independent bits, -11.09" in line
    assert "a larger optim.lr" in line


def test_a_run_that_ends_far_below_the_plateau_says_so(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "bihm"):
        train(tiny(optim__lr=30.0, epochs=2), tmp_path / "run")
    (line,) = (record.getMessage() for record in caplog.records)
    assert "far below that of independent bits, -11.09" in line
    assert "a smaller optim.lr" in line


@pytest.mark.long  # a program of its own for each
@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        (
            {"optim__name": "sgd", "optim__l2": 1e9},
            "lower optim.l2 (now 1e+09), which alone breaks",
        ),
        (
            {"optim__name": "sgd", "optim__l1": 1e30},
            "lower optim.l1 (now 1e+30), which alone breaks",
        ),
        ({"optim__l2": 1e38}, "lower optim.l2 (now 1e+38), which alone breaks"),
        (
            {"optim__phases": [PhaseConfig(lr=1e30, epochs=2), PhaseConfig(lr=1e-3, epochs=2)]},
            "; lower the lr of optim.phases (now 1e+30, then 0.001) or set optim.clip",
        ),
        (
            {"optim__lr": 1e30, "optim__l2": 1e-5},
            "; lower optim.lr (now 1e+30) or set optim.clip",
        ),
    ],
)
def test_a_run_that_a_penalty_blew_up_says_which(tmp_path, changes, advice):
    with pytest.raises(NumbersError) as caught:
        train(tiny(epochs=2, **changes), tmp_path / "run")
    assert advice in str(caught.value)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("lr", "says"),
    [
        (1e4, r"the best valid/log_p_tilde_star is -[\d.e+]+ nats, below -\d+, which no machine"),
        (1e30, r"at step 20 is -[\d.e+]+, more than float32 can count"),
        (1e38, r"is (nan|-?inf)"),
    ],
)
def test_a_run_that_blew_up_has_failed_and_says_what_to_lower(tmp_path, lr, says):
    with pytest.raises(NumbersError, match=says) as caught:
        train(tiny(optim__lr=lr, epochs=2), tmp_path / "run")
    assert caught.value.exit_code == 4
    assert f"lower optim.lr (now {lr:g}) or set optim.clip" in str(caught.value)
    assert not (tmp_path / "run" / "results.json").exists()
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["status"] == "failed"
