"""The pieces of a run: what follows from the configuration and the data before the first step."""

import pytest
from small_run import tiny

from bihm.config import PhaseConfig
from bihm.errors import ConfigError
from bihm.run.build import make_run


def period(patience=None, phases=None, K=1000):
    changes = {"eval__every": None, "eval__K": K, "epochs": 1000}
    return make_run(tiny(**changes, stop__patience=patience, optim__phases=phases)).eval_every


def test_evaluations_are_rare_unless_patience_asks_for_two():
    assert period() > 20
    assert period(patience=40) == 20
    assert period(patience=1) == 1


def test_the_patience_of_each_phase_counts():
    assert period(phases=[PhaseConfig(patience=4), PhaseConfig()]) == 2
    assert period(patience=40, phases=[PhaseConfig(), PhaseConfig(patience=10)]) == 5
    assert period(patience=4, phases=[PhaseConfig(patience=30)]) == 15  # the run's own is not used


def test_the_smallest_k_of_the_phases_bounds_what_an_evaluation_may_cost():
    assert period(phases=[PhaseConfig(K=1), PhaseConfig()], K=10) > 3 * period(K=10)


@pytest.mark.parametrize(
    ("changes", "epochs"),
    [
        ({"epochs": 2**30}, 2**30),
        ({"epochs": 7, "optim__phases": [PhaseConfig(epochs=2**30)] * 2}, 2**31),
    ],
)
def test_steps_must_be_countable(changes, epochs):
    says = rf"^{epochs} epochs of 20 steps .* must be below 2\*\*31: max_seconds ends a run by time"
    with pytest.raises(ConfigError, match=says):
        make_run(tiny(**changes))


def test_only_a_family_that_draws_k_samples_has_a_limit_for_them():
    """32 bits count the random numbers of a step, K x 250 rows x 9 latents; target propagation has no K."""
    with pytest.raises(ConfigError, match=r"K=2000000 samples .* lower K, to 1908874 at most"):
        make_run(tiny(K=2_000_000))
    assert make_run(tiny(K=2_000_000, model__name="targetprop")).config.K == 2_000_000
