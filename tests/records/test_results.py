"""The blocks of `results.json` from estimates that are given, and the lines that a person reads."""

import numpy as np
import pytest

from bihm.errors import NumbersError
from bihm.machine.likelihood import Estimates, LogZ
from bihm.records.results import block_of, doubts, per_example_arrays, score, summary, table

ROWS = Estimates(
    log_p=np.array([-1.0, -2.0, -6.0]),
    log_p_tilde_star=np.array([-2.0, -4.0, -9.0]),
    ess_p=np.array([0.5, 0.25, 0.15]),
    ess_p_star=np.array([0.75, 0.5, 0.25]),
)
TAILED = ROWS._replace(
    k_hat_p=np.array([0.75, 0.7, np.inf]), k_hat_p_star=np.array([0.1, 0.4, -0.2])
)
Z = LogZ(mean=-1.25, stderr=0.5, low=-2.23, high=-0.27, outer=300, inner=5)


def sem(values):
    return np.std(values, ddof=1) / np.sqrt(3)


def test_a_block_holds_means_errors_and_what_2_log_z_adds_to_them():
    block = block_of(ROWS, 15, Z)
    error = sem(ROWS.log_p_tilde_star)
    assert block == {
        "examples": 3,
        "K": 15,
        "log_p": {"mean": -3.0, "sem": pytest.approx(sem(ROWS.log_p))},
        "log_p_tilde_star": {"mean": -5.0, "sem": pytest.approx(error)},
        "log_p_star": {"mean": -3.75, "sem": pytest.approx(np.sqrt(error**2 + 0.25))},
        "two_log_z": Z._asdict(),
        "ess_p": pytest.approx(0.3),
        "ess_p_star": pytest.approx(0.5),
    }
    plain = block_of(ROWS, 15, None)
    assert plain == {name: block[name] for name in ("examples", "K", "log_p", "ess_p")}


@pytest.mark.parametrize("name", ["log_p", "log_p_tilde_star", "two_log_z"])
def test_every_number_of_a_block_must_be_finite(name):
    rows = ROWS if name == "two_log_z" else ROWS._replace(**{name: np.full(3, -np.inf)})
    z = Z._replace(mean=np.nan) if name == "two_log_z" else Z
    with pytest.raises(NumbersError, match=f"the estimate of {name} is (nan|-inf)"):
        block_of(rows, 15, z)


def test_the_table_says_every_number_of_a_split():
    (line,) = table({"test": block_of(ROWS, 15, Z)})
    assert line == (
        "test  3 rows, K=15:  log_p -3.000 +- 1.528  log_p_tilde_star -5.000 +- 2.082  "
        "log_p_star -3.750 +- 2.141  2 log Z -1.250 +- 0.500  ESS p* 50.0 %  ESS p 30.0 %"
    )
    plain = block_of(ROWS, 15, None)
    lines = summary(
        {
            "train": {"best_epoch": 3, "epochs": 7, "seconds": 12.34, "stopped_by": "patience"},
            "test": plain, "valid": plain,
        }
    )  # fmt: skip
    assert lines == [
        "best epoch 3 of 7, 12.3 s, stopped by patience",
        "valid 3 rows, K=15:  log_p -3.000 +- 1.528  ESS p 30.0 %",
        "test  3 rows, K=15:  log_p -3.000 +- 1.528  ESS p 30.0 %",
    ]


def test_the_numbers_of_each_row_are_those_that_the_model_has():
    assert set(per_example_arrays(ROWS, None)) == {"log_p", "ess_p"}
    assert set(per_example_arrays(TAILED, None)) == {"log_p", "ess_p", "k_hat_p"}
    assert set(per_example_arrays(ROWS, Z)) == set(ROWS._fields[:4])
    found = per_example_arrays(TAILED, Z)
    assert found.keys() == TAILED._asdict().keys()
    for name, values in found.items():
        np.testing.assert_array_equal(values, np.asarray(getattr(TAILED, name), np.float32))


def test_a_block_and_its_line_say_how_many_rows_have_heavy_tails():
    block = block_of(TAILED, 50, Z)
    assert block["high_k_hat_p"] == pytest.approx(2 / 3)  # 0.7 itself is not above it
    assert block["high_k_hat_p_star"] == 0
    (line,) = table({"test": block})
    assert line.endswith("ESS p 30.0 %  k-hat p* > 0.7: 0.0 %  k-hat p > 0.7: 66.7 %")
    (doubt,) = doubts(block)
    assert doubt.startswith("log p may be understated: k-hat is above 0.7 for 67 % of the rows;")
    assert doubt.endswith(
        "takes more of it away, and bihm-eval sandwich=true shows how much is missing"
    )
    assert doubts(block | {"sandwich": {}})[0].endswith("a larger K takes more of it away")
    star = doubts(block | {"high_k_hat_p_star": 0.11, "ess_p_star": 0.4})[1]
    assert star.startswith("log p* may be understated: ")
    assert star.endswith("a larger K takes more of it away")  # the sandwich is one of log p alone
    few = {"K": 1000, "ess_p": 0.0994, "high_k_hat_p": None, "missing_values": 7}
    few["samples_seen"] = 1000
    (seen,) = doubts(block | few)
    assert seen == (
        "log p of the seen part may be understated: of 1000 samples only 99 count (ESS p); "
        "a larger K takes more of it away"
    )
    (parts,) = doubts(block | few | {"given": {"ess_p_seen": 0.05, "samples_seen": 1100}})
    assert "understated, and that of the missing part overstated: of 1100 samples only 55" in parts
    assert doubts(block | few | {"ess_p": 0.1}) == []
    assert doubts(block | {"ess_p": 0.5}) == []  # bounded weights of few values
    assert doubts(block | {"high_k_hat_p": 0.1}) == []  # a few are high by chance


def test_of_few_samples_nothing_is_known_about_the_tail():
    block = block_of(TAILED._replace(k_hat_p=np.full(3, np.nan)), 15, None)
    assert block["high_k_hat_p"] is None
    assert doubts(block) == []
    assert "k-hat" not in table({"test": block})[0]


def test_densities_have_a_line_of_their_own_and_a_score():
    density = {"mean": 12.5, "sem": 0.25, "sigma": 0.2154, "samples": 70}
    block = {"examples": 9, "parzen": density, "parzen_anchor": density | {"mean": 13.0}}
    (line,) = table({"valid": block | {"log_p_xh": {"mean": -3.0, "sem": 0.5}}})
    assert line == (
        "valid 9 rows, densities:  parzen 12.500 +- 0.250  parzen_anchor 13.000 +- 0.250  "
        "sigma 0.215, 70 samples  log p(x, h) -3.000"
    )
    assert score(block) == 12.5
    assert score(block_of(ROWS, 15, None)) == block_of(ROWS, 15, None)["log_p"]["mean"]
    star = block_of(ROWS, 15, Z)
    assert score(star) == star["log_p_tilde_star"]["mean"]
