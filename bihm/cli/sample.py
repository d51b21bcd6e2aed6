"""`bihm-sample`: samples of a run, and completions of partly observed data."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bihm.cli import exit_codes
from bihm.cli.keyvalue import parse
from bihm.records.progress import count_parts
from bihm.records.run_files import require_run

PROGRAM = "bihm-sample"
USAGE = """usage: bihm-sample run=DIR [n=100] [method=ancestral|resample|chain|layerwise|generate|best]
                   [mask=...] [seed=0] [gif=true] [out=FILE]

Draws samples from the best state of a run and writes samples-<method>.npz (x: 0/1, one row a sample)
into the run directory, with a picture samples-<method>.png where the data are images.

  run=DIR            a run directory of bihm-train
  n=100              how many samples
  seed=0             the same seed draws the same samples
  out=FILE           where to, a .npz, or in which folder; a picture goes beside it
  method=ancestral   p, from the top down: exact and independent; for every model
        =resample    p* of BiHM: weighted samples of p, drawn again by their weights (approximate)
        =chain       p* of BiHM: one Markov chain for each sample
        =layerwise   the scheme of BiHM's authors: one layer after another, given those beside it. It is
                     approximate however long: its x are those of sqrt(p*), more diverse than samples of p*
        =generate    model=targetprop (its default): from the top down, refined by inference; its samples
                     are means of pixels in [0, 1], also of ancestral and chain (its denoiser's, sweeps=100)
  proposals=10000    resample: how many weighted samples to draw from
  sweeps=500         chain, layerwise: updates of x and h; more bring it nearer to its target
  K=10               chain: proposals for h in each sweep, the present one among them, and for x where
                     p(x | h_1) is of type darn or nade; layerwise: for each layer
  gif=true           chain, layerwise: also an animated .gif of its start and up to 100 states, where the
                     data are images

What it prints of how the sampler did:

  acceptance         chain, layerwise: how often a proposal for x was taken; near 0 the chains hardly
                     moved: more sweeps, or a larger K
  ess                how even the weights are, 100 % where all are equal: resample: of the proposals, of
                     which ess times proposals count; chain: of the K proposals for h;
                     layerwise: of those for a layer
  distinct           resample: how many of the samples differ from each other

Inpainting: complete rows of the data, of which some pixels are observed, by the model's p, or its p* if
it is BiHM. It uses the chain, for every model and every type of layer (or method=layerwise, its own
approximation), and writes samples-inpaint.npz (x:
the completed rows, data: the rows themselves, observed: 0/1 for each pixel) and a picture whose tiles
show the row, what is observed of it (grey: missing), and its completion. For model=targetprop each of 20
sweeps infers the latents of what is there and rebuilds what is missing.

  mask=left          the half that is observed and stays: left, right, top or bottom; or
  mask=FILE          a .npy, .npz, .mat or text table with a 0/1 for each pixel, 1 where it is observed
  split=test         whose rows: train, valid or test; n of them, in an order drawn from the seed
  method=best        instead of a random completion, the most probable one that a search finds: written to
                     samples-best.npz, with `score`, its estimated log p, or log p~* of BiHM. Candidates are
                     the chain's states, every 5 of sweeps=500, and their roundings, each weighed by K=100
                     samples of q; more of both find better ones
"""


@dataclass
class Command:
    """The arguments of `bihm-sample`; those that are None have a default that depends on the method."""

    run: str
    n: int = 100
    method: Literal["ancestral", "resample", "chain", "layerwise", "generate", "best"] | None = None
    seed: int = 0
    sweeps: int | None = None
    K: int | None = None
    proposals: int | None = None
    gif: bool = False
    mask: str | None = None
    split: Literal["train", "valid", "test"] | None = None
    out: str | None = None


def main(argv: list[str] | None = None) -> None:
    """The console script."""
    logging.basicConfig(format=f"{PROGRAM}: %(message)s")
    with exit_codes.command(PROGRAM, "lower n, K or proposals"):
        command = parse(argv, Command, PROGRAM, USAGE)
        require_run(Path(command.run))
        from bihm.runtime import configure_jax  # jax takes a second to import

        configure_jax()
        from bihm.run.sample import sample
        from bihm.run.samples.sampling_options import Options

        options = vars(command) | {"gif": command.gif or None}
        directory, mask, split, out = (options.pop(key) for key in ("run", "mask", "split", "out"))
        saved = sample(Path(directory), Options(**options), mask, split, out, count_parts)
        for path in saved.files:
            print(path)
        if saved.facts:
            print("  ".join(f"{name} {100 * v:.1f} %" for name, v in saved.facts.items()))


if __name__ == "__main__":
    main()
