"""A tour of bihm in Python, to be run as a script or cell by cell: `python scripts/tour.py [FOLDER]`.

It takes seconds. What it makes goes into a temporary folder that is removed at the end, or into FOLDER.
"""

# %% Where to put the runs
import sys
import tempfile
from pathlib import Path

import numpy as np

import bihm

temporary = None if sys.argv[1:] else tempfile.TemporaryDirectory()
outputs = Path(temporary.name if temporary else sys.argv[1])


def show(title: str, *images: np.ndarray) -> None:
    """Print 8 x 8 images side by side."""
    print(f"\n{title}")
    for lines in zip(*(image.reshape(8, 8) for image in images), strict=True):
        print("   ".join("".join("█" if bit else "·" for bit in line) for line in lines))


# %% Train two machines on 8 x 8 digits. The words are those of the command `bihm-train`.
words = [
    "dataset=digits",
    "layers=[40,20]",
    "epochs=150",
    "init.weights=glorot",
    "eval.final_K=100",
]
for rule in ("bihm", "rws"):
    run = bihm.train(*words, f"model={rule}", directory=outputs / rule)
    test = run.results["test"]
    print(f"{rule:5s} test log p {test['log_p']['mean']:.2f} +- {test['log_p']['sem']:.2f} nats")

# %% Load one of them again: from its directory, or from a file that `bihm-export` wrote.
machine = bihm.load(outputs / "bihm")
print(f"\n{machine}, {machine.parameters:,} parameters")

# %% The likelihood of every row. More samples K bring the estimate nearer to the truth, from below.
x = machine.rows("test")
for K in (1, 10, 100, 1000):
    print(f"K={K:<5d} mean log p {machine.log_p(x, K).mean():.2f}")

# %% BiHM's own model is p*, the geometric mean of p and q; 2 log Z makes its probabilities sum to one.
log_z = machine.two_log_z()
print(f"\nmean log p* {machine.log_p_star(x, K=1000).mean():.2f}, ", end="")
print(f"2 log Z {log_z.mean:.3f} +- {log_z.stderr:.3f}")
print(f"effective samples of q: {100 * machine.ess(x, K=1000).mean():.0f} % of K")

# %% A digit is more likely than noise, or than its negative.
noise = np.random.default_rng(0).integers(0, 2, (1, 64))
digit, negative, random = machine.log_p(np.concatenate([x[:1], 1 - x[:1], noise]))
print(f"\nlog p of a digit {digit:.1f}, of its negative {negative:.1f}, of noise {random:.1f}")

# %% Samples, of p and of p*.
show("samples of p", *machine.sample(6, seed=1))
show("samples of p*", *machine.sample(6, "resample", proposals=2000))

# %% Fill in what is missing: here the lower half of each digit.
upper = np.arange(64) < 32
completed = machine.complete(x[:6], upper, sweeps=100)
show("digits", *x[:6])
show("their upper halves", *np.where(upper, x[:6], 0))
show("completed", *completed)

# %% What the machine sees in a digit: latents with weights. Here the mean of the top layer's first units.
h, weights, _ = machine.posterior(x[:3], K=200)
means = (weights[..., None] * h[-1]).sum(axis=0)
print("\nposterior means of five units of the top layer, one row a digit")
print(np.array2string(means[:, :5], precision=2, suppress_small=True))

# %% All runs below a folder, side by side; pandas.DataFrame(rows) makes a table of them.
print(f"\n{'model':6s} {'status':9s} {'test log p':>10s} {'seconds':>8s}")
for row in bihm.results(outputs):
    print(f"{row['model.name']:6s} {row['status']:9s} ", end="")
    print(f"{row['test.log_p']:10.2f} {row['train.seconds']:8.1f}")

# %% What goes wrong is told in one line.
try:
    bihm.train("dpeth=3", directory=outputs / "typo")
except bihm.BihmError as error:
    print(f"\n{error}")

# %% Remove the temporary folder.
if temporary:
    temporary.cleanup()
