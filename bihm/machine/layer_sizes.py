"""Layer sizes from a depth, as a rule that can be read off the configuration before anything runs."""

PAPER_SIZES = (300, 200, 100, 75, 50, 35, 30, 25, 20, 15, 10, 10)  # BiHM's binarized MNIST model
PAPER_VISIBLE = 784
SMALLEST = 10


def layer_sizes(depth: int, n_visible: int) -> list[int]:
    """Sizes of `depth` latent layers over `n_visible` units, data side first.

    The first `depth` sizes of the paper's model (10 beyond its twelfth), times sqrt(n_visible / 784),
    rounded, and never below 10: `layer_sizes(12, 784)` is the paper's model exactly, and a deeper
    machine is a shallower one with more on top.
    """
    paper = (PAPER_SIZES + (SMALLEST,) * depth)[:depth]
    scale = (n_visible / PAPER_VISIBLE) ** 0.5
    return [max(SMALLEST, round(size * scale)) for size in paper]
