"""How jax is set up for a command: quietly, and with compiled programs kept for the next run."""

import gc
import hashlib
import importlib.util
import logging
import os
import platform
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from bihm import paths
from bihm.errors import ConfigError

log = logging.getLogger("bihm")
PROBE = 100_000  # bytes, as a compiled program has
CPUINFO = Path("/proc/cpuinfo")  # on Linux
OF_INTEREST = ("model name", "flags", "Features")  # x86, x86, ARM
IMITATED = "no bfloat16 products, so factors are rounded to bfloat16 and multiplied in float32"
WITHOUT_AMX = "no AMX, and its other bfloat16 products take longer than those of float32"
THREADS = ("PJRT_NPROC", "NPROC")  # what XLA asks for the number of its threads, in this order


def configure_jax() -> None:
    """Wake the device, and keep compiled programs in the user's cache folder, apart for each processor.

    Raises:
        ConfigError: the environment asks jax for what is not here.
    """
    # Python would look for garbage every 700 objects: a sixth of what jax's imports and tracing take.
    gc.set_threshold(100_000)
    import_jax()
    import jax

    folder = paths.cache() / "jax" / f"{_machine()}-{packing()}"
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


def threads() -> int:
    """How many threads XLA computes with on a processor; the rounding of long sums depends on it."""
    for name in THREADS:
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def processor_name() -> str:
    """What this processor is called, and a sign of its instructions."""
    names = [line.partition(":")[2].strip() for line in _processor() if line.startswith("model")]
    name = names[0] if names else platform.processor() or platform.machine()
    return (
        f"{name} ({_machine()[:8]})"  # one name is given to processors with different instructions
    )


def computed_instead(precision: str) -> str | None:
    """In one line what the device does where it is known to have no products of this precision."""
    import jax

    device = jax.devices()[0]
    lack: str | None = IMITATED
    if device.platform == "cpu":
        lack = _lack_of_bfloat16()
        lacking = {"tf32"} | ({"bf16"} if lack else set())
    else:  # NVIDIA's have both since 8.0; of others jax does not say
        number = re.fullmatch(r"(\d+)\.\d+", str(getattr(device, "compute_capability", "")))
        lacking = {"tf32", "bf16"} if number and int(number[1]) < 8 else set()
    if precision not in lacking:
        return None
    kind = "this processor" if device.platform == "cpu" else device.device_kind
    if precision == "tf32":
        return f"precision=tf32 means f32 here: {kind} has no TF32 products"
    return f"precision=bf16 is slower than f32 here: {kind} has {lack}"


def _lack_of_bfloat16() -> str | None:
    """What this processor is known to lack of fast bfloat16 products, in words that follow "has"."""
    words = {word for line in _processor() for word in line.split()}
    if words and not words & {"avx512_bf16", "amx_bf16", "bf16"}:  # x86, x86, ARM
        return IMITATED
    # PERFORMANCE.md: a step took 1.5 times as long on a Xeon without AMX; on a Zen 4 it is faster.
    of_intel = any(word.startswith("Intel") for word in words)
    return WITHOUT_AMX if of_intel and "amx_bf16" not in words else None


def packing() -> str:
    """How jax packs the programs that it keeps. It cannot read other packings, nor does it replace them."""
    zstd = ("_zstd", "zstandard")  # of Python 3.14, and of a package that jax takes before that
    return "zstd" if any(map(importlib.util.find_spec, zstd)) else "zlib"


def _machine() -> str:
    # A home folder shared by a cluster meets other processors, which must not run each other's code.
    facts = [platform.machine(), platform.processor(), *_processor()]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _processor() -> list[str]:
    """What the system says of its kind of processor; nothing where it does not say."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.is_file() else []
    return sorted({line for line in lines if line.startswith(OF_INTEREST)})
