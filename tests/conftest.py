"""Strictness for every test: no silent broadcasting of ranks, no cache shared with the user."""

import os
import shutil
import time

import jax
import pytest
from compiled_programs import COMPILED, OURS
from tiny_machine import tiny_machine

from bihm.machine.machine import HelmholtzMachine

jax.config.update("jax_numpy_rank_promotion", "raise")

# Compilation is what tests cost: what one test compiled, the others of this session need not.
jax.config.update("jax_compilation_cache_dir", str(COMPILED))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)

# Continuous integration bounds the long tests by their time, as processors differ by a factor of two.
LONG_TESTS_UNTIL = time.monotonic() + float(os.environ.get("BIHM_LONG_TESTS_SECONDS", "inf"))


@pytest.fixture
def machine() -> HelmholtzMachine:
    return tiny_machine()


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    """Directory and results of a small run with a checkpoint after each epoch."""
    from small_run import EACH_EPOCH, tiny

    from bihm.run.train import train

    directory = tmp_path_factory.mktemp("uninterrupted") / "run"
    return directory, train(tiny(**EACH_EPOCH), directory)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BIHM_CACHE", str(tmp_path / "cache"))


def pytest_runtest_setup(item):
    if item.get_closest_marker("long") and time.monotonic() > LONG_TESTS_UNTIL:
        pytest.skip("no time left for long tests (BIHM_LONG_TESTS_SECONDS)")


def pytest_unconfigure(config):
    if OURS:  # the session's own process, not one of its workers
        shutil.rmtree(COMPILED, ignore_errors=True)
