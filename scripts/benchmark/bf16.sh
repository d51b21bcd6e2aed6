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
sweep dna dataset=dna layers=[200,150,130,100,70,50,30,20,10] batch_size=25 epochs=100 stop.patience=null \
  optim.lr=3e-3 optim.schedule=cosine optim.lr_end=1e-4 optim.l1=1e-3
python "$(dirname "$0")/../reproduce/summarise.py" "$folder"
