"""Matrix products and their derivatives, each with the precision that was asked for.

Without an explicit precision jax multiplies float32 numbers in TF32 on newer NVIDIA cards and in bfloat16
on TPUs. So no file but this one multiplies matrices, and here every product names its precision.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

from bihm.kernels.compiled import on_processor
from bihm.types import Array, Bits, Float

PRECISIONS = {"f32": "highest", "tf32": "tensorfloat32", "bf16": "BF16_BF16_F32"}  # jax's names
_asked = ContextVar("asked", default="f32")


def product(
    y: Float[Array, "*lead inputs"], w: Float[Array, "inputs units"]
) -> Float[Array, "*lead units"]:
    """`y W`, one row per leading index, in the arithmetic of `products_in`; summed in float32."""
    y, w = _rounded(y, w)
    return jnp.matmul(y, w, precision=_precision(), preferred_element_type=jnp.float32)


def small_product(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """`a @ b` within a loop over units, whose factors are not rounded one by one on a processor."""
    return jnp.matmul(a, b, precision=_precision())


def sum_of_products(
    a: Float[Array, "..."], b: Float[Array, "..."], axes: int | tuple[tuple[int, ...], ...]
) -> Float[Array, "..."]:
    """`numpy.tensordot(a, b, axes)`, not rounded on a processor either."""
    return jnp.tensordot(a, b, axes, precision=_precision())


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Within it matrix products are those of "f32", "tf32" or "bf16"; outside, of "f32".

    So it is whatever a user asks of jax, in estimates, samples and all else that is not training.

    f32: float32 on every device. tf32: factors rounded to 10 bits on NVIDIA cards since 2020, which have
    fast products of such; elsewhere as precise or more. bf16: factors in bfloat16. Sums are float32 in
    all of them, and nothing else changes: what is compared or updated is float32.
    """
    token = _asked.set(precision)
    try:
        # jax keeps compiled programs apart by its own setting.
        with jax.default_matmul_precision(PRECISIONS[precision]):
            yield
    finally:
        _asked.reset(token)


def _precision() -> str:
    return PRECISIONS[_asked.get()]


def _rounded(*factors: Array) -> tuple[Array, ...]:
    # On a processor the compiler knows this arithmetic only by the types of the factors.
    half = _asked.get() == "bf16"
    return tuple(x.astype(jnp.bfloat16) for x in factors) if half else factors


def affine(
    y: Float[Array, "*lead inputs"], w: Float[Array, "inputs units"], b: Float[Array, " units"]
) -> Float[Array, "*lead units"]:
    """Return `b + y W`, one row per leading index."""
    a = product(y, w)
    return a + jnp.broadcast_to(b, a.shape)


@jax.custom_vjp
def affine_of_constant(
    y: Bits[Array, "*lead inputs"], w: Float[Array, "inputs units"], b: Float[Array, " units"]
) -> Float[Array, "*lead units"]:
    """`affine` whose y is data or samples: constants of every rule, without a derivative.

    Its derivatives y^T d and 1^T d are products over rows. Automatic differentiation writes them over
    columns, which costs a transposing copy, and as a sum of rows, seven times slower than a product.
    """
    return affine(y, w, b)


def _affine_forward(y: Array, w: Array, b: Array) -> tuple[Array, Array]:
    return affine(y, w, b), y


def _affine_backward(y: Array, d: Array) -> tuple[None, Array, Array]:
    y, d = (x.reshape(-1, x.shape[-1]) for x in (y, d))
    y, d = _rounded(y, d)
    if not on_processor():  # both in one kernel: 1^T d is one more row of y^T d
        wide = jnp.concatenate([y, jnp.ones((len(y), 1), y.dtype)], axis=1)
        d_both = jnp.matmul(wide.T, d, precision=_precision(), preferred_element_type=jnp.float32)
        return None, d_both[:-1], d_both[-1]
    transposed, ones = y.T, jnp.ones(len(d), d.dtype)
    if y.dtype == jnp.bfloat16:
        # A processor has fast bfloat16 products, but not with columns, as which the compiler would read
        # y^T, and not of a vector: so y is transposed in memory, and 1^T d is computed eight times.
        transposed = with_layout_constraint(transposed, Layout((0, 1)))
        ones = jnp.ones((8, len(d)), d.dtype)
    d_w, d_b = (
        jnp.matmul(x, d, precision=_precision(), preferred_element_type=jnp.float32)
        for x in (transposed, ones)
    )
    return None, d_w, d_b.reshape(-1, d.shape[-1])[0]


affine_of_constant.defvjp(_affine_forward, _affine_backward)
