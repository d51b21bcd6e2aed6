"""Several runs as one program: their threads meet at each compiled call, which is made for all at once.

Each run has a thread of its own, of which one works at a time. When it calls what `fast_jit` compiled it
waits, and another works, until all wait or have ended. Then the calls of one function with arguments of the
same shapes become one, with an axis over runs (`jax.vmap`); every run gets its part, and goes on.
"""

import hashlib
import inspect
import logging
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

log = logging.getLogger("bihm")
_thread = threading.local()  # `meeting`: that of this thread's run
NUMBERS = bool | int | float | np.generic
FREE = 0.9  # of the memory that is free, so much may be used


class Program(NamedTuple):
    """A function as `fast_jit` got it."""

    function: Callable[..., Any]
    alone: Callable[..., Any]  # compiled, for one run
    static: frozenset[str]  # names of arguments that are no arrays
    trains: bool
    options: dict[str, str]  # of the compiler


class _Call:
    """One run's call, and its result once there is one."""

    def __init__(self, program: Program, arguments: dict[str, Any]) -> None:
        self.program = program
        self.fixed = {k: v for k, v in arguments.items() if k in program.static}
        given = {k: v for k, v in arguments.items() if k not in program.static}
        self.leaves, self.tree = jax.tree.flatten(given)
        shapes = tuple(_shape(leaf) for leaf in self.leaves)
        self.kind = (program.function, tuple(sorted(self.fixed.items())), self.tree, shapes)
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False

    @property
    def arguments(self) -> dict[str, Any]:
        return {**self.fixed, **jax.tree.unflatten(self.tree, self.leaves)}


def _shape(leaf: Any) -> Hashable:
    """Of an array its shape; a number itself, as the K of an estimate, which bounds a loop."""
    return leaf if isinstance(leaf, NUMBERS) else (leaf.shape, str(leaf.dtype))


def meeting() -> "Meeting | None":
    """That of the run that this thread works for, if it is one of several."""
    return getattr(_thread, "meeting", None)


def on_device_once(rows: np.ndarray) -> jax.Array:
    """The rows on the device, where runs that work together need them only once."""
    others = meeting()
    return jnp.asarray(rows) if others is None else others.keep(rows)


