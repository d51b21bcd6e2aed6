"""The entry points: words and Hydra in, an exit code out; the work is done in `run`."""
