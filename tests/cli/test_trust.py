"""No configuration can make the program import or call what it names: a canary would sing."""

import pickle
import sys

import pytest
from hydra import compose, initialize_config_dir
from malformed import attempt, check, home, name_of

from bihm import paths
from bihm.cli import imports, sweep, trust
from bihm.config import register
from bihm.errors import ConfigError

__all__ = ["home"]  # a fixture
T = "bihm-train "
CANARY = """
import logging
from pathlib import Path

def sing(*args, **named):
    Path(__file__).with_name("sung").touch()

class Bird(logging.StreamHandler):
    pass

sing()
"""


@pytest.fixture
def canary(home, tmp_path, monkeypatch):
    """A package whose import leaves a mark beside it; true if it has sung."""
    package = tmp_path / "packages" / "canary"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(CANARY)
    (package / "cage.yaml").write_text("K: 3\n")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "canary", raising=False)
    yield package / "sung"
    assert not (package / "sung").exists()


def test_the_canary_sings(canary):
    import canary as bird  # as any import by name would

    assert bird.sing
    assert canary.exists()
    canary.unlink()


WORDS = [
    (T + "+hydra.callbacks.x._target_=canary.sing", 2, "hydra.callbacks: it names what to call"),
    (T + "hydra.callbacks.folders._target_=canary.sing", 2, "hydra.callbacks: it names"),
    (T + "-m +hydra.callbacks.x._target_=canary.sing", 2, "hydra.callbacks: it names"),
    (T + "hydra.launcher._target_=canary.sing", 2, "'canary.sing' is no installed launcher"),
    (T + "-m hydra.launcher._target_=canary.sing", 2, "'canary.sing' is no installed launcher"),
    (T + "-m hydra.sweeper._target_=canary.sing", 2, "'canary.sing' is no installed sweeper"),
    (T + "-m +hydra.launcher.x={_target_:canary.sing}", 2, "hydra.launcher.x._target_: it names"),
    (T + "-m +hydra.sweeper.x._target_=canary.sing", 2, "hydra.sweeper.x._target_: it names"),
    (
        T + "-m +hydra.launcher.x='${oc.decode:y}'",
        2,
        "hydra.launcher.x: '${oc.decode:y}' is computed",
    ),
    (T + "-m +hydra.launcher.x='a${hydra:y}'", 2, "hydra.launcher.x: 'a${hydra:y}' is computed"),
    (T + "hydra.launcher=${p}", 2, "is no installed launcher"),
    (T + "+p._target_=canary.sing", 2, "p._target_: 'canary.sing' names what to call"),
    (T + "hydra.job_logging.handlers.console.class=canary.Bird", 2, "is no plain handler"),
    (T + "hydra.hydra_logging.handlers.console.class=canary.Bird", 2, "is no plain handler"),
    (T + "hydra.job_logging.handlers.console.stream=ext://canary.x", 2, "names what to import"),
    (T + "hydra.job_logging.handlers.file.filename=/tmp/x", 2, "'/tmp/x' is not the run's log"),
    (T + "hydra.job_logging.root='${oc.create:x}'", 2, "hydra.job_logging.root"),
    (T + "hydra.searchpath=[pkg://canary]", 2, "pkg://canary: pkg:// imports a package"),
    (T + "--config-path pkg://canary", 2, "--config-path=pkg://canary: no such folder"),
    (T + "--experimental-rerun evil.pickle", 2, "--experimental-rerun reads a pickle"),
]


class Evil:
    def __reduce__(self):
        return exec, ("import canary",)


@pytest.mark.parametrize("row", WORDS, ids=name_of)
def test_words_cannot_name_code(row, home, canary):
    if "pickle" in row[0]:
        (home / "evil.pickle").write_bytes(pickle.dumps(Evil()))
    check(row, home)


