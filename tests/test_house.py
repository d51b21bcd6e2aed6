"""The plan of the house: which floor may import which, one door for each library, short files."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "bihm"
FILES = sorted(PACKAGE.rglob("*.py"))

# The picture of ARCHITECTURE.md from the ground up. A file imports floors below its own, or its own folder.
FLOORS = [
    {"errors", "paths", "signals", "types", "runtime"},
    {"kernels"},
    {"machine"},
    {"config", "data"},
    {"records"},
    {"run"},
    {"report"},
    {"cli"},
]
DOORS = {  # each outside library, and what alone may import it
    "flax": {"machine"},
    "optax": {"machine/optimizer.py", "machine/training_step.py"},
    "orbax": {"records/checkpoint.py"},
    "tensorboard": {"records/logbook.py", "records/summaries.py"},
    "rich": {"records/progress.py"},
    "safetensors": {"records/weights.py"},
    "PIL": {"records/pictures.py"},
    "matplotlib": {"report/plots.py"},
    "jinja2": {"report/page.py"},
    "markupsafe": {"report/page.py"},
    "pooch": {"data"},
    "scipy": {"data", "machine/intervals.py"},
    "hydra": {"config", "cli"},
    "omegaconf": {"config", "cli"},
}
LONGEST_FILE, LONGEST_FUNCTION = 260, 50
# One in 2^23 of the numbers of jax.random.uniform is 0, which sets any bit: only where that has no weight.
MAY_DRAW_ZERO = {
    "machine/minibatches.py",
    "machine/targetprop/sampling.py",
    "machine/targetprop/training.py",
}


def place(path):
    return path.relative_to(PACKAGE).as_posix()


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """The modules that a file imports, each with its full name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(name):
    """Its number from the ground up; of the package itself, its door, none."""
    return next((i for i, rooms in enumerate(FLOORS) if name in rooms), -1)


def modules_of_bihm(path):
    """Files of ours that a file imports, as paths."""
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "bihm":
            continue
        for length in range(len(parts), 1, -1):  # the last part may be a function
            target = PACKAGE.joinpath(*parts[1:length])
            if target.with_suffix(".py").is_file():
                yield target.with_suffix(".py")
                break
            if target.is_dir():
                yield target / "__init__.py"
                break


def test_every_room_is_on_a_floor():
    assert {room(path) for path in FILES} - {"__init__"} == set().union(*FLOORS)


@pytest.mark.parametrize("path", FILES, ids=place)
def test_imports_point_down(path):
    if path == PACKAGE / "__init__.py":  # the door opens on every floor
        return
    for target in modules_of_bihm(path):
        there, here = floor(room(target)), floor(room(path))
        at_home = room(target) == room(path) or there == here == 0  # the ground floor has one room
        assert there < here or at_home, f"{place(path)} -> {place(target)}"


def test_no_circle_within_a_folder():
    below = {path: set(modules_of_bihm(path)) - {path} for path in FILES}
    done, under_way = set(), []

    def visit(path):
        assert path not in under_way, " -> ".join(map(place, [*under_way, path]))
        if path not in done:
            under_way.append(path)
            for target in below[path]:
                if target.name != "__init__.py" or target.parent not in path.parents:
                    visit(target)
            done.add(under_way.pop())

    for path in FILES:
        visit(path)


@pytest.mark.parametrize("path", FILES, ids=place)
def test_each_library_has_one_door(path):
    for name in imported(path):
        doors = DOORS.get(name.partition(".")[0])
        assert doors is None or {place(path), room(path)} & doors, name


def test_bits_of_a_machine_come_from_numbers_above_0():
    drawing = {place(path) for path in FILES if "random.uniform" in path.read_text()}
    assert drawing == MAY_DRAW_ZERO  # all others: `uniforms` and `uniform` of kernels/noise.py


@pytest.mark.parametrize("path", FILES, ids=place)
def test_files_and_functions_stay_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_FILE
    assert "from __future__ import annotations" not in text  # jaxtyping would not see the shapes
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno <= LONGEST_FUNCTION, node.name
