"""The shell scripts that make tables: bihm-train takes each of their commands, and each file is there."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from bihm.cli.compose import compose_words
from bihm.config.machine_checks import check_machine

ROOT = Path(__file__).parents[2]
SCRIPTS = ["benchmark/bf16.sh", "reproduce/strength_of_q.sh", "reproduce/tour.sh"]
PROGRAMS = ["bihm-train", "bihm-sample", "python"]
STAND_IN = """#!{python}
import json, sys
with open({calls!r}, "a") as calls:
    calls.write(json.dumps(sys.argv) + "\\n")
"""


def calls_of(script: str, place: Path) -> list[list[str]]:
    """What the script calls, without doing any of it."""
    for program in PROGRAMS:
        path = place / program
        path.write_text(STAND_IN.format(python=sys.executable, calls=str(place / "calls")))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    environment = os.environ | {"PATH": f"{place}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([ROOT / "scripts" / script, place / "runs"], env=environment, check=True)
    return [json.loads(line) for line in (place / "calls").read_text().splitlines()]


def one_of(override: Override, at: int) -> str:
    """The word, of a sweep's values with the one at this place."""
    if not override.is_sweep_override():
        return override.input_line or ""
    return f"{override.get_key_element()}={list(override.sweep_string_iterator())[at]}"


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_command_of_a_script_is_one(script, tmp_path):
    calls = calls_of(script, tmp_path)
    trained = [words for program, *words in calls if program.endswith("bihm-train")]
    assert trained
    for words in trained:
        own = [word for word in words if word != "-m" and not word.startswith("hydra.")]
        parsed = OverridesParser.create().parse_overrides(own)
        for chosen in {tuple(one_of(override, at) for override in parsed) for at in (0, -1)}:
            config, _ = compose_words(chosen)
            check_machine(config)
    for program, *words in calls:
        if Path(program).name == "python":
            assert Path(words[0]).is_file(), words[0]
