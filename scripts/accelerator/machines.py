"""What the parts share: their words, the machines that are measured, and the time there is for it."""

import argparse
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

BENCHMARK = str(Path(__file__).resolve().parents[1] / "benchmark")  # for sys.path: they call it

# Words for bihm-train. mnist: the published machine of 12 layers; mushrooms: one whose layers are small.
MACHINES = {
    "mnist": ["dataset=binarized_mnist"],
    "mushrooms": ["dataset=mushrooms", "layers=[150,100,90,60,40,20]", "batch_size=25"],
    "small": ["dataset=bars", "layers=[4,3]", "batch_size=50", "K=3"],
}


def words_of_a_part(doc: str | None) -> argparse.ArgumentParser:
    """A parser of the words that `run` starts each part with."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/accelerator"))
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--small", action="store_true", help="tiny machines: is it in order?")
    return parser


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
