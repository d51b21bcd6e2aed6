"""`jax.jit` with the compiler options that make this program faster where they are known."""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar

import jax

from bihm.kernels.together import Program, meeting

Function = TypeVar("Function", bound=Callable[..., Any])

# On a processor XLA hands sums and chains of products to a library. Such calls cannot be fused with what
# surrounds them, so that every operand is written to memory first: XLA's own loops are faster (18.6 ms a
# step, 15.5). Single products may go there, because it has fast ones for bfloat16.
# They are also right: that library of jax 0.10.2 sums h * a wrongly, by many nats, where both are large and
# each lacks a leading axis of the other. So all mathematics is compiled here, not by `jax.jit` alone.
OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}


def on_processor() -> bool:
    """Whether programs are for a processor, where arithmetic costs, and not a card, where kernels do."""
    return jax.default_backend() == "cpu"


def fast_jit(function: Function, **options: Any) -> Function:
    """`jax.jit(function, **options)`, compiled with `OPTIONS` if this compiler and device take them.

    Numbers are of 32 bits, also in a program that lets jax have 64. Where several runs are made together
    (`together.py`), those that call it at one time share one call.
    """

    @cache
    def compiled() -> Any:  # not before the first call: a module is no place to wake a device
        return jax.jit(function, compiler_options=_known_options(), **options)

    names = options.get("static_argnames", ())
    static = frozenset([names] if isinstance(names, str) else names)

    @wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if jax.config.jax_enable_x64:  # type: ignore[attr-defined]
            with jax.enable_x64(False):
                return call(*arguments, **keywords)
        others = meeting()
        if others is None:
            return compiled()(*arguments, **keywords)
        trains = "donate_argnums" in options
        program = Program(function, compiled(), static, trains, _known_options())
        return others.call(program, arguments, keywords)

    call.jitted = compiled  # type: ignore[attr-defined]  # for whoever wants more of it than a call
    return call  # type: ignore[return-value]


@cache
def _known_options() -> dict[str, str]:
    """An experimental option may be gone in another version, and means nothing to another device."""
    if not on_processor():
        return {}
    try:
        jax.jit(lambda x: x, compiler_options=OPTIONS)(0.0)
    except jax.errors.JaxRuntimeError:
        return {}
    return OPTIONS
