"""From a configuration to the pieces of a run: dataset, machine, optimiser, plan and keys."""

import math
import os
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from bihm import paths
from bihm.config import Config, PhaseConfig
from bihm.config.machine_checks import check_machine
from bihm.data import Dataset, load
from bihm.errors import ConfigError
from bihm.kernels.noise import root_key
from bihm.kernels.numerics import on_device
from bihm.kernels.spread import replicate
from bihm.machine.family import Family, Keys
from bihm.machine.layer_sizes import layer_sizes
from bihm.machine.machine import Params, Structure, split
from bihm.machine.minibatches import ChunkPlan, plan_epoch
from bihm.machine.optimizer import Optimizer, make_optimizer
from bihm.machine.training_step import TrainState, init_state
from bihm.run.families.choice import family_of
from bihm.run.training.devices import check_even, chosen_mesh
from bihm.run.training.limits import check_steps
from bihm.types import Array, Float

MOST_WEIGHTS = 10**9  # larger ones are typing errors, and would fill the memory before they fail
LONGEST_CHUNK = 100  # steps between two looks at the clock and at signals


class Run(NamedTuple):
    """All that a run is made of, before its first step."""

    config: Config
    family: Family
    dataset: Dataset
    structure: Structure
    params: Params
    optimizer: Optimizer
    plan: ChunkPlan
    keys: Keys
    eval_every: int  # epochs between two validation estimates
    mesh: Mesh | None = None  # the devices that share a batch; None: one

    @property
    def score(self) -> str:
        """The estimate that early stopping watches."""
        return self.family.score

    @property
    def devices(self) -> int:
        """How many devices share a batch."""
        return 1 if self.mesh is None else self.mesh.size

    def on_devices(self, tree: Any) -> Any:
        """Arrays where the training step has them: copies on each device, if there are several."""
        return replicate(tree, self.mesh)

    def fixed_rows(self, split_name: str) -> np.ndarray:
        """The rows of a split as every estimate sees them."""
        return fixed_rows(self.family, self.dataset, split_name)


def read_dataset(config: Config) -> Dataset:
    """Load the run's dataset and fill in what the configuration could not know before it.

    Raises:
        DataError: the data are missing or damaged.
        ConfigError: the configuration does not fit them.
    """
    if config.dataset.path is not None:  # a run is read again, and from elsewhere
        config.dataset.path = os.path.abspath(paths.expand(config.dataset.path))
    dataset = load(config.dataset.name, config.dataset.path)
    width = config.dataset.n_features
    if width is not None and width != dataset.n_features:
        raise ConfigError(
            f"dataset.n_features={width} but {config.dataset.name} has {dataset.n_features} features"
        )
    config.dataset.n_features = dataset.n_features
    shape = config.dataset.image_shape
    if shape is not None and math.prod(shape) != dataset.n_features:
        raise ConfigError(
            f"dataset.image_shape={shape} does not fit the {dataset.n_features} features of "
            f"{config.dataset.name}"
        )
    if config.dataset.path is not None and shape is not None:
        dataset = dataset._replace(image_shape=(shape[0], shape[1]))
    elif shape is not None and tuple(shape) != dataset.image_shape:
        right = "null" if dataset.image_shape is None else list(dataset.image_shape)
        raise ConfigError(
            f"dataset.image_shape={shape} but that of {config.dataset.name} is {right}"
        )
    if config.layers is None:
        config.layers = layer_sizes(config.depth, dataset.n_features)
    _check_size(config.layers, dataset.n_features)
    rows = len(dataset.train)
    if config.batch_size > rows:
        raise ConfigError(
            f"batch_size={config.batch_size} is larger than the {rows} training rows of "
            f"{config.dataset.name}"
        )
    return dataset


def _check_size(layers: list[int], n_features: int) -> None:
    weights = 2 * sum(a * b for a, b in pairwise([n_features, *layers]))  # of p and of q
    if weights > MOST_WEIGHTS:
        raise ConfigError(
            f"layers={layers} on {n_features} features make {weights:.1e} weights; "
            f"the most is {MOST_WEIGHTS:.0e}"
        )


