"""A trained machine, for Python and for the commands: likelihoods, samples, completions, posteriors."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bihm.config import Config
from bihm.machine.family import Report, silent
from bihm.machine.likelihood import Estimates, LogZ
from bihm.machine.machine import Params, Structure, bind, count_parameters
from bihm.machine.missing import check_factorised
from bihm.machine.rules import has_p_star
from bihm.run import arguments
from bihm.run.build import fixed_rows, make_keys
from bihm.run.estimates.given import Given, given_of, seen_estimates
from bihm.run.estimates.parzen import MOST_MEANS, split_density
from bihm.run.estimates.posterior import Posterior, weighted_latents
from bihm.run.estimates.splits import estimate_split, final_log_z, own_block
from bihm.run.families.choice import family_of
from bihm.run.samples import sampler
from bihm.run.samples.masks import ImageLayout, MaskLike, layout_of, observed_of
from bihm.run.samples.sampling_options import MOST, Options
from bihm.run.training.own_rows import own_dataset


class TrainedMachine:
    """The best state of a run: what `bihm.load` returns.

    config       the run's configuration: config.layers, config.model.name, ...
    n_visible    units of the data layer; rows given to the methods have that many
    parameters   how many numbers training could move
    structure, params    the machine for functions of `bihm.machine`, which take the two together

    Rows `x` are 0/1 arrays (rows, visible), of target propagation numbers in [0, 1], of any type that
    numpy.asarray understands. Results are numpy arrays; log-probabilities are in nats, one value a row.
    Every method raises BihmError, with a message of one line, where what it was given makes no sense.

    The commands use these methods: the same rows, K and seed give the numbers of bihm-eval and the samples
    of bihm-sample, bit for bit. The random numbers of a row depend on its place among the rows given.
    """

    def __init__(self, config: Config, structure: Structure, params: Params, stem: str) -> None:
        self.config = config
        self.family = family_of(config)
        self.structure = structure
        self.params = params  # those that estimates are made of
        self.stem = stem  # path and beginning of the name of every file that is made of it
        self.exported_rows: str | None = None  # of a weights file: a digest of the rows it is of
        self._log_z: dict[int, LogZ] = {}

    def __repr__(self) -> str:
        sizes = "-".join(map(str, [self.n_visible, *(self.config.layers or [])]))
        return f"<{self.config.model.name} on {self.config.dataset.name}: {sizes}>"

    @property
    def n_visible(self) -> int:
        """Units of the data layer."""
        return int(self.config.dataset.n_features or 0)

    @property
    def parameters(self) -> int:
        """How many numbers of p and q training could move."""
        return count_parameters(self.params)

    @property
    def layout(self) -> ImageLayout | None:
        """How a row is an image; None where the data are no images, or nobody said so."""
        return layout_of(self.config)

    def rows(self, split: str = "test") -> np.ndarray:
        """The rows of a split of the run's own data, uint8 (rows, visible).

        Grey levels are made bits once and for all, as for every estimate; target propagation keeps them, as
        float32 in [0, 1].
        """
        dataset = own_dataset(self.config, self.stem, self.exported_rows)
        return fixed_rows(self.family, dataset, arguments.check_split(split))

    def estimates(
        self,
        x: ArrayLike,
        K: int = 1000,
        *,
        seed: int | None = None,
        split: str = "test",
        report: Report = silent,
    ) -> Estimates:
        """All estimates of every row at once, from K samples h ~ q(h | x); each field is (rows,), float64.

        log_p               log (1/K) sum_k w_k, with w = p(x, h) / q(h | x)
        log_p_tilde_star    2 log (1/K) sum_k sqrt(w_k)
        ess_p, ess_p_star   effective sample sizes of w and of sqrt(w), as fractions of K, in (0, 1]
        k_hat_p, k_hat_p_star    tails of w and of sqrt(w): above 0.7, do not believe it; NaN below K = 21

        `seed` is by default the run's own, and `split` says which of its streams of random numbers is used:
        with the defaults, the run's test rows and its eval.final_K, these are the numbers of its results.
        `report(done, total)` is told of progress. Memory does not grow with K.
        """
        arguments.need_likelihood(self.family, self.config.model.name)
        rows = self._rows(x)
        samples = arguments.whole("K", K, 1, arguments.MOST_SAMPLES)
        key = getattr(make_keys(self._seed(seed)), arguments.check_split(split))
        parts = (key, self.structure, self.params, rows, samples)
        estimates = estimate_split(*parts, block=own_block(self.config, samples), report=report)
        return Estimates(*(np.asarray(values, np.float64) for values in estimates))

    def log_p(
        self, x: ArrayLike, K: int = 1000, *, seed: int | None = None, split: str = "test"
    ) -> np.ndarray:
        """log p(x) of every row, (rows,), nats: log (1/K) sum_k w_k; in the mean a lower bound."""
        return np.asarray(self.estimates(x, K, seed=seed, split=split).log_p)

    def log_p_tilde_star(
        self, x: ArrayLike, K: int = 1000, *, seed: int | None = None, split: str = "test"
    ) -> np.ndarray:
        """log p~*(x) of every row, (rows,), nats: 2 log (1/K) sum_k sqrt(w_k); for model=bihm alone."""
        arguments.need_p_star("log_p_tilde_star", self.family, self.config.model.name)
        return np.asarray(self.estimates(x, K, seed=seed, split=split).log_p_tilde_star)

    def log_p_star(
        self, x: ArrayLike, K: int = 1000, *, seed: int | None = None, split: str = "test"
    ) -> np.ndarray:
        """log p*(x) = log p~*(x) - 2 log Z of every row, (rows,), nats; for model=bihm alone.

        2 log Z is estimated once for each seed and kept: see `two_log_z`, which also has its error.
        """
        arguments.need_p_star("log_p_star", self.family, self.config.model.name)
        return self.log_p_tilde_star(x, K, seed=seed, split=split) - self.two_log_z(seed=seed).mean

    def two_log_z(self, *, seed: int | None = None, report: Report = silent) -> LogZ:
        """2 log Z of BiHM, with its standard error (nats) and the numbers of samples; estimated once."""
        arguments.need_p_star("two_log_z", self.family, self.config.model.name)
        chosen = self._seed(seed)
        if chosen not in self._log_z:
            log_z = final_log_z(self.config, make_keys(chosen), self.structure, self.params, report)
            assert log_z is not None
            self._log_z[chosen] = log_z
        return self._log_z[chosen]

    def ess(
        self, x: ArrayLike, K: int = 1000, *, seed: int | None = None, split: str = "test"
    ) -> np.ndarray:
        """Effective sample size of every row, as a fraction of K, (rows,): how well q fits the run's model.

        (sum_k v_k)^2 / (K sum_k v_k^2) with v = w, or for model=bihm v = sqrt(w), since its model is p*.
        """
        found = self.estimates(x, K, seed=seed, split=split)
        return np.asarray(found.ess_p_star if has_p_star(self.config.model.name) else found.ess_p)

    def sample(
        self,
        n: int = 100,
        method: str | None = None,
        *,
        seed: int = 0,
        sweeps: int | None = None,
        K: int | None = None,
        proposals: int | None = None,
    ) -> np.ndarray:
        """Draw n samples x, uint8 (n, visible); of target propagation float32 means in [0, 1].

        method="ancestral"   of p, from the top down: exact and independent (the default)
               "generate"    of target propagation (its default); its "chain" is its denoiser's, 100 sweeps
               "resample"    of BiHM's p*: `proposals` (10,000) weighted samples of p, drawn again
               "chain"       of BiHM's p*: n Markov chains of `sweeps` (500) with K (10) proposals for h
               "layerwise"   of BiHM: its authors' scheme, an approximation however many `sweeps` there are
        """
        options = Options(arguments.whole("n", n, 1, MOST), method, seed, sweeps, K, proposals)
        settled = self.family.settle(options, completing=False)
        return np.asarray(self.family.draw(self.structure, self.params, settled, None, silent).x)

    def complete(
        self,
        x: ArrayLike,
        mask: MaskLike,
        *,
        method: str | None = None,
        seed: int = 0,
        sweeps: int | None = None,
        K: int | None = None,
    ) -> np.ndarray:
        """Draw what is missing of every row, given what is observed; an array as `sample` gives.

        By the run's own model: p(missing x | observed x), or for model=bihm the same of p*.

        `mask` is true, or 1, where a pixel is observed and stays: (visible,), or (rows, visible). It may
        also be "left", "right", "top" or "bottom", the observed half of an image, or the name of a file.
        What stands in the missing places of `x` does not matter. `sweeps` (500; target propagation: 20)
        and K (10) are those of a Markov chain for each row. method="best" gives the most probable one found
        in `sweeps`, by estimates from K (100) samples; "layerwise" is the one of `sample`.
        """
        known = arguments.numbers(x, "x")
        observed = self.observed(mask, len(known) if known.ndim else 0)
        if known.shape[-1:] == observed.shape[-1:]:
            known = np.where(observed, known, 0)
        rows = self._rows(known)
        options = Options(len(rows), method, seed, sweeps, K)
        settled = self.family.settle(options, completing=True)
        given = sampler.Incomplete(rows, observed)
        return np.asarray(self.family.draw(self.structure, self.params, settled, given, silent).x)

    def observed(self, mask: MaskLike, rows: int, key: str = "mask") -> np.ndarray:
        """What a `mask` says, as bool (visible,) or (rows, visible): true where a pixel is observed."""
        return observed_of(mask, rows, self.n_visible, self.layout, key)

    def given(
        self,
        x: ArrayLike,
        mask: MaskLike | None = None,
        K: int = 1000,
        *,
        seed: int | None = None,
        split: str = "test",
        report: Report = silent,
    ) -> Given:
        """log p of the seen part of every row, and of the missing part given it: see `Given`; nats.

        `mask` is that of `complete`, with the numbers of bihm-eval given=MASK. Without it NaN in `x` is
        what is missing, and log_p_missing is None: the numbers are those of rows that lack values.
        """
        arguments.need_likelihood(self.family, self.config.model.name)
        check_factorised(bind(self.structure, self.params))  # before the work on whole rows
        known = arguments.numbers(x, "x")
        seen = known == known if mask is None else self.observed(mask, len(np.atleast_1d(known)))
        rows = self._rows(known if mask is not None else np.where(seen, known, 0))
        every = None if mask is None else self.estimates(rows, K, seed=seed, split=split)
        samples = arguments.whole("K", K, 1, arguments.MOST_SAMPLES)
        arguments.check_split(split)  # of the streams of random numbers, that of whole rows
        parts = (self.config, self.structure, self.params, rows, seen, samples)
        return given_of(every, seen_estimates(*parts, seed=self._seed(seed), report=report))

    def parzen(self, split: str = "test", samples: int = 10_000) -> dict[str, Any]:
        """The Parzen-window estimate of a split of the run's own data: nats of a density of real numbers.

        That of bihm-eval parzen=true: from so many means of pixels, and from training rows, the anchor.
        """
        dataset = own_dataset(self.config, self.stem, self.exported_rows)
        samples = arguments.whole("samples", samples, 1, MOST_MEANS)
        parts = (self.family, make_keys(self.config.seed), self.structure, self.params, dataset)
        return split_density(*parts, arguments.check_split(split), samples, silent)

    def posterior(self, x: ArrayLike, K: int = 100, *, seed: int | None = None) -> Posterior:
        """K latents of every row with weights: a weighted sample of the posterior, see `Posterior`.

        h^k ~ q(h | x); their weights over k are proportional to w = p(x, h) / q(h | x), which makes them
        samples of p(h | x), or for model=bihm to sqrt(w), which makes them samples of p*(h | x). Memory
        grows with K times rows times units. `seed` is by default the run's own.
        """
        arguments.need_likelihood(self.family, self.config.model.name)
        rows, samples = self._rows(x), arguments.whole("K", K, 1, MOST)
        key = make_keys(self._seed(seed)).test
        power = 0.5 if has_p_star(self.config.model.name) else 1.0
        return weighted_latents(key, self.structure, self.params, rows, samples, power)

    def _seed(self, seed: int | None) -> int:
        return self.config.seed if seed is None else arguments.check_seed(seed)

    def _rows(self, x: ArrayLike) -> np.ndarray:
        return arguments.rows_of(x, self.family, self.n_visible)
