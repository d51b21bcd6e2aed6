"""How jax is set up for a command: quietly, and with compiled programs kept for the next run."""

import gc
import hashlib
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from bihm import paths
from bihm.errors import ConfigError

CPUINFO = Path("/proc/cpuinfo")  # on Linux
OF_INTEREST = ("model name", "flags", "Features")  # x86, x86, ARM


def configure_jax() -> None:
    """Wake the device, and keep compiled programs in the user's cache folder, apart for each processor.

    Raises:
        ConfigError: the environment asks jax for what is not here.
    """
    # Python would look for garbage every 700 objects: a sixth of what jax's imports and tracing take.
    gc.set_threshold(100_000)
    import_jax()
    import jax

    folder = paths.cache() / "jax" / _machine()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    _wake_device()


def import_jax() -> None:
    """Import jax, which reads its environment variables then; no device is woken.

    Raises:
        ConfigError: one of them has a value that it refuses.
    """
    try:
        import jax  # noqa: F401
    except ValueError as error:
        raise ConfigError(f"jax refuses its environment variables: {error}") from error


def _wake_device() -> None:
    import jax

    _check_xla_flags()
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter where jax has no plugin for it
        reason = (
            str(error).partition(" (")[0].partition("\n")[0].rstrip(".") or "it is not installed"
        )
        for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME"):
            if value := os.environ.get(name):
                raise ConfigError(
                    f"{name}={value}: jax has no such device here: {reason}; unset it, or "
                    f"{name}=cpu computes on the processor"
                ) from error
        raise ConfigError(
            f"jax finds no device: {reason}; JAX_PLATFORMS=cpu computes on the processor"
        ) from error


def _check_xla_flags() -> None:
    """Try the flags in another process: XLA ends the one that reads a wrong one, with pages of usage."""
    if not os.environ.get("XLA_FLAGS"):
        return
    code = "from jaxlib import xla_client; xla_client.CompileOptions()"
    tried = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    reason = re.search(r"^[EF]\d{4} .*?\] (.+)$", tried.stderr, re.MULTILINE)
    if tried.returncode and reason:
        raise ConfigError(f"XLA_FLAGS: {reason[1]}")


def lacks_bfloat16() -> bool:
    """Whether jax runs on a processor that is known to have no bfloat16 products, and imitates them."""
    import jax

    flags = {word for line in _processor() for word in line.split()}
    known = {"avx512_bf16", "amx_bf16", "bf16"}  # x86, x86, ARM
    return jax.default_backend() == "cpu" and bool(flags) and not flags & known


def _machine() -> str:
    # A home folder shared by a cluster meets other processors, which must not run each other's code.
    facts = [platform.machine(), platform.processor(), *_processor()]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _processor() -> list[str]:
    """What the system says of its kind of processor; nothing where it does not say."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.is_file() else []
    return sorted({line for line in lines if line.startswith(OF_INTEREST)})
