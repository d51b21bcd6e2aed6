"""Strictness for every test: no silent broadcasting of ranks, no cache shared with the user."""

import gc
import os
import shutil
import signal
import time

import jax
import pytest
from compiled_programs import COMPILED, FOLDER, SESSION, SHARED
from tiny_machine import tiny_machine

from bihm.machine.machine import HelmholtzMachine
from bihm.signals import STOP_SIGNALS

jax.config.update("jax_numpy_rank_promotion", "raise")
if "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    jax.config.update("jax_num_cpu_devices", 4)  # for tests of work that is spread over several

gc.set_threshold(100_000)  # as in a command: looking for garbage is a sixth of what tracing takes

# Compilation is what tests cost: what one test compiled, the others of this session need not.
jax.config.update("jax_compilation_cache_dir", str(COMPILED))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)

# Continuous integration bounds a run by its time, as processors differ by a factor of two.
UNTIL = time.monotonic() + float(os.environ.get("BIHM_TESTS_SECONDS", "inf"))


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
def heard():
    """Stop signals as at a terminal: under nohup, or behind a script's &, some come ignored and stay so."""
    ignored = [number for number in STOP_SIGNALS if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        natural = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, natural)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BIHM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def shell(capsys, monkeypatch):
    """A function that runs a command as a shell would: its exit code, stdout and stderr."""
    # The cache of compiled programs is the process's own affair, not that of later tests.
    monkeypatch.setattr("bihm.runtime.configure_jax", lambda: None)

    def shell(command, *words):
        code = 0
        try:
            command.main([str(word) for word in words])
        except SystemExit as leaving:
            code = leaving.code
        return (code, *capsys.readouterr())

    return shell


@pytest.hookimpl(trylast=True)  # after the long tests are taken out, or all others
def pytest_collection_modifyitems(items):
    """Begin elsewhere, so that a bounded time does not always leave out the same ones."""
    first = int(os.environ.get("BIHM_TESTS_FIRST", "0")) % max(len(items), 1)
    items[:] = items[first:] + items[:first]


def pytest_runtest_setup(item):
    said = [mark.kwargs.get("seconds", 30) for mark in item.iter_markers("long")]
    needed = max(said, default=0)
    if time.monotonic() + needed > UNTIL:
        pytest.skip("no time left (BIHM_TESTS_SECONDS)")


def pytest_unconfigure(config):
    # The session's own process: none of its workers, and no session that a test of it has started.
    own = not hasattr(config, "workerinput") and os.getpid() == int(SESSION)
    if own and not SHARED:
        shutil.rmtree(FOLDER, ignore_errors=True)
