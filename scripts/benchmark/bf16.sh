#!/usr/bin/env bash
# Does training with bfloat16 products cost likelihood? BiHM, three datasets, five seeds, both precisions.
#   BIHM_DATA=DATA ./scripts/run scripts/benchmark/bf16.sh FOLDER      about ten minutes on two cores
set -euo pipefail
folder=${1:?usage: bf16.sh FOLDER}

sweep() { # name, then bihm-train's keys
  bihm-train -m precision=f32,bf16 seed=0,1,2,3,4 eval.final_K=100 "hydra.sweep.dir=$folder/$1" "${@:2}"
}
sweep adult experiment=bihm_adult epochs=30 &
sweep mushrooms experiment=bihm_mushrooms K=10 optim.l1=0 epochs=60
wait
sweep dna experiment=bihm_darn_dna p.layer=sbn
python "$(dirname "$0")/summarise.py" "$folder"
