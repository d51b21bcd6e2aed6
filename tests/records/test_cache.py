"""A cache of compiled programs that cannot be kept costs a user one line at most."""

import os
import subprocess
import sys

import pytest

RUN = """
import logging, sys
logging.basicConfig(format="bihm-x: %(message)s")
from bihm.runtime import configure_jax
configure_jax()
import jax, jax.numpy as jnp
if sys.argv[1:] == ["full"]:
    from jax._src import lru_cache
    def put(*args):
        raise OSError(28, "No space left on device")
    lru_cache.LRUCache.put = put
for size in (2, 3, 4):
    jax.jit(lambda x: x * 2 + 1)(jnp.ones(size)).block_until_ready()
"""


def compile_three(cache, *words, **environment):
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words],
        env=os.environ | {"BIHM_CACHE": str(cache)} | environment,
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_a_cache_that_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "cache").write_text("a file")
    said = compile_three(tmp_path / "cache")
    assert said.startswith("bihm-x: compiled programs are not kept for the next run: ")
    assert said.endswith(": Not a directory\n") or said.endswith(": File exists\n")
    assert said.count("\n") == 1


@pytest.mark.long
def test_a_cache_that_fills_up_says_nothing(tmp_path):
    assert compile_three(tmp_path / "cache", "full") == ""


ZSTD = """
import zlib

def compress(content):
    return b"zstd" + zlib.compress(content)

def decompress(content):
    assert content.startswith(b"zstd")
    return zlib.decompress(content[4:])
"""


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="it has a packing of its own")
@pytest.mark.long
def test_programs_of_another_packing_are_kept_beside_these(tmp_path):
    """As after a step to Python 3.14: jax would neither read nor replace those of the Python before."""
    (tmp_path / "compression").mkdir()
    (tmp_path / "compression" / "zstd.py").write_text(ZSTD)
    (tmp_path / "_zstd.py").write_text("")
    other = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}

    def kept():
        return {path: path.read_bytes()[:4] for path in (tmp_path / "cache").rglob("*-cache")}

    assert compile_three(tmp_path / "cache") == ""
    before = kept()
    assert compile_three(tmp_path / "cache", **other) == ""
    new = {path: start for path, start in kept().items() if path not in before}
    assert len(new) == len(before) > 0
    assert set(new.values()) == {b"zstd"}


@pytest.mark.long
def test_a_damaged_program_says_nothing(tmp_path):
    assert compile_three(tmp_path / "cache") == ""
    programs = list((tmp_path / "cache").rglob("*-cache"))
    assert programs
    for program in programs:
        program.write_bytes(b"no program")
    assert compile_three(tmp_path / "cache") == ""
