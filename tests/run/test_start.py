"""What a run does before its first step, which is what its user waits for."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from compiled_programs import COMPILED
from small_run import numbers, tiny

from bihm.records.checkpoint import Checkpoints
from bihm.run.build import Keys, make_keys
from bihm.run.train import train
from bihm.run.training import loop

# A run that tells what it has done when its first chunk is about to be compiled, and goes no further.
CHILD = """
import gc, json, os, sys
import bihm.cli.train
import jax
programs = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **facts: programs.append(facts["fun_name"]) if "backend_compile" in event else None
)
from bihm.run.training import loop
def tell(*_):
    facts = dict(programs=programs, modules=sorted(sys.modules), collects_every=gc.get_threshold()[0])
    print(json.dumps(facts))
    sys.stdout.flush()
    os._exit(0)
loop._kept_chunk = lambda *_, **__: tell
bihm.cli.train.main()
"""


@pytest.fixture(scope="module")
def before_the_first_step(tmp_path_factory):
    words = ["dataset=bars", "layers=[8,7,6,5,4,3]", "hydra.run.dir=run"]
    environment = os.environ | {"BIHM_CACHE": str(COMPILED / "cli")}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *words],
        cwd=tmp_path_factory.mktemp("start"),
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.long
def test_few_programs_are_compiled_and_none_for_each_array(before_the_first_step):
    assert 0 < len(before_the_first_step["programs"]) <= 10


def test_what_the_first_step_does_not_need_is_not_imported(before_the_first_step):
    assert "jax" in before_the_first_step["modules"]
    assert "orbax.checkpoint" not in before_the_first_step["modules"]


def test_python_seldom_looks_for_garbage(before_the_first_step):
    assert before_the_first_step["collects_every"] >= 100_000


@pytest.mark.parametrize("seed", [0, 7, 2**31 + 5, 2**32 - 1])
def test_the_keys_of_a_run_are_split_from_its_seed(seed):
    expected = jax.random.key_data(jax.random.split(jax.random.key(seed), len(Keys._fields)))
    for key, words in zip(make_keys(seed), expected, strict=True):
        np.testing.assert_array_equal(jax.random.key_data(key), words)


@pytest.mark.long
@pytest.mark.parametrize("model", ["rws", "targetprop"])
def test_the_next_run_of_a_process_traces_no_training_step_again(model, tmp_path):
    """Another seed and another rate are the same program; another penalty is another one."""
    changes = {"model__name": model, "epochs": 1, "optim__name": "sgd"}
    if model == "targetprop":
        changes |= {"eval__parzen_samples": 20, "eval__final_parzen_samples": 20}
    train(tiny(**changes, optim__lr=1e-3), tmp_path / "a")
    before = loop._kept_chunk.cache_info()
    other = train(tiny(**changes, optim__lr=1e-2, seed=1), tmp_path / "b")
    after = loop._kept_chunk.cache_info()
    assert (after.hits, after.misses) == (before.hits + 1, before.misses)
    train(tiny(**changes, optim__l1=1e-3), tmp_path / "c")
    assert loop._kept_chunk.cache_info().misses == before.misses + 1
    loop._kept_chunk.cache_clear()  # as alone in its process
    assert numbers(train(tiny(**changes, optim__lr=1e-2, seed=1), tmp_path / "d")) == numbers(other)


def test_orbax_is_imported_while_the_device_works(tmp_path, monkeypatch):
    prepared = []
    prepare, save = Checkpoints.prepare, Checkpoints.save

    def prepare_and_tell(checkpoints):
        prepare(checkpoints)
        prepared.append("_manager" in vars(checkpoints))

    def save_late(checkpoints, checkpoint):
        assert prepared
        save(checkpoints, checkpoint)

    monkeypatch.setattr(Checkpoints, "prepare", prepare_and_tell)
    monkeypatch.setattr(Checkpoints, "save", save_late)
    train(tiny(epochs=1), tmp_path / "run")
    assert all(prepared)
