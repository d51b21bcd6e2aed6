"""What TensorBoard shows of a Helmholtz machine beside its curves: pictures, and how weights are spread."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bihm.kernels.compiled import fast_jit
from bihm.kernels.noise import uniform
from bihm.machine import sampling
from bihm.machine.family import Distributions, Image
from bihm.machine.layer_terms import layer_terms, units_in_use
from bihm.machine.layers.conditional import Sequential
from bihm.machine.layers.factorised import Factorised
from bihm.machine.machine import Params, Structure, bind
from bihm.run.estimates.splits import weights_of_some
from bihm.types import Array, PRNGKey

DREAMS, SHOWN = 64, 32  # samples; rows beside what is made of them
SWEEPS, PROPOSALS = 50, 10  # of the chains
ROWS, SAMPLES = 100, 10  # whose KL is averaged


def pictures(
    key: PRNGKey, structure: Structure, params: Params, rows: np.ndarray, star: bool, whole: bool
) -> list[Image]:
    """Samples of p; weights of p and q next to x; if `whole` what takes a chain, too.

    Those are samples of p*, if `star`, reconstructions of `rows`, x beside the mean of p(x | h_1), h ~ q,
    and completions of them.
    """
    machine = bind(structure, params)
    images = [Image("samples/p", np.asarray(_dream(key, structure, params)))]
    for tag, layer, axis in (("p_x_given_h1", machine.p[0], 1), ("q_h1_given_x", machine.q[0], 0)):
        w = getattr(layer, "w", None)  # not every conditional has just one
        if w is not None and w[...].shape[axis] == rows.shape[1]:
            tiles = np.asarray(w[...])
            images.append(Image(f"weights/{tag}", tiles if axis else tiles.T, weights=True))
    if not (whole and isinstance(machine.p[0], Factorised | Sequential)):
        return images
    some = rows[:SHOWN]
    drawn = _draw(key, structure, params, jnp.asarray(some, jnp.float32), star=star)
    if star:
        images.append(Image("samples/p_star", np.asarray(drawn.free)))
    for tag, made in (
        ("reconstructions", drawn.rebuilt),
        ("completions/first_half_given", drawn.completed),
    ):
        images.append(Image(tag, beside(some, np.asarray(made))))
    return images


def beside(rows: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Each row, and after it what was made of it: (2 rows, visible) in [0, 1]."""
    pairs: np.ndarray = np.stack([rows, made], axis=1).reshape(-1, rows.shape[1])
    return pairs.clip(0, 1)


@partial(fast_jit, static_argnames="structure")
def _dream(key: PRNGKey, structure: Structure, params: Params) -> Array:
    return bind(structure, params).sample_p(key, DREAMS)[0]


class _Drawn(NamedTuple):
    free: Array  # ends of chains that start at samples of p
    rebuilt: Array
    completed: Array


@partial(fast_jit, static_argnames=("structure", "star"))
def _draw(key: PRNGKey, structure: Structure, params: Params, x: Array, *, star: bool) -> _Drawn:
    """All from one set of chains, since what costs time is to compile them."""
    machine = bind(structure, params)
    p_key, h_key, x_key, chain_key = jax.random.split(key, 4)
    dreams, _ = sampling.ancestral(p_key, machine, DREAMS)
    given = jnp.arange(x.shape[1]) < x.shape[1] // 2
    # The rest of a row is another's dream: nothing of a completion has seen what it completes.
    begun = jnp.concatenate([dreams, jnp.where(given[None], x, dreams[: len(x)])])
    copies = 2 if star else 1
    chain = sampling.start_chain(h_key, machine, jnp.concatenate([begun, x]), copies)
    h_1, bottom = chain.h[0][0, len(begun) :], machine.p[0]
    if isinstance(bottom, Factorised):
        rebuilt = jax.nn.sigmoid(bottom.logits(h_1))
    else:  # it has no mean in closed form
        rebuilt = bottom.sample(uniform(x_key, x.shape), h_1)
    observed = jnp.concatenate(
        [jnp.zeros(dreams.shape, bool), jnp.broadcast_to(given[None], x.shape)]
    )
    done, _ = sampling.run_chain(
        chain_key, machine, sampling.Chain(begun, [h[:, : len(begun)] for h in chain.h]), observed,
        jnp.asarray(0), sweeps=SWEEPS, K=PROPOSALS,
    )  # fmt: skip
    return _Drawn(done.x[:DREAMS], rebuilt, done.x[DREAMS:])


def distributions(
    key: PRNGKey,
    structure: Structure,
    params: Params,
    rows: np.ndarray,
    K: int,
    star: bool,
    whole: bool,
) -> Distributions:
    """Histograms of log w less the log of their mean, and of ESS, over rows; if `whole` what layers do.

    kl/h_l is E_q[log q(h_l | h_{l-1}) - log p(h_l | h_{l+1})], nats: near 0 the layer carries nothing.
    units_in_use/h_l counts its units that take both values under q.
    """
    log_w = weights_of_some(key, structure, params, rows, K)
    top = log_w.max(axis=0)
    w = np.exp(log_w - top)
    histograms = {
        "log_w_less_log_p": log_w - top - np.log(w.mean(axis=0)),
        "ess_p": w.mean(axis=0) ** 2 / (w**2).mean(axis=0),
    }
    if star:
        histograms["ess_p_star"] = np.sqrt(w).mean(axis=0) ** 2 / w.mean(axis=0)
    if not whole:
        return Distributions(histograms, {})
    some = jnp.asarray(rows[:ROWS], jnp.float32)
    found = layer_terms(key, structure, params, some, samples=SAMPLES)
    kl = np.asarray(found.kl, np.float64).mean(axis=0)
    used = [units_in_use(layer) for layer in found.activity]
    scalars = {f"kl/h{i}": float(one) for i, one in enumerate(kl, start=1)}
    scalars |= {f"units_in_use/h{i}": float(one) for i, one in enumerate(used, start=1)}
    return Distributions(
        histograms, scalars, _in_words(kl, used, [len(layer) for layer in found.activity])
    )


def _in_words(kl: np.ndarray, used: Sequence[int], sizes: Sequence[int]) -> str:
    """What each layer does, from the data up: a layer of 0 nats, or without units in use, is dead."""
    units = ", ".join(f"{one} of {size}" for one, size in zip(used, sizes, strict=True))
    nats = ", ".join(f"{one:z.1f}" for one in kl)
    return f"latent layers, from the data up: units in use {units}; KL(q || p) {nats} nats"
