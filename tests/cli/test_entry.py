"""What the console scripts call, and Ctrl-C before the commands themselves are there."""

import importlib
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bihm import errors
from bihm.cli import entry

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_every_script_has_an_entry_and_every_entry_a_command():
    scripts = tomllib.loads(PROJECT.read_text())["project"]["scripts"]
    assert scripts.keys() == entry.MODULES.keys()
    for program, module in entry.MODULES.items():
        assert scripts[program] == f"bihm.cli.entry:{module}"
        assert callable(getattr(entry, module))
        assert program == importlib.import_module(f"bihm.cli.{module}").PROGRAM
    assert entry.INTERRUPTED == errors.CTRL_C


@pytest.mark.parametrize("program", ["bihm-train", "bihm-data"])
def test_ctrl_c_while_python_imports_ends_in_one_line(program):
    """A signal that comes when the first slow library is asked for."""
    code = f"""
import os, signal, sys
from bihm.cli import entry
assert not {{"hydra", "numpy", "jax"}} & sys.modules.keys()  # nothing slow so far
class CtrlC:
    def find_spec(self, name, *_):
        if name == "bihm.cli.exit_codes":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, CtrlC())
entry.{entry.MODULES[program]}()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == f"{program}: interrupted\n"


def test_an_entry_leaves_by_the_code_of_its_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bihm-export", "rnu=a"])
    with pytest.raises(SystemExit, match="2"):
        entry.export()
    assert capsys.readouterr().err.startswith("bihm-export: there is no key 'rnu'")


@pytest.mark.parametrize("program", entry.MODULES)
def test_a_module_run_by_its_name_is_its_command(program, monkeypatch):
    """`python -m bihm.cli.evaluate` once did nothing, and said nothing."""
    monkeypatch.setattr(sys, "argv", [program, "rnu=a"])
    # With the checks of shapes in it: other processes would read that, and lack what the checks need.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, f"bihm.cli.{entry.MODULES[program]}", raising=False)
    with pytest.raises(SystemExit, match="2"):
        runpy.run_module(f"bihm.cli.{entry.MODULES[program]}", run_name="__main__")
