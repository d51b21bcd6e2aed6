"""What people pass to the methods of a machine, checked: one line for what makes no sense."""

import operator
from typing import Any

import numpy as np

from bihm.data.catalogue import SPLITS
from bihm.errors import ConfigError, DataError
from bihm.machine.family import Family
from bihm.machine.rules import has_p_star

MOST_SAMPLES = 2**31 - 1  # of one row: what the machine counts with


def _index(name: str, value: Any) -> int:
    try:
        if isinstance(value, bool | np.bool_):  # which Python takes for 0 and 1
            raise TypeError(value)
        return operator.index(value)
    except TypeError as error:
        raise ConfigError(f"{name} must be a whole number, got {value!r}") from error


def whole(name: str, value: Any, least: int, most: int) -> int:
    """A whole number within its bounds.

    Raises:
        ConfigError: it is none, or beyond them.
    """
    number = _index(name, value)
    if number < least:
        raise ConfigError(f"{name} must be at least {least}, got {number}")
    if number > most:
        raise ConfigError(f"{name} must be at most {most}, got {number}")
    return number


def check_seed(seed: Any) -> int:
    """The seed, if it is one.

    Raises:
        ConfigError: it is no whole number, or does not fit into 32 bits.
    """
    number = _index("seed", seed)
    if not 0 <= number < 2**32:
        raise ConfigError(f"seed must lie in 0 .. 2**32 - 1, got {number}")
    return number


def check_split(split: Any) -> str:
    """The name of a split, if it is one; ConfigError."""
    if not isinstance(split, str) or split not in SPLITS:
        raise ConfigError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    return split


def numbers(x: Any, name: str) -> np.ndarray:
    """Whatever numpy can read as an array of numbers.

    Raises:
        DataError: it can not.
    """
    if np.ma.is_masked(x):  # numpy would take what lies under the mask
        raise DataError(
            f"{name} has masked entries; give NaN where complete() is to fill something in"
        )
    try:
        array = np.asarray(x)
        small = array.dtype.kind == "V" and array.dtype.names is None  # bfloat16, say
        if array.dtype == object or small:  # or columns of several types, as pandas has them
            array = array.astype(np.float64)
    except Exception as error:  # each library refuses in its own way
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{name} cannot be read as an array of numbers ({reason})") from error
    if array.dtype.kind not in "buif":
        raise DataError(f"{name} holds {array.dtype}, not numbers 0 and 1")
    return array


def need_likelihood(family: Family, model: str) -> None:
    """ConfigError for what needs a likelihood of bits, where the model has none."""
    if not family.has_likelihood:
        raise ConfigError(f"model={model} has no likelihood of bits; bihm-eval estimates a density")


def need_p_star(what: str, family: Family, model: str) -> None:
    """ConfigError for what belongs to p*, where the model is none."""
    need_likelihood(family, model)
    if not has_p_star(model):
        raise ConfigError(
            f"{what} belongs to model=bihm, whose model is p*; this run's model is {model}: see log_p"
        )


def rows_of(x: Any, family: Family, width: int) -> np.ndarray:
    """Rows (rows, width) as estimates see them.

    Raises:
        DataError: they are none, or of another width.
    """
    rows = numbers(x, "x")
    if rows.shape == (width,):
        raise DataError(f"x has shape {rows.shape}, as one row: give x[None]")
    bits = family.check(rows, "x")
    if bits.shape[1] != width:
        raise DataError(f"x has {bits.shape[1]} columns; this machine has {width} visible units")
    return bits
