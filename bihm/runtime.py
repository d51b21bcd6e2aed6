"""How jax is set up for a command: quietly, and with compiled programs kept for the next run."""

import hashlib
import platform
from pathlib import Path

from bihm import paths


def configure_jax() -> None:
    """Keep compiled programs in the user's cache folder, apart for each kind of processor."""
    import jax

    folder = paths.cache() / "jax" / _machine()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def _machine() -> str:
    # A home folder shared by a cluster meets other processors, which must not run each other's code.
    facts = [platform.machine(), platform.processor()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        facts += sorted({line for line in lines if line.startswith(("model name", "flags"))})
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
