"""Strictness for every test: no silent broadcasting of ranks, no cache shared with the user."""

import os
import shutil
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from bihm.layers import Init
from bihm.model import HelmholtzMachine, bind, make_machine, split

jax.config.update("jax_numpy_rank_promotion", "raise")

# Compilation is what tests cost: what one test compiled, the others of this session need not.
SESSION = os.environ.setdefault("BIHM_TESTS_SESSION", str(os.getpid()))  # its workers inherit it
COMPILED = Path(tempfile.gettempdir()) / f"bihm-tests-{SESSION}"
jax.config.update("jax_compilation_cache_dir", str(COMPILED))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)

# Continuous integration bounds the long tests by their time, as processors differ by a factor of two.
LONG_TESTS_UNTIL = time.monotonic() + float(os.environ.get("BIHM_LONG_TESTS_SECONDS", "inf"))

VISIBLE, SIZES = 5, [4, 3, 2]  # pairwise different: a square array hides an axis bug


def tiny_machine(
    p_layers: list[str] | str = "sbn",
    q_layers: list[str] | str = "sbn",
    seed: int = 0,
    visible: int = VISIBLE,
    sizes: list[int] | None = None,
    scale: float = 0.5,
) -> HelmholtzMachine:
    """A machine small enough to enumerate, with weights large enough to matter.

    Larger ones would make self-normalised weights visibly biased at the K of these tests: O(1 / (K ESS)).
    """
    sizes = SIZES if sizes is None else sizes
    p_layers = [p_layers] * (len(sizes) + 1) if isinstance(p_layers, str) else p_layers
    q_layers = [q_layers] * len(sizes) if isinstance(q_layers, str) else q_layers
    rng = np.random.default_rng(seed)
    machine = make_machine(rng, visible, sizes, p_layers, q_layers, Init())
    structure, params = split(machine)
    params = jax.tree.map(
        lambda w: jax.numpy.asarray(scale * rng.standard_normal(w.shape), jax.numpy.float32), params
    )
    return bind(structure, params)


@pytest.fixture
def machine() -> HelmholtzMachine:
    return tiny_machine()


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    """Directory and results of a small run with a checkpoint after each epoch."""
    from small_run import EACH_EPOCH, tiny

    from bihm.experiment import train

    directory = tmp_path_factory.mktemp("uninterrupted") / "run"
    return directory, train(tiny(**EACH_EPOCH), directory)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BIHM_CACHE", str(tmp_path / "cache"))


def pytest_runtest_setup(item):
    if item.get_closest_marker("long") and time.monotonic() > LONG_TESTS_UNTIL:
        pytest.skip("no time left for long tests (BIHM_LONG_TESTS_SECONDS)")


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):  # the session's own process, not one of its workers
        shutil.rmtree(COMPILED, ignore_errors=True)
