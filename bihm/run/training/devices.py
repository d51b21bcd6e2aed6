"""The devices that a command was given, as a mesh; one device is none."""

import jax
from jax.sharding import Mesh

from bihm.config import Config
from bihm.errors import ConfigError
from bihm.kernels.spread import make_mesh


def chosen_mesh(devices: int | str) -> Mesh | None:
    """The mesh of "all" devices, or of so many of each process; None where that is a single one.

    Raises:
        ConfigError: there are not so many.
    """
    here = jax.local_devices()
    if devices != "all" and int(devices) > len(here):
        several = "one is" if len(here) == 1 else f"{len(here)} are"
        raise ConfigError(
            f"devices={devices}, but {several} here ({here[0].device_kind}); devices=all takes all"
        )
    chosen = [
        device
        for process in range(jax.process_count())
        for device in jax.local_devices(process)[: None if devices == "all" else int(devices)]
    ]
    return None if len(chosen) == 1 else make_mesh(chosen)


def check_even(config: Config, mesh: Mesh | None) -> None:
    """See that the rows of a batch, and those that a step dreams, make equal parts for all devices.

    Raises:
        ConfigError: they do not; one line with the next size that does.
    """
    parts = 1 if mesh is None else mesh.size
    sizes = {
        "batch_size": config.batch_size,
        "model.sleep_batch_size": config.model.sleep_batch_size or 0,
    }
    for name, size in sizes.items():
        if size % parts:
            above = -(-size // parts) * parts
            below = f" or {above - parts}" if above > parts else ""
            raise ConfigError(
                f"{name}={size} makes no equal parts for {parts} devices; {name}={above}{below} does"
            )
