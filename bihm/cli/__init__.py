"""The entry points: the command line in, an exit code out; no logic."""
