"""The plan of the house: which room may import which, and one door for each outside library."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "bihm"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the ground up; a room imports rooms of lower rows only (or other files of its own package).
FLOORS = [
    {"errors", "paths", "taper", "types", "__init__"},
    {"compiled", "hush", "numerics", "signals", "runtime", "runfiles", "pictures", "progress"},
    {"bernoulli", "noise", "packing", "products"},
    {"layers", "config", "data", "logbook"},
    {"model"},
    {"objectives", "likelihood", "sampling"},
    {"learner", "evaluation", "seal"},
    {"checkpoint", "results", "tally", "build", "masks", "weights"},
    {"gallery", "trained"},
    {"training", "scoring", "drawing"},
    {"experiment"},
    {"cli"},
]
DOORS = {
    "flax": {"layers", "model"},
    "optax": {"learner"},
    "orbax": {"checkpoint"},
    "tensorboard": {"logbook"},
    "rich": {"progress"},
    "safetensors": {"weights"},
    "PIL": {"pictures"},
    "pooch": {"data"},
    "scipy": {"data"},
    "hydra": {"config", "cli"},
    "omegaconf": {"config", "cli"},
}


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "bihm":
                yield from (f"bihm.{alias.name}" for alias in node.names)
            else:
                yield node.module


def floor(name):
    return next((i for i, rooms in enumerate(FLOORS) if name in rooms), None)


def test_every_room_is_in_the_plan():
    assert {room(path) for path in FILES} == set().union(*FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down_and_libraries_have_one_door(path):
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "bihm" and rest and not rest[0].startswith("__"):
            assert rest[0] == room(path) or floor(rest[0]) < floor(room(path)), name
        if top in DOORS:
            assert room(path) in DOORS[top], name


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 260
    assert "from __future__ import annotations" not in text  # jaxtyping would not see the shapes
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno <= 50, node.name
