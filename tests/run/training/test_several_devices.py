"""Several devices share a batch and the tiles of an estimate: the numbers are those of one, to rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import rare
from malformed import attempt, check, home
from small_run import EACH_EPOCH, StopAt, arrays_in, metrics, tiny

from bihm.config import differences
from bihm.errors import ConfigError, Interrupted
from bihm.machine.optimizer import Rates
from bihm.machine.rules import RULES
from bihm.machine.training_step import make_chunk
from bihm.run.build import first_state, make_run
from bihm.run.estimates.given import seen_estimates
from bihm.run.estimates.sandwich import sandwich_rows
from bihm.run.load import load, put_on
from bihm.run.train import train
from bihm.run.training import loop

pytestmark = pytest.mark.skipif(
    jax.local_device_count() < 4, reason="needs four devices: conftest asks for so many processors"
)
__all__ = ["home"]  # a fixture
FEW_ULPS = 1e-6  # the compiler may fuse the same program otherwise among others: rounding, no more


def a_gradient(devices, steps=None, **changes):
    """Of one batch, whole, and the losses: the last of so many steps, whose rate is 0, or of a chunk."""
    run = make_run(tiny(devices=devices, **changes))
    plan = run.plan._replace(length=steps or run.plan.length)
    chunk = make_chunk(
        run.structure, run.family.rule(4, 1), run.optimizer, plan,
        batch_size=run.config.batch_size, grey=run.dataset.grey, see=run.family.see,
        softened=run.config.optim.soften, mesh=run.mesh,
    )  # fmt: skip
    given = first_state(run), run.keys.train, jnp.asarray(run.dataset.train)
    _, info = chunk(*run.on_devices((*given, Rates.of(0.0, 0.0, 0, 9))))
    return [np.asarray(x) for x in (*info.last_grads, info.steps.loss, *info.steps.estimates)]


RULES_AND_LAYERS = [
    (2, {}),  # the programs of the run below
    *(pytest.param(4, {"model__name": name}, marks=pytest.mark.long) for name in RULES),
    *(
        pytest.param(4, changes, marks=pytest.mark.long)
        for changes in (
            {"model__name": "targetprop"},
            {"model__name": "targetprop", "model__langevin": 0.1},
            {"model__name": "wake_sleep", "model__sleep_batch_size": 40},
            {"p__layer": "darn", "q__layer": "nade"},
            {"p__layer": "dsbn", "optim__l1": 1e-2},
            {"optim__soften": 0.2},
        )
    ),
]


@pytest.mark.long
@pytest.mark.parametrize(("devices", "changes"), RULES_AND_LAYERS, ids=str)
def test_a_gradient_is_that_of_the_whole_batch(devices, changes):
    """Means of n terms, summed otherwise: they differ by at most n roundings of the largest."""
    if devices == 4:
        changes = {"batch_size": 200, "steps": 1, **changes}
    alone, spread = a_gradient(1, **changes), a_gradient(devices, **changes)
    for ours, theirs in zip(spread, alone, strict=True):
        largest = max(1.0, float(np.abs(theirs).max()))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=200 * 4 * 2.0**-24 * largest)


def close(ours, theirs):
    """Whether two estimates have their random numbers in common: others are a standard error apart."""
    return abs(ours["mean"] - theirs["mean"]) < theirs["sem"] / 100


@pytest.mark.long
def test_a_run_on_two_devices_goes_on_on_one_and_ends_as_on_one(
    uninterrupted, tmp_path, monkeypatch, caplog
):
    made = []
    original = loop._kept_chunk
    monkeypatch.setattr(
        loop, "_kept_chunk", lambda *a, **k: made.append(original(*a, **k)) or made[-1]
    )
    with monkeypatch.context() as patch:
        StopAt(patch, 8)
        with pytest.raises(Interrupted):
            train(tiny(devices=2, **EACH_EPOCH), tmp_path)
    assert made[0].jitted()._cache_size() == 1  # compiled once
    first, *_ = metrics(tmp_path)
    results = train(tiny(devices=1, **EACH_EPOCH), tmp_path)
    assert [place["devices"] for place in results["arithmetic"]] == [2, 1]
    assert caplog.text.count("devices was 2, now 1: from here on the numbers are not, bit") == 1
    for split in ("valid", "test"):
        assert close(results[split]["log_p"], uninterrupted[1][split]["log_p"])
    of_one = metrics(uninterrupted[0])[0]
    for name, sem in (("log_p", "log_p_sem"), ("two_log_z", "two_log_z_stderr")):
        difference = first[f"valid/{name}"] - of_one[f"valid/{name}"]
        assert abs(difference) < of_one[f"valid/{sem}"] / 100, name


@pytest.mark.long
def test_target_propagation_trains_on_two_devices(tmp_path):
    changes = {"model__name": "targetprop", "layers": [6, 3], "epochs": 2}
    one = train(tiny(**changes), tmp_path / "one")
    two = train(tiny(devices=2, **changes), tmp_path / "two")
    assert close(two["test"]["parzen"], one["test"]["parzen"])


@pytest.mark.parametrize("devices", ["2", pytest.param("all", marks=pytest.mark.long)])
def test_estimates_of_each_row_do_not_depend_on_the_devices(uninterrupted, devices):
    alone, spread = load(uninterrupted[0]), put_on(load(uninterrupted[0]), devices)
    rows = alone.rows("valid")  # more tiles than devices at K = 150, and the last is not full
    for K in (150,) if devices == "2" else (3, 150):
        pairs = zip(alone.estimates(rows, K), spread.estimates(rows, K), strict=True)
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, rtol=FEW_ULPS)
    assert spread.two_log_z().mean == pytest.approx(alone.two_log_z().mean, rel=FEW_ULPS)


@pytest.mark.long
def test_all_else_that_is_estimated_in_tiles_is_spread_as_well(uninterrupted):
    alone, spread = load(uninterrupted[0]), put_on(load(uninterrupted[0]), "4")
    for ours, theirs in zip(sandwich_rows(spread, 7, 30), sandwich_rows(alone, 7, 30), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=FEW_ULPS)
    rows, seen = alone.rows("test")[:7], np.arange(16) % 3 > 0
    for ours, theirs in zip(
        *(
            seen_estimates(one.config, one.structure, one.params, rows, seen, 20)
            for one in (spread, alone)
        ),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=FEW_ULPS)


@pytest.mark.long
def test_bihm_eval_spreads_too(uninterrupted, tmp_path, capsys):
    found = []
    for devices in ("1", "4"):
        out = tmp_path / f"{devices}.json"
        words = [f"run={uninterrupted[0]}", "K=15", "per_example=true", f"out={out}"]
        assert attempt(["bihm-eval", *words, f"devices={devices}"])[0] == 0
        found.append(arrays_in(out.with_suffix(".npz")))
    assert found[0].keys() == found[1].keys()
    for name, values in found[0].items():
        np.testing.assert_allclose(found[1][name], values, rtol=FEW_ULPS)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"devices": 5}, "devices=5, but 4 are here (cpu); devices=all takes all"),
        (
            {"devices": 3},
            "batch_size=250 makes no equal parts for 3 devices; batch_size=252 or 249 does",
        ),
        (
            {"devices": "all", "batch_size": 3},
            "batch_size=3 makes no equal parts for 4 devices; batch_size=4 does",
        ),
        (
            {"devices": 2, "model__name": "rws", "model__sleep_batch_size": 7},
            "model.sleep_batch_size=7 makes no equal parts for 2 devices; "
            "model.sleep_batch_size=8 or 6 does",
        ),
    ],
)
def test_what_does_not_divide_dies_in_one_line(changes, told):
    with pytest.raises(ConfigError) as caught:
        make_run(tiny(**changes))
    assert str(caught.value) == told


@pytest.mark.parametrize("value", ["0", "some", *rare("-1", "true", "1.5", "[2]", "null")])
def test_devices_is_a_number_or_all(value, home):
    told = "devices must be all, or a number of devices from 1 on, got "
    check((["bihm-train", "dataset=bars", f"devices={value}"], 2, told), home)


def test_on_how_many_devices_it_trains_makes_no_other_run_of_it():
    assert differences(tiny(devices=1), tiny(devices="all")) == []
