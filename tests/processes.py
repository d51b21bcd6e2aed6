"""What processes of a test cost, which a busy machine must not change."""

import resource


def processor_seconds() -> float:
    """Of all processes that this one has started and waited for, until now."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
