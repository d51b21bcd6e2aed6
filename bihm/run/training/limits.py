"""Sizes of a run that no step could take, refused before anything is written."""

from collections.abc import Sequence

from bihm.config import Config
from bihm.errors import ConfigError
from bihm.kernels.noise import COUNTERS

MOST_STEPS = 2**31  # a step is counted in 32 bits


def check_steps(epochs: int, per_epoch: int) -> None:
    """Refuse more steps than are counted; ConfigError."""
    steps = epochs * per_epoch
    if steps >= MOST_STEPS:
        raise ConfigError(
            f"{epochs} epochs of {per_epoch} steps each make {steps:.1e} steps in "
            "all; they must be below 2**31: max_seconds ends a run by time"
        )


def check_draws(config: Config, K: Sequence[int]) -> None:
    """Refuse steps of a Helmholtz machine that need more random numbers than a key has; ConfigError."""
    assert config.layers is not None
    assert config.dataset.n_features is not None
    latents, dreams = sum(config.layers), config.model.sleep_batch_size
    most = COUNTERS // (config.batch_size * latents)
    for samples in K:
        if samples > most:
            raise ConfigError(
                f"K={samples} samples for each of batch_size={config.batch_size} rows need more than "
                f"2**32 random numbers a step; lower K, to {most} at most, or batch_size"
            )
    most = COUNTERS // (config.dataset.n_features + latents)
    if dreams is not None and dreams > most:
        raise ConfigError(
            f"model.sleep_batch_size={dreams} needs more than 2**32 random numbers a step; "
            f"the most is {most}"
        )
