"""Bidirectional Helmholtz machines, reweighted wake-sleep and wake-sleep, in JAX."""

__version__ = "0.1.0"
