"""The machines that are measured, and the time there is for it."""

import contextlib
import time
from collections.abc import Iterator

# Words for bihm-train. mnist: the published machine of 12 layers; mushrooms: one whose layers are small.
MACHINES = {
    "mnist": ["dataset=binarized_mnist"],
    "mushrooms": ["dataset=mushrooms", "layers=[150,100,90,60,40,20]", "batch_size=25"],
    "small": ["dataset=bars", "layers=[4,3]", "batch_size=50", "K=3"],
}


class Deadline:
    """Whether there is time for another measurement, going by the longest so far."""

    def __init__(self, seconds: float):
        self.end = time.monotonic() + seconds
        self.longest = 0.0

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    def allows_another(self) -> bool:
        return self.left > 1.2 * self.longest

    @contextlib.contextmanager
    def measuring(self) -> Iterator[None]:
        """Note how long what is within takes."""
        started = time.monotonic()
        yield
        self.longest = max(self.longest, time.monotonic() - started)
