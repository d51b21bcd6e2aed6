"""No file can make the program import or call what it names: a canary would sing."""

import os
import pickle
import sys

import pytest
from cases import rare
from hydra import compose, initialize_config_dir
from malformed import attempt, check, home, name_of

from bihm import paths
from bihm.cli import imports, sweep, untrusted_files
from bihm.config import register

__all__ = ["home"]  # a fixture
T = "bihm-train "
CANARY = """
import logging
from pathlib import Path

from hydra.experimental.callback import Callback

def sing(*args, **named):
    Path(__file__).with_name("sung").touch()

class Bird(logging.StreamHandler):
    pass

class Watcher(Callback):
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
    (T + "+hydra.callbacks.x._target_=nowhere.x", 2, "Error locating target 'nowhere.x'"),
    (T + "-m hydra.launcher._target_=nowhere.x", 2, "Invalid plugin 'nowhere.x'"),
    (T + "-m hydra.sweeper._target_=nowhere.x", 2, "Invalid plugin 'nowhere.x'"),
    (T + "-m hydra.launcher=${p}", 2, "_target_"),
    (T + "hydra.searchpath=[pkg://nowhere]", 2, "path=nowhere is not available"),
    (T + "+p._target_=canary.sing", 2, "there is no key 'p._target_'"),
    (T + "--config-path pkg://canary", 2, "--config-path: the configuration is bihm's own"),
    (T + "--config-name evil", 2, "--config-name: the configuration is bihm's own; like=RUN"),
    (T + "--experimental-rerun evil.pickle", 2, "--experimental-rerun reads a pickle"),
]


def test_a_log_that_cannot_be_made_leaves_no_folder(home, monkeypatch):
    def refuse(*args):
        raise ValueError("Unable to configure handler 'console'")

    monkeypatch.setattr("hydra.core.utils.configure_log", refuse)
    words = "hydra.job_logging.handlers.console.class=nowhere.Bird"
    check((T + words, 2, "Unable to configure handler 'console'"), home)


class Evil:
    def __reduce__(self):
        return exec, ("import canary",)


@pytest.mark.parametrize("row", WORDS, ids=name_of)
def test_nonsense_in_words_dies_in_one_line(row, home, canary):
    if "pickle" in row[0]:
        (home / "evil.pickle").write_bytes(pickle.dumps(Evil()))
    check(row, home)


@pytest.mark.parametrize(
    "words",
    ["+hydra.callbacks.x._target_=canary.Watcher K=0", "hydra.searchpath=[pkg://canary] K=0"],
)
def test_what_the_user_types_is_theirs(words, home, canary):
    code, _, err, _ = attempt((T + words).split())
    assert (code, err) == (2, "bihm-train: K must be at least 1, got 0\n")
    assert canary.exists()
    canary.unlink()


E = "experiment/evil"
ONLY = "may only be given on the command line"
FILES = [
    (E, "hydra: {callbacks: {x: {_target_: canary.sing}}}", f"hydra.callbacks.x._target_ {ONLY}"),
    (E, "optim: {_target_: canary.sing}", "there is no key 'optim._target_'"),
    (E, "hydra: {job_logging: {formatters: {x: {(): canary.sing}}}}", f"x.() {ONLY}"),
    (E, "hydra: {searchpath: ['pkg://canary']}", "Overriding hydra.searchpath"),
    (
        E,
        "hydra: {sweeper: {params: {+hydra.job.env_set.PATH: x}}}",
        f"+hydra.job.env_set.PATH {ONLY}",
    ),
    (E, "K: !!python/object/apply:canary.sing []", "could not determine"),
    (E, "precision: ${oc.env:HOME}", "evil.yaml: precision: '${oc.env:HOME}' reads more than"),
    (
        E,
        "defaults: [override /hydra/launcher: basic]",
        "evil.yaml: its defaults may name model, dataset",
    ),
    ("hydra/launcher/evil", "_target_: canary.sing", f"hydra.launcher._target_ {ONLY}"),
    *rare(
        (E, "hydra: {launcher: {_target_: canary.sing}}", f"hydra.launcher._target_ {ONLY}"),
        (E, "hydra: [canary.sing]", "hydra.searchpath"),
        (E, "hydra: {job: {env_set: {PATH: /tmp}}}", f"hydra.job.env_set.PATH {ONLY}"),
        (E, "hydra: {sweeper: {params: {K: 'range(0,1e9)'}}}", "a range may have 10000 values"),
        (E, "defaults: [/model@hydra.launcher: rws]", f"hydra.launcher.name {ONLY}"),
        (
            "schema",
            "hydra: {callbacks: {x: {_target_: canary.sing}}}",
            "'schema' is validated against",
        ),
        (E, "hydra: {sweeper: {_target_: canary.sing}}", f"hydra.sweeper._target_ {ONLY}"),
        (E, "hydra: {launcher: {setup: [rm]}}", f"hydra.launcher.setup.0 {ONLY}"),
        (E, "hydra: canary.sing", f"hydra {ONLY}"),
        (E, "hydra: null", f"hydra {ONLY}"),
        (E, "x: {y: [{_target_: canary.sing}]}", "there is no key 'x'"),
        (E, "hydra: {job_logging: {handlers: {console: {class: canary.Bird}}}}", f"class {ONLY}"),
        (
            E,
            "hydra: {hydra_logging: {handlers: {x: {stream: 'ext://canary.x'}}}}",
            f"stream {ONLY}",
        ),
        (E, "hydra: {output_subdir: x}", f"hydra.output_subdir {ONLY}"),
        (E, "hydra: {sweeper: {params: {hydra.launcher: x}}}", f"params.hydra.launcher {ONLY}"),
        (E, "hydra: {sweeper: {params: {hydra/launcher: x}}}", f"params.hydra/launcher {ONLY}"),
        (E, "K: !!python/name:canary.sing", "could not determine"),
        (
            E,
            "optim: {phases: [{K: '${oc.decode:3}'}]}",
            "optim.phases.0.K: '${oc.decode:3}' reads more",
        ),
        (E, "precision: ${${p.layer}:HOME}", "reads more than"),
        (E, "precision: ${oc.${p.layer}:HOME}", "reads more than"),
        (E, "precision: ${ oc.env:HOME}", "reads more than"),
        (
            E,
            "hydra: {run: {dir: '${hydra:runtime.cwd}/x'}}",
            "hydra.run.dir: '${hydra:runtime.cwd}/x'",
        ),
        (E, "defaults: [override /hydra/callbacks: null]", "its defaults may name"),
        (E, "defaults: [/hydra/launcher/basic]", "its defaults may name"),
        (E, "defaults: [/model@p: rws]", "there is no key 'p.name'"),
        ("hydra/callbacks/sweep", "x: {_target_: canary.sing}", "hydra/callbacks/sweep"),
        ("hydra/config", "callbacks: {x: {_target_: canary.sing}}", "hydra/c"),
        (
            "model/evil",
            "# @package hydra.launcher\n_target_: canary.sing",
            f"hydra.launcher._target_ {ONLY}",
        ),
        ("model/evil", "name: rws\n_target_: canary.sing", "there is no key 'model._target_'"),
    ),
]


def write_theirs(home, name, text):
    path = home / "theirs" / f"{name}.yaml"
    path.parent.mkdir(parents=True)
    header = "# @package _global_\n" if name.startswith("experiment") else ""
    path.write_text(f"{header}{text}\n")
    group, _, option = name.rpartition("/")
    return f"--config-dir theirs {group}={option}" if option == "evil" else "--config-dir theirs"


@pytest.mark.parametrize("row", FILES, ids=lambda row: f"{row[0]}-{row[1][:60]}")
def test_files_of_others_cannot_name_code(row, home, canary):
    name, text, fragment = row
    words = write_theirs(home, name, text)
    check((f"{T}{words}", 2, fragment), home)
    if text.startswith("hydra"):  # a sweep has other plugins
        check((f"{T}-m {words}", 2, fragment), home)


@pytest.mark.parametrize("place", ["hydra.searchpath=[file://theirs]", "experiment=../../theirs/x"])
def test_a_file_is_looked_at_wherever_it_comes_from(place, home, canary, monkeypatch):
    write_theirs(home, E, "hydra: {callbacks: {x: {_target_: canary.sing}}}")
    if "../" in place:
        outside = os.path.relpath(home / "theirs/experiment/evil", paths.configs() / "experiment")
        place = f"experiment={outside}"
    else:
        place += " experiment=evil"
    check((f"{T}{place}", 2, f"hydra.callbacks.x._target_ {ONLY}"), home)


def test_a_recipe_without_its_first_line_is_told_of_it(home):
    (home / "theirs" / "experiment").mkdir(parents=True)
    (home / "theirs" / "experiment" / "mine.yaml").write_text("K: 3\n")
    row = (
        f"{T}--config-dir theirs experiment=mine",
        2,
        "begin with the line '# @package _global_'",
    )
    check(row, home)


RECIPE = """
defaults: [override /model: rws]
K: 3
hydra:
  mode: MULTIRUN
  run: {dir: "mine/${dataset.name}/${now:%Y}-${bihm.len:${layers},${depth}}"}
  sweep: {dir: mine, subdir: "K${K}"}
  sweeper: {params: {seed: "1,2", model: "rws,bihm", optim.lr: "choice(0.1,0.2)"}}
