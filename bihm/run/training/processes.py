"""Several processes that train one run together, found and connected by `jax.distributed`.

Every process runs the same program on its own devices. The first one writes; what all must do at the same
moment, or decide alike, is agreed on here.
"""

import ctypes
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bihm.config import DistributedConfig
from bihm.config.processes import find_place
from bihm.errors import (
    CTRL_C,
    LESS_MEMORY,
    BihmError,
    ConfigError,
    DataError,
    Interrupted,
    NumbersError,
    as_bihm_error,
)

HEARTBEAT_SECONDS = 30  # without one a process counts as dead, and the others end
MEETING_SECONDS = 300  # until all have started: the nodes of a cluster are not equally fast
PARTING_SECONDS = 30  # until all have ended
DAY_MS = 86_400_000
AT_ONCE = "by the keyboard, at once"  # the second Ctrl-C
LOST = "another process of this run has ended; the same command goes on from the last checkpoint"
# The words of gloo, NCCL and jax's coordination service for a process that is no longer there.
_GONE = re.compile("gloo|nccl|coordination|heartbeat|socket closed|connection", re.IGNORECASE)

_joined = False  # whether this process is one of several
_said = 0  # how often the first process has told the others something


def join(given: DistributedConfig) -> None:
    """Meet the other processes, if there are any; before a device is woken.

    Raises:
        ConfigError: they do not meet.
    """
    global _joined
    place = find_place(given)
    if place.processes == 1 or _joined:
        return
    jax.config.update("jax_enable_preemption_service", False)  # signals are ours: see `Agreement`
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    _end_quietly()
    keys: dict[str, Any] = {}
    if given.coordinator is not None:
        keys = {"coordinator_address": given.coordinator, "cluster_detection_method": "deactivate"}
        keys |= {"num_processes": place.processes, "process_id": place.process}
    try:
        jax.distributed.initialize(
            **keys,
            initialization_timeout=MEETING_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=PARTING_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        where = given.coordinator or f"as {place.launcher} says"
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(
            f"process {place.process} of {place.processes} does not meet the others ({where}): {reason}; "
            "distributed.coordinator=HOST:PORT names a free port of the first one's host"
        ) from error
    _joined = True


def _end_quietly() -> None:
    """Make of jax's abort, where another process has died, our line and exit code.

    jax's client ends the process from a thread of its own once the coordination service tells it, and the
    main thread may wait for a device for ever: so no handler of Python's would be called.
    """
    from jax._src import distributed

    runtime = distributed._jax
    make = getattr(runtime, "get_distributed_runtime_client", None)

    def ended(*_: Any) -> None:
        leave_at_once()

    def make_with_our_end(*args: Any, **options: Any) -> Any:
        return make(*args, **options, missed_heartbeat_callback=ended)  # type: ignore[misc]

    if make is not None and not getattr(make, "ours", False):
        make_with_our_end.ours = True  # type: ignore[attr-defined]
        runtime.get_distributed_runtime_client = make_with_our_end
    # The callback of jaxlib 0.10 fails on its own argument, and C++ then aborts.
    ctypes.CDLL(None).signal(int(signal.SIGABRT), _ABORTED)


def leave_at_once(reason: str = LOST, code: int = Interrupted.exit_code) -> None:
    """Say why, by default that another process has gone, and end this one without waiting for anything."""
    with suppress(OSError):
        os.write(2, f"bihm-train: {reason}\n".encode())
    os._exit(code)


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _ABORTED(number: int) -> None:
    leave_at_once()


@contextmanager
def in_step(say: Callable[[str, str], None]) -> Iterator[None]:
    """End this process at once where it alone cannot go on: others may wait for it, and it for others.

    `say` is told a status and a reason first. What all processes meet alike is raised.
    """
    try:
        yield
    except (Interrupted, NumbersError):
        raise
    except BaseException as error:
        if not _joined:
            raise
        end = _end_of(error)
        with suppress(OSError):  # the full disk that it may be about
            say(end.status, end.reason)
        leave_at_once(end.line, end.code)


class _End(NamedTuple):
    """How a process ends alone: what its run directory and its last line say, and its exit code."""

    status: str
    reason: str
    line: str
    code: int


def _end_of(error: BaseException) -> _End:
    if isinstance(error, KeyboardInterrupt):
        return _End("interrupted", AT_ONCE, f"interrupted {AT_ONCE}", CTRL_C)
    if _GONE.search(str(error)) and not isinstance(error, BihmError | OSError):
        return _End("interrupted", LOST, LOST, Interrupted.exit_code)
    failure = as_bihm_error(error, LESS_MEMORY)
    return _End("failed", failure.reason, str(failure), failure.exit_code)


def are_several() -> bool:
    """Whether this process is one of several."""
    return _joined


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return not _joined or jax.process_index() == 0


def from_first(value: Any) -> Any:
    """What the first process has here, JSON, to all of them; the others wait for it.

    Raises:
        BihmError: the first process has told what ended it: see `told_to_others`.
    """
    if not _joined:
        return value
    if is_first():
        _tell({"value": value})
        return value
    global _said
    _said += 1
    heard = json.loads(_client().blocking_key_value_get(f"bihm/{_said}", DAY_MS))
    if "error" in heard:
        kinds = (ConfigError, DataError, NumbersError)
        raise next((kind for kind in kinds if kind.exit_code == heard["code"]), BihmError)(
            heard["error"]
        )
    return heard["value"]


@contextmanager
def told_to_others() -> Iterator[None]:
    """Let the processes that wait for the first one hear what has ended it."""
    try:
        yield
    except Exception as error:
        if _joined and is_first():
            failure = as_bihm_error(error)
            with suppress(Exception):  # they may be gone
                _tell({"error": str(failure), "code": failure.exit_code})
        raise


def _tell(message: dict[str, Any]) -> None:
    global _said
    _said += 1
    _client().key_value_set(f"bihm/{_said}", json.dumps(message))


def _client() -> Any:
    from jax._src.distributed import global_state

    return global_state.client


class Agreement:
    """What all processes know at the same moment: a signal that came to one, the clock of the first.

    Each tells the others when it asks, and learns what they told when it asked before: so nobody waits for
    the devices, which have more to do. All ask equally often.
    """

    def __init__(self, mesh: Mesh | None, seconds: float) -> None:
        assert mesh is not None  # several processes have several devices
        self.signal: str | None = None
        self.seconds = seconds
        self._mesh = mesh
        self._told: Any = None
        everywhere = NamedSharding(mesh, PartitionSpec())
        self._largest = jax.jit(lambda rows: rows.max(axis=0), out_shardings=everywhere)

    def ask(self, signal_here: str | None, seconds_here: float) -> None:
        """Tell the others, and take in what was told before."""
        before, number = self._told, 0 if signal_here is None else signal.Signals[signal_here].value
        own = np.asarray([[number, seconds_here if is_first() else 0]], np.float32)
        spread = NamedSharding(self._mesh, PartitionSpec(self._mesh.axis_names))
        rows = jax.make_array_from_callback((self._mesh.size, 2), spread, lambda index: own)
        self._told = self._largest(rows)
        if before is not None:
            number, self.seconds = np.asarray(before).tolist()
            self.signal = signal.Signals(int(number)).name if number else None
