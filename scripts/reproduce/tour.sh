#!/usr/bin/env bash
# The runs of the README's tour, word for word, the three rules on digits, and seed 0 of six recipes; about half an hour on two cores.
#   BIHM_DATA=/path/to/data ./scripts/run scripts/reproduce/tour.sh FOLDER
set -euo pipefail
into=${1:?usage: scripts/reproduce/tour.sh FOLDER}

bihm-train model=bihm depth=12 hydra.run.dir="$into/digits-bihm"
bihm-sample run="$into/digits-bihm" n=64 method=chain
bihm-sample run="$into/digits-bihm" n=32 mask=top
bihm-train -m model=bihm,rws,wake_sleep hydra.sweep.dir="$into/digits-rules"
for recipe in bihm_adult bihm_mushrooms bihm_binarized_mnist bihm_darn_adult bihm_darn_dna bihm_darn_connect4; do
  bihm-train experiment=$recipe hydra.run.dir="$into/$recipe"
done
