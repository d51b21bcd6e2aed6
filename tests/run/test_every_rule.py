"""What holds for every training rule: a new one is tested here as soon as `RULES` knows its name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import rare
from small_run import EACH_EPOCH, StopAt, metrics, numbers, tiny, without_clock
from tiny_machine import VISIBLE, tiny_machine

from bihm.errors import Interrupted
from bihm.machine.machine import bind, split
from bihm.machine.rules import RULES, Info, make_rule
from bihm.run.families.choice import family_of
from bihm.run.train import train

every_rule = pytest.mark.parametrize("name", RULES)
one_here = pytest.mark.parametrize(  # the others are long
    "name", ["bihm", *(pytest.param(n, marks=pytest.mark.long) for n in RULES if n != "bihm")]
)
X = jnp.asarray(np.random.default_rng(0).integers(0, 2, (7, VISIBLE)), jnp.float32)


@pytest.mark.parametrize("name", ["rws", *rare(*(n for n in RULES if n != "rws"))])  # both phases
def test_no_key_is_used_twice(name):
    structure, params = split(tiny_machine())
    rule = make_rule(name, K=3)
    with jax.debug_key_reuse(True):
        jax.jit(lambda key: rule(key, bind(structure, params), X))(jax.random.key(0))


@one_here
def test_it_tells_the_estimates_of_each_row(name):
    structure, params = split(tiny_machine())
    rule = make_rule(name, K=5)
    _, info = jax.jit(lambda key: rule(key, bind(structure, params), X))(jax.random.key(1))
    assert isinstance(info, Info)
    assert {values.shape for values in info} == {(7,)}
    assert (np.asarray(info.log_p) <= 0).all()
    assert (info.log_p_tilde_star <= info.log_p + 1e-5).all()  # Jensen, for any weights
    for ess in (info.ess_p, info.ess_p_star):
        assert (ess >= 1 / 5 - 1e-5).all()
        assert (ess <= 1 + 1e-5).all()


@every_rule
def test_what_early_stopping_watches_is_an_estimate(name):
    assert RULES[name].likelihood in ("log_p", "log_p_tilde_star")


@pytest.mark.long
@every_rule
def test_it_trains_and_goes_on_bit_for_bit_after_an_interruption(name, tmp_path, monkeypatch):
    config = tiny(model__name=name, optim__lr=1e-2, **EACH_EPOCH)
    whole = train(config, tmp_path / "whole")
    scores = [record[f"valid/{RULES[name].likelihood}"] for record in metrics(tmp_path / "whole")]
    assert scores[-1] > scores[0]
    with monkeypatch.context() as patch:
        StopAt(patch, 30)
        with pytest.raises(Interrupted):
            train(config, tmp_path / "halves")
    assert numbers(train(config, tmp_path / "halves")) == numbers(whole)
    records = [without_clock(metrics(tmp_path / run)) for run in ("whole", "halves")]
    assert records[0] == records[1]


def test_a_warm_up_is_told_in_epochs(tmp_path):
    seen = {}
    for warm_up in (1, 2):
        config = tiny(epochs=2, optim__lr=1e-2, model__warm_up=warm_up)
        train(config, tmp_path / str(warm_up))
        seen[warm_up] = [record["train/log_p"] for record in metrics(tmp_path / str(warm_up))]
    assert len({numbers[0] for numbers in seen.values()}) == 2  # the first epoch is each one's own
    assert family_of(tiny(model__warm_up=3)).rule(4, 10).keywords["warm_up"] == 30
