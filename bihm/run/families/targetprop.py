"""The family of iterative target propagation: what `model=targetprop` trains, estimates and draws."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from bihm.config import Config
from bihm.config.families import options_of
from bihm.errors import DataError
from bihm.kernels.noise import root_key
from bihm.kernels.spread import local, mesh_of, replicate
from bihm.machine.family import Distributions, Image, Keys, Limit, Report, Rule, silent
from bihm.machine.machine import Params, Structure
from bihm.machine.parzen import SIGMA_ROWS, choose_sigma
from bihm.machine.targetprop.machine import Inference, TargetPropMachine, paper_units
from bihm.machine.targetprop.training import Noise, targetprop
from bihm.run.estimates.parzen import density_blocks, levels, path_block
from bihm.run.families import targetprop_tiles as tiles
from bihm.run.families.looks import beside
from bihm.run.samples import sampler
from bihm.run.samples.sampling_options import Options, settle_means
from bihm.types import AnyArray, Array, Float, PRNGKey, Rows

RUNAWAY = 100.0  # mean over units of (h_l - g_{l+1}(h_{l+1}))^2; at the start it is below 1
SHOWN, COMPLETED = 64, 32
CHAIN_SWEEPS, INPAINT_SWEEPS = 100, 20


@cache  # as `make_rule`
def _loss(inference: Inference, noise: Noise) -> Rule:
    return partial(targetprop, inference=inference, noise=noise)


class TargetProp:
    """Real-valued layers with local errors; see `bihm.machine.family.Family` for what each member is."""

    score = "parzen"
    has_likelihood = False
    limits: ClassVar[Mapping[str, Limit]] = {}

    def __init__(self, config: Config) -> None:
        self.config = config
        options = options_of(config.model)
        self.weights = options["weights"]
        self.inference = Inference(*(options[k] for k in ("N", "delta", "alpha", "langevin")))
        self.sampling = Inference(*(options[f"sample_{k}"] for k in ("N", "delta", "alpha")))
        self.noise = Noise(options["noise_x"], options["noise_h"], options["spikes"])
        self.rounds, self.variance = options["rounds"], options["top_variance"]
        hidden = sum((config.layers or [])[:-1])
        if hidden:
            self.limits = {  # type: ignore[misc]
                "mismatch": Limit(
                    RUNAWAY * hidden, "the targets run away from what the layers above rebuild"
                )
            }

    def describe(self, K: Sequence[int]) -> str:
        del K
        how = self.inference
        return f"N={how.N}, delta={how.delta:g}, alpha={how.alpha:g}"

    @property
    def final_words(self) -> str:
        return f", {self.config.eval.final_parzen_samples} samples,"

    def check_draws(self, K: Sequence[int]) -> None:
        del K  # which it does not draw

    def machine(self, visible_mean: AnyArray | None) -> TargetPropMachine:
        del visible_mean
        config = self.config
        assert config.layers is not None
        assert config.dataset.n_features is not None
        rng = np.random.default_rng(config.seed)
        units = paper_units(len(config.layers))
        features = config.dataset.n_features
        return TargetPropMachine(rng, features, config.layers, units, self.weights)

    def rule(self, K: int, steps_per_epoch: int) -> Rule:
        del K, steps_per_epoch
        return _loss(self.inference, self.noise)

    @staticmethod
    def see(key: PRNGKey, rows: Rows, grey: bool) -> Float[Array, "rows visible"]:
        del key
        return rows.astype(jnp.float32) / (255 if grey else 1)

    def fixed_rows(self, rows: np.ndarray, split: str, grey: bool) -> np.ndarray:
        del split
        return levels(rows, grey)

    def check(self, rows: np.ndarray, name: str) -> np.ndarray:
        if rows.ndim != 2:
            raise DataError(f"{name} has shape {rows.shape}; needed is (rows, visible)")
        if not ((rows >= 0) & (rows <= 1)).all():
            raise DataError(f"{name} must hold numbers from 0 to 1")
        return rows.astype(np.float32)

    def fit(
        self, structure: Structure, params: Params, rows: AnyArray, grey: bool, report: Report
    ) -> Params:
        """Set the top's mean and variance from the inferred h_L of training rows."""
        how = self.inference._replace(langevin=0.0)
        fitted = tiles.fit_top(structure, local(params), rows, grey, how, report)
        return replicate(fitted, mesh_of(params))

    def step_cost(self, K: int) -> float:
        del K
        return float(self.inference.N + 3)

    def estimate_cost(self, rows: int) -> float:
        samples = self.config.eval.parzen_samples * (self.rounds * (self.sampling.N + 1) + 1)
        return float(
            tiles.FIT_ROWS * (self.inference.N + 1) + rows * (self.sampling.N + 1) + samples
        )

    def estimate(
        self, keys: Keys, structure: Structure, params: Params, rows: np.ndarray, report: Report
    ) -> dict[str, float]:
        """The Parzen estimate on the rows that choose sigma, log p(x, h) along inference, and errors."""
        count, params = self.config.eval.parzen_samples, local(params)
        samples = self._draw(keys.valid, structure, params, count, self.rounds, report)
        sigma, mean = choose_sigma(rows[:SIGMA_ROWS], samples, report)
        path = tiles.path(structure, params, rows, self.sampling, report).mean(axis=2)
        scalars = {"valid/parzen": mean, "valid/parzen_sigma": sigma}
        for i, error in enumerate(-2 * path[-1]):
            scalars[f"valid/reconstruction/{f'h{i}' if i else 'x'}"] = float(error)
        for i, value in enumerate(path.sum(axis=1)):
            scalars[f"valid/log_p_xh/step_{i:02d}"] = float(value)
        return scalars

    def results(
        self,
        keys: Keys,
        structure: Structure,
        params: Params,
        rows: Callable[[str], np.ndarray],
        report: Report,
    ) -> dict[str, dict[str, Any]]:
        samples = self.config.eval.final_parzen_samples
        return self.densities(keys, structure, params, rows, ("test", "valid"), samples, report)

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
        params = local(params)

        def drawn(rounds: int) -> np.ndarray:
            return self._draw(keys.test, structure, params, samples, rounds, report)

        sources = {"parzen": drawn(self.rounds), "parzen_directed": drawn(0)}
        blocks = density_blocks(sources, rows, splits, samples, report)
        for split in splits:
            terms = tiles.path(structure, params, rows(split), self.sampling, report)
            blocks[split] |= path_block(terms.sum(axis=1))
        return blocks

    def references(
        self, mean: Float[np.ndarray, " visible"], rows: np.ndarray
    ) -> tuple[float, float]:
        del mean, rows
        return -math.inf, -math.inf

    def pictures(
        self, keys: Keys, structure: Structure, params: Params, rows: np.ndarray, whole: bool
    ) -> list[Image]:
        """Samples by GENERATE and directed ones; if `whole` rows of which the first half was given, too."""
        key = keys.pictures
        images = [
            Image("samples/generate", self._draw(key, structure, params, SHOWN, self.rounds)),
            Image("samples/directed", self._draw(key, structure, params, SHOWN, 0)),
        ]
        if not whole:
            return images
        some = rows[:COMPLETED]
        observed = np.broadcast_to(np.arange(rows.shape[1]) < rows.shape[1] // 2, some.shape)
        filled = tiles.complete(
            key, structure, params, jnp.asarray(some), jnp.asarray(observed),
            how=self.sampling, sweeps=INPAINT_SWEEPS,
        )  # fmt: skip
        pairs = beside(some, np.asarray(filled))
        return [*images, Image("completions/first_half_given", pairs)]

    def distributions(
        self, keys: Keys, structure: Structure, params: Params, rows: np.ndarray, whole: bool
    ) -> Distributions:
        """log p(x, h) of rows after inference; its layers are estimated anyway."""
        del keys, whole
        path = tiles.path(structure, params, rows[: tiles.AT_ONCE], self.sampling, silent)
        return Distributions({"log_p_xh": path[-1].sum(axis=0)}, {})

    def _draw(
        self,
        key: PRNGKey,
        structure: Structure,
        params: Params,
        samples: int,
        rounds: int,
        report: Report = silent,
    ) -> np.ndarray:
        options = {"variance": self.variance, "rounds": rounds, "how": self.sampling}
        return tiles.generate(key, structure, params, samples, report, **options)

    def settle(self, options: Options, completing: bool) -> Options:
        return settle_means(options, completing)

    def draw(
        self,
        structure: Structure,
        params: Params,
        options: Options,
        given: sampler.Incomplete | None,
        report: Report,
    ) -> sampler.Drawn:
        key = root_key(options.seed)
        if given is not None:
            observed = np.broadcast_to(given.observed, given.rows.shape)
            filled = tiles.complete(
                key, structure, params, jnp.asarray(given.rows, jnp.float32), jnp.asarray(observed),
                how=self.sampling, sweeps=options.sweeps or INPAINT_SWEEPS,
            )  # fmt: skip
            return sampler.Drawn(np.asarray(filled), {})
        rounds = self.rounds if options.method == "generate" else 0
        x = self._draw(key, structure, params, options.n, rounds, report)
        if options.method == "chain":
            sweeps = options.sweeps or CHAIN_SWEEPS
            moved = tiles.chain(
                key, structure, params, jnp.asarray(x), noise=self.noise, sweeps=sweeps
            )
            x = np.asarray(moved)
        return sampler.Drawn(x, {})
