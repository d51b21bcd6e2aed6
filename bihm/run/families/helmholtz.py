"""The family of the Helmholtz machines, trained by one of the rules of `bihm/machine/rules.py`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bihm.config import SIDE_OPTIONS, Config, SideConfig
from bihm.config.machine_checks import layer_types
from bihm.data.catalogue import SPLITS
from bihm.data.files import check_bits
from bihm.errors import ConfigError
from bihm.kernels.compiled import fast_jit
from bihm.kernels.noise import root_key
from bihm.machine.family import Distributions, Image, Keys, Limit, Report, Rule
from bihm.machine.layers import Init, LayerSpec
from bihm.machine.layers.factorised import Factorised
from bihm.machine.likelihood import mean_and_sem
from bihm.machine.machine import (
    HelmholtzMachine,
    Params,
    Structure,
    bind,
    independent_log_p,
    make_machine,
)
from bihm.machine.minibatches import binarise
from bihm.machine.rules import RULES, has_p_star, make_rule
from bihm.records.results import block_of
from bihm.run.estimates.parzen import density_blocks
from bihm.run.estimates.splits import (
    block_size,
    estimate_log_z,
    estimate_split,
    final_log_z,
    own_block,
)
from bihm.run.families import looks
from bihm.run.samples import sampler
from bihm.run.samples.sampling_options import Options, settle
from bihm.run.training.limits import check_draws
from bihm.types import AnyArray, Array, Float, PRNGKey

MEANS_AT_ONCE = 1000
HOPELESS = (
    10  # fair coins in the place of each unit: a score as bad, after training, is of broken weights
)


class Helmholtz:
    """p and q with binary units; see `bihm.machine.family.Family` for what each member is."""

    limits: ClassVar[Mapping[str, Limit]] = {}
    has_likelihood = True

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def score(self) -> str:
        return RULES[self.config.model.name].likelihood

    def describe(self, K: Sequence[int]) -> str:
        return f"K={', then '.join(map(str, K))}"

    @property
    def final_words(self) -> str:
        return f", K={self.config.eval.final_K},"

    def check_draws(self, K: Sequence[int]) -> None:
        check_draws(self.config, K)

    def machine(self, visible_mean: AnyArray | None) -> HelmholtzMachine:
        config = self.config
        assert config.layers is not None
        assert config.dataset.n_features is not None
        return make_machine(
            np.random.default_rng(config.seed),
            config.dataset.n_features,
            config.layers,
            _layer_specs(config.p, "p", len(config.layers) + 1),
            _layer_specs(config.q, "q", len(config.layers)),
            Init(config.init["weights"], config.init["bias"]),
            visible_mean,  # type: ignore[arg-type]
        )

    def rule(self, K: int, steps_per_epoch: int) -> Rule:
        options = asdict(self.config.model)
        name = options.pop("name")
        if options["warm_up"] is not None:
            options["warm_up"] *= steps_per_epoch
        return make_rule(name, K=K, **{k: v for k, v in options.items() if v is not None})

    see = staticmethod(binarise)

    def fixed_rows(self, rows: np.ndarray, split: str, grey: bool) -> np.ndarray:
        return fixed_bits(rows, split) if grey else rows

    def check(self, rows: np.ndarray, name: str) -> np.ndarray:
        return check_bits(rows, name)

    def fit(
        self, structure: Structure, params: Params, rows: AnyArray, grey: bool, report: Report
    ) -> Params:
        del structure, rows, grey, report
        return params

    def step_cost(self, K: int) -> float:
        return float(K)

    def estimate_cost(self, rows: int) -> float:
        # A sample costs an estimate a little more than half of what it costs a step (measured, 12 layers).
        evaluation = rows * self.config.eval.K
        if self._has_p_star:
            evaluation += self.config.eval.z_outer * (self.config.eval.z_inner + 1)
        return 0.56 * evaluation

    def estimate(
        self, keys: Keys, structure: Structure, params: Params, rows: np.ndarray, report: Report
    ) -> dict[str, float]:
        options = self.config.eval
        scalars: dict[str, float] = {}
        block = block_size(options.K)
        estimates = estimate_split(
            keys.valid, structure, params, rows, options.K, block=block, k_hat=False, report=report
        )
        for name, values in estimates._asdict().items():
            if values is None:
                continue
            scalars[f"valid/{name}"], sem = mean_and_sem(values)
            if name.startswith("log"):
                scalars[f"valid/{name}_sem"] = sem
        if self._has_p_star:
            outer, inner = options.z_outer, options.z_inner
            log_z = estimate_log_z(keys.log_z, structure, params, outer, inner, report)
            scalars |= {"valid/two_log_z": log_z.mean, "valid/two_log_z_stderr": log_z.stderr}
        return scalars

    def results(
        self,
        keys: Keys,
        structure: Structure,
        params: Params,
        rows: Callable[[str], np.ndarray],
        report: Report,
    ) -> dict[str, dict[str, Any]]:
        K = self.config.eval.final_K
        log_z = final_log_z(self.config, keys, structure, params, report)

        def assess(split: str) -> dict[str, Any]:
            key, block = getattr(keys, split), own_block(self.config, K)
            estimates = estimate_split(
                key, structure, params, rows(split), K, block=block, report=report
            )
            return block_of(estimates, K, log_z)

        return {"test": assess("test"), "valid": assess("valid")}

    def references(
        self, mean: Float[np.ndarray, " visible"], rows: np.ndarray
    ) -> tuple[float, float]:
        units = len(mean) + sum(self.config.layers or [])
        return independent_log_p(mean, rows.mean(axis=0)), -HOPELESS * float(np.log(2)) * units

    def pictures(
        self, keys: Keys, structure: Structure, params: Params, rows: np.ndarray, whole: bool
    ) -> list[Image]:
        return looks.pictures(keys.pictures, structure, params, rows, self._has_p_star, whole)

    def distributions(
        self, keys: Keys, structure: Structure, params: Params, rows: np.ndarray, whole: bool
    ) -> Distributions:
        K, star = self.config.eval.K, self._has_p_star
        return looks.distributions(keys.pictures, structure, params, rows, K, star, whole)

    def densities(
        self,
        keys: Keys,
        structure: Structure,
        params: Params,
        rows: Callable[[str], np.ndarray],
        splits: Sequence[str],
        samples: int,
        report: Report,
    ) -> dict[str, dict[str, Any]]:
        """From means of p(x | h_1) with h_1 ~ p, for BiHM as well: p* has no such means."""
        if not isinstance(bind(structure, params).p[0], Factorised):
            raise ConfigError(
                "the Parzen estimate needs means of pixels given h_1, which only a first p.layer of type "
                "sbn or dsbn has"
            )
        height, means = min(samples, MEANS_AT_ONCE), []
        for first in range(0, samples, height):
            key = jax.random.fold_in(keys.test, first)
            means.append(np.asarray(_means(key, structure, params, n=height)))
            report(len(means), -(-samples // height))
        sources = {"parzen": np.concatenate(means)[:samples]}
        return density_blocks(sources, rows, splits, samples, report)

    def settle(self, options: Options, completing: bool) -> Options:
        return settle(options, self.config, completing)

    def draw(
        self,
        structure: Structure,
        params: Params,
        options: Options,
        given: sampler.Incomplete | None,
        report: Report,
    ) -> sampler.Drawn:
        return sampler.draw(self.config, structure, params, options, given, report)

    @property
    def _has_p_star(self) -> bool:
        return has_p_star(self.config.model.name)


def fixed_bits(rows: np.ndarray, split: str) -> np.ndarray:
    """Grey levels as bits that are drawn once and for all, from a fixed key."""
    key = jax.random.fold_in(root_key(0), SPLITS.index(split))
    return np.asarray(binarise(key, jnp.asarray(rows), grey=True), np.uint8)


def _layer_specs(side: SideConfig, name: str, entries: int) -> list[LayerSpec]:
    hidden = side.hidden if side.hidden is None or isinstance(side.hidden, list) else [side.hidden]
    options = {option: getattr(side, option) for option in SIDE_OPTIONS}
    options["hidden"] = None if hidden is None else tuple(hidden)
    return [LayerSpec(kind, **options) for kind in layer_types(side.layer, name, entries)]


@partial(fast_jit, static_argnames=("structure", "n"))
def _means(key: PRNGKey, structure: Structure, params: Params, *, n: int) -> Array:
    machine = bind(structure, params)
    _, h = machine.sample_p(key, n)
    bottom = machine.p[0]
    assert isinstance(bottom, Factorised)
    return jax.nn.sigmoid(bottom.logits(h[0]))