class Meeting:
    """Where the threads of `runs` runs meet; `free` says how many bytes a program may have, if known."""

    def __init__(self, runs: int, free: Callable[[], int | None]) -> None:
        self._changed = threading.Condition()
        self._busy = runs  # threads that neither wait here nor have ended
        self._waiting: list[_Call] = []
        self._free = free
        self._compiled: dict[Hashable, Any] = {}  # None: too large for the memory
        self._kept: dict[str, jax.Array] = {}
        self.sizes: list[int] = []  # how many runs each compiled program is for

    @contextmanager
    def taking_part(self) -> Iterator[None]:
        """Let this thread work for one of the runs: while no other does, until it waits or has ended."""
        with self._changed:
            _thread.meeting = self
            try:
                yield
            finally:
                _thread.meeting = None
                self._busy -= 1
                self._go_on()

    def call(self, program: Program, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """What the function returns, once it has been called for all that wait with the same one."""
        bound = inspect.signature(program.function).bind(*arguments, **named)
        call = _Call(program, bound.arguments)
        self._waiting.append(call)
        self._busy -= 1
        self._go_on()
        while not call.done:
            self._changed.wait()
        if call.error is not None:
            raise call.error
        return call.result

    def keep(self, rows: np.ndarray) -> jax.Array:
        """The same array on the device for equal rows."""
        name = f"{rows.shape} {rows.dtype} {hashlib.sha256(rows.tobytes()).hexdigest()}"
        if name not in self._kept:
            self._kept[name] = jnp.asarray(rows)
        return self._kept[name]

    def _go_on(self) -> None:
        """Make one kind of call, if all wait."""
        if self._busy or not self._waiting:
            return
        kinds: dict[Hashable, list[_Call]] = {}
        for call in self._waiting:
            kinds.setdefault(call.kind, []).append(call)
        # Who trains waits for who is busy with an estimate, so that all train together again.
        calls = min(kinds.values(), key=lambda some: (some[0].program.trains, len(some)))
        try:
            for call, result in zip(calls, self._results(calls), strict=True):
                call.result = result
        except BaseException as error:
            for call in calls:
                call.error = error
        for call in calls:
            call.done = True
            self._waiting.remove(call)
        self._busy += len(calls)
        self._changed.notify_all()

    def _results(self, calls: Sequence[_Call]) -> list[Any]:
        if len(calls) == 1:
            return [calls[0].program.alone(**calls[0].arguments)]
        shared = _shared(calls)
        size, compiled = self._program(calls, shared)
        if compiled is not None:
            # An axis that is too long is filled up with runs that are there already.
            filled = [*calls, *[calls[-1]] * (size - len(calls))]
            try:
                return list(compiled(*_split(filled, shared))[: len(calls)])
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                self._compiled[calls[0].kind, shared, size] = None
        half = len(calls) // 2
        return [*self._results(calls[:half]), *self._results(calls[half:])]

    def _program(self, calls: Sequence[_Call], shared: tuple[bool, ...]) -> tuple[int, Any]:
        """A compiled program for these calls, and for how many it is; less than twice as many."""
        key, count = (calls[0].kind, shared), len(calls)
        for size in range(count, 2 * count):
            if self._compiled.get((*key, size)) is not None:
                return size, self._compiled[*key, size]
        if (*key, count) not in self._compiled:
            compiled = _compile(calls, shared)
            wanted, free = _memory(compiled), self._free()
            fits = free is None or wanted <= FREE * free
            self._compiled[*key, count] = compiled if fits else None
            if fits:
                self.sizes.append(count)
            else:
                log.info("%d runs at once want %.1f GB; half as many, then", count, wanted / 1e9)
        return count, self._compiled[*key, count]


def _shared(calls: Sequence[_Call]) -> tuple[bool, ...]:
    """Which arguments are the same object in all calls, so that one will do; numbers are equal anyway."""
    first = calls[0].leaves
    return tuple(
        isinstance(leaf, NUMBERS) or all(call.leaves[i] is leaf for call in calls)
        for i, leaf in enumerate(first)
    )


def _split(
    calls: Sequence[_Call], shared: tuple[bool, ...]
) -> tuple[tuple[list[Any], ...], list[Any]]:
    """What each call has for itself, and what they have in common."""
    own = tuple(
        [leaf for leaf, one in zip(call.leaves, shared, strict=True) if not one] for call in calls
    )
    return own, [leaf for leaf, one in zip(calls[0].leaves, shared, strict=True) if one]


def _compile(calls: Sequence[_Call], shared: tuple[bool, ...]) -> Any:
    call = calls[0]

    def all_at_once(own: tuple[list[Any], ...], common: list[Any]) -> tuple[Any, ...]:
        stacked = [jnp.stack(leaves) for leaves in zip(*own, strict=True)]

        def one(mine: list[Any]) -> Any:
            sources = iter(mine), iter(common)
            leaves = [next(sources[is_shared]) for is_shared in shared]
            return call.program.function(**call.fixed, **jax.tree.unflatten(call.tree, leaves))

        results = jax.vmap(one)(stacked)
        return tuple(jax.tree.map(lambda x, i=i: x[i], results) for i in range(len(own)))

    jitted = jax.jit(all_at_once, compiler_options=call.program.options)
    return jitted.lower(*_split(calls, shared)).compile()


def _memory(compiled: Any) -> int:
    """Bytes that a program wants besides its arguments, which are there already."""
    needs = compiled.memory_analysis()
    return 0 if needs is None else needs.temp_size_in_bytes + needs.output_size_in_bytes


def free_memory() -> int | None:
    """Bytes that the device has free; None where it does not say."""
    device = jax.local_devices()[0]
    told = device.memory_stats() if device.platform != "cpu" else None
    if told and "bytes_limit" in told:
        return int(told["bytes_limit"] - told["bytes_in_use"])
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":") for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