def make_parts(
    config: Config, visible_mean: Float[Array, " visible"] | None = None
) -> tuple[Structure, Params, Optimizer]:
    """Build machine and optimiser; for a finished run these are the shapes of its checkpoints.

    Raises:
        ConfigError: there is no such rule or layer, or an option makes no sense with it.
    """
    check_machine(config)
    structure, params = split(family_of(config).machine(visible_mean))
    optim = config.optim
    optimizer = make_optimizer(
        optim.name,
        clip=optim.clip,
        penalised=bool(optim.l1 or optim.l2),
        average=optim.average,
    )
    return structure, params, optimizer


def make_run(config: Config) -> Run:
    """Build the pieces of a run; the same configuration builds the same ones."""
    dataset = read_dataset(config)
    mesh = chosen_mesh(config.devices)
    check_even(config, mesh)
    mean = None
    if config.init["visible_bias"] == "data":
        mean = on_device(dataset.train_mean)
    structure, params, optimizer = make_parts(config, mean)
    plan = plan_epoch(len(dataset.train), config.batch_size, LONGEST_CHUNK)
    check_steps(sum(phase.epochs for phase in phases(config)), plan.steps_per_epoch)
    family = family_of(config)
    family.check_draws([phase.K for phase in phases(config)])
    every = config.eval.every or _evaluation_period(config, dataset, plan)
    keys = make_keys(config.seed)
    return Run(config, family, dataset, structure, params, optimizer, plan, keys, every, mesh)


def make_keys(seed: int) -> Keys:
    """Derive the streams of a run from its seed."""
    keys: Keys = _split_seed(np.uint32(seed))
    return keys


@jax.jit
def _split_seed(seed: Array) -> Keys:
    return Keys(*jax.random.split(root_key(seed), len(Keys._fields)))


def _evaluation_period(config: Config, dataset: Dataset, plan: ChunkPlan) -> int:
    """Epochs between evaluations so that these cost about 2 % of the time of training.

    Patience is counted in epochs, so it still gets two evaluations at least, in each phase.
    """
    every, family = phases(config), family_of(config)
    evaluation = family.estimate_cost(len(dataset.valid))
    cost = min(family.step_cost(phase.K) for phase in every)
    training = plan.steps_per_epoch * config.batch_size * cost
    period = math.ceil(evaluation / (0.02 * training))
    longest = max(phase.epochs for phase in every)
    patience = [phase.patience // 2 for phase in every if phase.patience is not None]
    return max(1, min(period, longest, *patience))


def first_state(run: Run) -> TrainState:
    """The state before the first step."""
    return init_state(run.params, run.optimizer)


def saved_like(config: Config) -> tuple[Structure, TrainState]:
    """The structure of a run's machine, and a state with the shapes of its checkpoints."""
    structure, params, optimizer = make_parts(config)
    return structure, init_state(params, optimizer)


class Phase(NamedTuple):
    """A part of a run with its own samples, rate and limits: a `PhaseConfig` with every null filled in."""

    K: int
    lr: float
    lr_end: float
    epochs: int
    patience: int | None  # None: never stop early


def phases(config: Config) -> list[Phase]:
    """The phases of a run; a run without phases is one phase."""
    optim = config.optim

    def filled(phase: PhaseConfig) -> Phase:
        lr = optim.lr if phase.lr is None else phase.lr
        lr_end = optim.lr_end if phase.lr_end is None else phase.lr_end
        return Phase(
            K=config.K if phase.K is None else phase.K,
            lr=lr,
            lr_end=lr if optim.schedule == "constant" else lr_end,
            epochs=config.epochs if phase.epochs is None else phase.epochs,
            patience=config.stop.patience if phase.patience is None else phase.patience,
        )

    return [filled(phase) for phase in optim.phases or [PhaseConfig()]]


def fixed_rows(family: Family, dataset: Dataset, split_name: str) -> np.ndarray:
    """The rows of a split as every estimate of this family sees them."""
    return family.fixed_rows(getattr(dataset, split_name), split_name, dataset.grey)
