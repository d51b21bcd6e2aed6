#!/usr/bin/env bash
# Does a stronger q give a better model? RWS and BiHM with four types of q, three seeds, four datasets.
#   BIHM_DATA=DATA ./scripts/run scripts/reproduce/strength_of_q.sh FOLDER      75 minutes on one core
set -euo pipefail
folder=${1:?usage: strength_of_q.sh FOLDER}

for seed in 0 1 2; do
  sweep() { # name, then bihm-train's keys
    bihm-train -m model=rws,bihm "seed=$seed" batch_size=25 optim.schedule=cosine optim.lr_end=1e-4 \
      stop.patience=null eval.final_K=100 "hydra.sweep.dir=$folder/$1-$seed" "${@:2}"
  }
  all=q.layer=sbn,dsbn,darn,nade
  sweep adult dataset=adult layers=[100,20,5] optim.lr=1e-2 epochs=40 $all
  sweep mushrooms dataset=mushrooms layers=[150,50,10] optim.lr=1e-2 epochs=100 $all
  sweep dna dataset=dna layers=[150,10] optim.lr=3e-3 epochs=100 $all
  sweep ocr_letters dataset=ocr_letters layers=[300,100,10] optim.lr=3e-3 epochs=4 q.layer=sbn,dsbn,darn
  sweep ocr_letters-nade dataset=ocr_letters layers=[300,100,10] optim.lr=3e-3 epochs=4 q.layer=nade q.hidden=100
done
python "$(dirname "$0")/summarise.py" "$folder"
