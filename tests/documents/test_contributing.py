"""The worked examples of CONTRIBUTING.md: followed word for word, in a copy of the repository."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from document_texts import EXAMPLES, ROOT, commands_in, section

STEP = re.compile(
    r'<!-- (append|write|insert before "(.*)") (?:to|in) (\S+) -->\n```\w+\n(.*?)```', re.S
)
LINES = 40  # of a new rule, its name and its test together, as the document promises


def follow(text, repository):
    """Do what the comments before the blocks of a section say; return how many lines that took."""
    lines = 0
    for how, where, name, block in STEP.findall(text):
        path = repository / name
        if how == "write":
            path.write_text(block)
        elif how == "append":
            path.write_text(f"{path.read_text()}\n\n{block}")
        else:
            before = path.read_text()
            assert before.count(where) == 1
            path.write_text(before.replace(where, block + where))
        lines += len(block.splitlines())
    return lines


@pytest.mark.long
@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_works_as_it_is_written(title, tmp_path):
    for part in ("bihm", "configs", "tests", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tmp_path / part)
    text = section("CONTRIBUTING.md", title)
    lines = follow(text, tmp_path)
    assert 10 < lines < LINES
    programs = Path(sys.executable).parent
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTEST_XDIST_AUTO_NUM_WORKERS": "1"}
    found = commands_in(text)
    assert len(found) >= 2
    for command in found:
        program, *words = shlex.split(command)
        words += ["-n", "0"] if program == "pytest" else []
        done = subprocess.run(
            [programs / program, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "passed" in done.stdout or "test  200 rows" in done.stdout