FILES = [
    ("experiment/evil", "hydra: {callbacks: {x: {_target_: canary.sing}}}", "hydra.callbacks"),
    ("experiment/evil", "hydra: {launcher: {_target_: canary.sing}}", "no installed launcher"),
    ("experiment/evil", "hydra: {sweeper: {_target_: canary.sing}}", "no installed sweeper"),
    ("experiment/evil", "optim: {_target_: canary.sing}", "there is no key 'optim._target_'"),
    ("experiment/evil", "x: {y: [{_target_: canary.sing}]}", "there is no key 'x'"),
    ("experiment/evil", "hydra: {job_logging: {formatters: {x: {(): canary.sing}}}}", "x.()"),
    (
        "experiment/evil",
        "hydra: {job: {env_set: {PATH: /tmp}}}",
        "may only stand on the command line",
    ),
    ("experiment/evil", "K: !!python/object/apply:canary.sing []", "could not determine"),
    ("experiment/evil", "K: !!python/name:canary.sing", "could not determine"),
    (
        "experiment/evil",
        "hydra: {sweeper: {params: {+hydra.job.env_set.PATH: x}}}",
        "it sets Hydra's own keys",
    ),
    ("hydra/callbacks/sweep", "x: {_target_: canary.sing}", "hydra/callbacks/sweep"),
    ("hydra/config", "callbacks: {x: {_target_: canary.sing}}", "hydra/c"),
    ("hydra/launcher/evil", "_target_: canary.sing", "no installed launcher"),
]


@pytest.mark.parametrize("mode", ["", "-m "])
@pytest.mark.parametrize(("name", "text", "fragment"), FILES)
def test_files_of_others_cannot_name_code(name, text, fragment, mode, home, canary):
    path = home / "theirs" / f"{name}.yaml"
    path.parent.mkdir(parents=True)
    header = "# @package _global_\n" if name.startswith("experiment") else ""
    path.write_text(f"{header}{text}\n")
    group, _, option = name.rpartition("/")
    chosen = f" {group}={option}" if option == "evil" else ""
    check((f"{T}{mode}--config-dir theirs{chosen}", 2, fragment), home)


def test_a_folder_of_others_cannot_import_a_package(home, canary):
    (home / "evil.yaml").write_text("hydra: {searchpath: ['pkg://canary']}\n")
    row = (f"{T}--config-path {home} --config-name evil", 2, "pkg:// imports a package")
    check(row, home)


@pytest.mark.parametrize("command", ["bihm-eval", "bihm-sample"])
@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("_target_: canary.sing\n", "there is no key '_target_'"),
        ("optim: {_target_: canary.sing}\n", "there is no key 'optim._target_'"),
        ("K: [\n", "cannot be read (ParserError)"),
        ("K: \0\n", "cannot be read (ReaderError)"),
        ("- K\n", "not a configuration"),
        ("K: 3\nK: 4\n", "cannot be read"),
        ("", "is no run's configuration"),
        ("K: !!python/object/apply:canary.sing []\n", "cannot be read"),
        ("K: ${bihm.nothing:3}\n", "Unsupported interpolation type bihm.nothing"),
        ("a: &a [*a, *a]\n", "has aliases"),
    ],
)
def test_a_run_directory_cannot_name_code(command, text, fragment, home, canary):
    (home / "run").mkdir()
    (home / "run" / "config.yaml").write_text(text)
    check((f"{command} run=run", 2, fragment), home)


def composed(*words):
    register()
    sweep.register()
    imports.register()
    trust.install()
    with initialize_config_dir(str(paths.configs()), version_base="1.3"):
        return compose("train", overrides=list(words), return_hydra_config=True)


@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local", "submitit_slurm"])
def test_installed_launchers_go_on_working(launcher):
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    assert composed(f"hydra/launcher={launcher}").hydra.launcher._target_
    assert composed("+hydra.job.env_set.XLA_FLAGS=x", "hydra.verbose=[jax]")


def test_a_cluster_runs_only_the_command_lines_own_commands():
    node = {"_target_": composed().hydra.launcher._target_, "setup": ["rm -r /"]}
    with pytest.raises(ConfigError, match="may only stand on the command line"):
        trust._check_plugin("launcher", node, set())
    trust._check_plugin("launcher", node, {"hydra.launcher.setup"})
    node = {"_target_": node["_target_"], "comment": "a\nrm -r /"}
    with pytest.raises(ConfigError, match="more than one line"):
        trust._check_plugin("launcher", node, {"hydra.launcher.comment"})


def test_the_loader_is_in_its_place(home):
    assert attempt(["bihm-train", "--cfg", "job"])[0] == 0
    import hydra._internal.hydra

    assert hydra._internal.hydra.ConfigLoaderImpl is trust.TrustedLoader
