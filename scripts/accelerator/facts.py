"""The machine at hand: which packages it lacks, which device jax finds on it."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

QUESTION = """
import json, platform, jax
device = jax.devices()[0]
print("FACTS", json.dumps({
    "device": device.device_kind, "platform": device.platform, "devices": jax.device_count(),
    "jax": jax.__version__, "python": platform.python_version(),
}))
"""


def name_of(wheel: Path) -> str:
    """The package in a wheel, spelt as packages are compared."""
    return re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower()


def packages_of(folder: Path | None, place: Path) -> dict[str, str]:
    """An environment with the wheels that this machine lacks, installed in `place`, and the data.

    What the machine has stays as it is: its jax fits its card.
    """
    env = dict(os.environ)
    if folder is None:
        return env
    lacking = [wheel for wheel in sorted(folder.glob("*.whl")) if not has(name_of(wheel))]
    if lacking:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        # Python compiles what it imports; to compile all would take longer than to unpack it.
        options = ["--no-compile", "--no-cache-dir", "--disable-pip-version-check"]
        options += ["--target", str(place)]
        subprocess.run([*install, *options, *map(str, lacking)], check=True)
        env["PYTHONPATH"] = os.pathsep.join([env.get("PYTHONPATH", ""), str(place)])
    if (folder / "data").is_dir():
        env["BIHM_DATA"] = str((folder / "data").resolve())
    return env


def has(package: str) -> bool:
    """Whether this Python has a package, of whatever version."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def ask_the_machine(env: dict[str, str]) -> dict[str, Any] | str:
    """What jax finds here, asked of another process, or in one line why nothing can be measured."""
    done = subprocess.run(
        [sys.executable, "-c", QUESTION], env=env, capture_output=True, text=True, check=False
    )
    if "FACTS" not in done.stdout:
        return (
            "jax finds no device: " + (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        )
    facts: dict[str, Any] = json.loads(done.stdout.split("FACTS")[1])
    if facts["platform"] == "cpu" and env.get("JAX_PLATFORMS") != "cpu":
        return "jax finds no accelerator here, only processors; JAX_PLATFORMS=cpu tries them"
    return facts
