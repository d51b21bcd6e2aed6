"""The end of a multirun."""


def report_sweep() -> None:
    """Placeholder."""
