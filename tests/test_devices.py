"""An environment that asks jax for what is not here: one line and exit 2, in every command."""

import os
import subprocess
import sys

import jax
import pytest
from malformed import attempt, home

from bihm.cli import evaluate, export, sample
from bihm.errors import ConfigError
from bihm.runtime import configure_jax

__all__ = ["home"]  # a fixture


def run(words, **environment):
    """Exit code and stderr of Python in a process of its own."""
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr


@pytest.mark.long
def test_a_card_that_is_not_here_dies_in_one_line(tmp_path, monkeypatch):
    if jax.default_backend() == "gpu":
        pytest.skip("there is one")
    monkeypatch.chdir(tmp_path)
    words = ["-m", "bihm.cli.train", "epochs=1", "layers=[3]"]
    code, err = run(words, JAX_PLATFORMS="cuda")
    assert (code, err.count("\n")) == (2, 1), err
    assert err.startswith("bihm-train: JAX_PLATFORMS=cuda: jax has no such device here: ")
    assert [path.name for path in tmp_path.iterdir()] in ([], ["cache"])  # no run directory


@pytest.mark.parametrize(
    ("name", "value", "fragment"),
    [
        ("JAX_ENABLE_X64", "banana", "refuses its environment variables: invalid truth value 'ban"),
        pytest.param(
            *("XLA_FLAGS", "--xla_nonsense=1"),
            "XLA_FLAGS: Unknown flag in XLA_FLAGS: --xla_nonsense=1",
            marks=pytest.mark.long,
        ),
    ],
)
def test_what_jax_cannot_read_is_an_error_of_ours(name, value, fragment):
    code = (
        "import bihm.runtime, bihm.errors\n"
        "try: bihm.runtime.configure_jax()\n"
        "except bihm.errors.ConfigError as error: raise SystemExit(str(error))"
    )
    code, err = run(["-c", code], **{name: value})
    assert (code, err.count("\n")) == (1, 1), err
    assert fragment in err


def no_devices(text, kind=RuntimeError):
    def refuse(*args):
        raise kind(text)

    return refuse


@pytest.fixture
def own_settings(monkeypatch):
    """jax's settings as they were: `configure_jax` would move the programs that tests share."""
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)


@pytest.mark.parametrize(
    ("variable", "error", "told"),
    [
        (None, "Unable to initialize backend 'cuda': INTERNAL: no devices (you may need to)",
         "jax finds no device: Unable to initialize backend 'cuda': INTERNAL: no devices; "
         "JAX_PLATFORMS=cpu computes on the processor"),
        ("JAX_PLATFORM_NAME", "Unknown backend: 'x'.\nAnd more",
         "JAX_PLATFORM_NAME=x: jax has no such device here: Unknown backend: 'x'; unset it, or "
         "JAX_PLATFORM_NAME=cpu computes on the processor"),
        ("JAX_PLATFORMS", "",
         "JAX_PLATFORMS=x: jax has no such device here: it is not installed; unset it, or "
         "JAX_PLATFORMS=cpu computes on the processor"),
    ],
)  # fmt: skip
def test_the_line_says_what_was_asked_and_what_would_work(
    variable, error, told, own_settings, monkeypatch
):
    for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "x")
    monkeypatch.setattr(
        jax, "devices", no_devices(error, RuntimeError if error else AssertionError)
    )
    with pytest.raises(ConfigError) as caught:
        configure_jax()
    assert str(caught.value) == told


@pytest.mark.parametrize("command", [evaluate, sample, export])
def test_every_command_says_so(command, uninterrupted, own_settings, monkeypatch, capsys):
    monkeypatch.setattr(jax, "devices", no_devices("none"))
    with pytest.raises(SystemExit) as leaving:
        command.main([f"run={uninterrupted[0]}"])
    assert leaving.value.code == 2
    assert capsys.readouterr().err.startswith(f"{command.PROGRAM}: ")


def test_no_device_is_woken_where_none_is_needed(home, monkeypatch):
    monkeypatch.setattr(jax, "devices", no_devices("woken"))
    assert attempt(["bihm-train", "--cfg", "job"])[0] == 0
