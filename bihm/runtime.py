"""How jax is set up for a command: quietly, and with compiled programs kept for the next run."""

import gc
import hashlib
import logging
import platform
import tempfile
import warnings
from pathlib import Path

from bihm import paths

log = logging.getLogger("bihm")
PROBE = 100_000  # bytes, as a compiled program has
CPUINFO = Path("/proc/cpuinfo")  # on Linux
OF_INTEREST = ("model name", "flags", "Features")  # x86, x86, ARM


def configure_jax() -> None:
    """Keep compiled programs in the user's cache folder, apart for each kind of processor."""
    # Python would look for garbage every 700 objects: a sixth of what jax's imports and tracing take.
    gc.set_threshold(100_000)
    import jax

    folder = paths.cache() / "jax" / _machine()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # jax would say so of each program that it compiles.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(PROBE))
            probe.flush()
    except OSError as error:
        log.warning(
            "compiled programs are not kept for the next run: %s: %s", folder, error.strerror
        )
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


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