"""


def test_a_recipe_may_say_where_results_go_and_what_a_sweep_tries(home):
    words = write_theirs(home, E, RECIPE).split()
    code, out, err, _ = attempt(["bihm-train", *words, "--cfg", "all"])
    assert (code, err) == (0, "")
    assert "seed: 1,2" in out
    assert "subdir: K${K}" in out


@pytest.mark.parametrize("command", ["bihm-eval run", "bihm-sample run", "bihm-train like"])
@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("_target_: canary.sing\n", "there is no key '_target_'"),
        ("optim: {_target_: canary.sing}\n", "there is no key 'optim._target_'"),
        ("K: [\n", "config.yaml: line 2: "),
        ("K: \0\n", "cannot be read (ReaderError)"),
        ("- K\n", "not a configuration"),
        ("K: 3\nK: 4\n", "config.yaml: line 2: found duplicate key K"),
        ("seed: 0: 1\n", "config.yaml: line 1: mapping values are not allowed here"),
        ("", "is no run's configuration"),
        ("K: !!python/object/apply:canary.sing []\n", "line 1: could not determine a constructor"),
        ("K: ${bihm.nothing:3}\n", "has interpolations"),
        ("precision: ${oc.env:HOME}\n", "has interpolations"),
        ("a: &a [*a, *a]\n", "has aliases"),
    ],
)
def test_a_run_directory_cannot_name_code(command, text, fragment, home, canary):
    (home / "run").mkdir()
    (home / "run" / "config.yaml").write_text(text)
    check((f"{command}=run", 2, fragment), home)


def composed(*words):
    register()
    sweep.register()
    imports.register()
    untrusted_files.install()
    with initialize_config_dir(str(paths.configs()), version_base="1.3"):
        return compose("train", overrides=list(words), return_hydra_config=True)


@pytest.mark.parametrize("launcher", ["submitit_slurm", *rare("basic", "joblib", "submitit_local")])
def test_installed_launchers_go_on_working(launcher):
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    assert composed(f"hydra/launcher={launcher}").hydra.launcher._target_
    assert composed("+hydra.job.env_set.XLA_FLAGS=x", "hydra.verbose=[jax]")


def test_the_loader_is_in_its_place(home):
    assert attempt(["bihm-train", "--cfg", "job"])[0] == 0
    import hydra._internal.hydra

    assert hydra._internal.hydra.ConfigLoaderImpl is untrusted_files.Loader
