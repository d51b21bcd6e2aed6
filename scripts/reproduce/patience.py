"""What a patience would have cost runs that had none: the table of how early each would have ended.

    bihm-train -m model=bihm,rws,wake_sleep depth=1,3,5,12 'seed=range(5)' stop.patience=null eval.every=5
    python scripts/reproduce/patience.py FOLDER [--patience 10,100] [--every null]

FOLDER holds such runs, at any depth. Patience does not change what a run learns, only when it ends, so
where it would have ended is read off its `metrics.jsonl`, by the package's own criterion. For each rule
and depth: the worst loss over the seeds (nats on valid, in the rule's own score, of the best before the
end against the best of all), and the mean epoch of the end. `--every` is the number of epochs between two
evaluations: a multiple of what the runs had, or null for what `eval.every=null` would have made of it.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from jobs import is_finished

from bihm.config import Config, load
from bihm.run.build import Run, make_run
from bihm.run.training.stopping import Memory, Stopping


class End(NamedTuple):
    """Where one run would have ended."""

    seed: int
    loss: float  # nats
    epoch: int
    epochs: int  # that the run did


def end_of(run: Run, records: list[dict[str, float]], every: int) -> End:
    """Follow a run's scores to where its patience ends it."""
    stopping = Stopping.of(run, run.fixed_rows("valid"))
    key, memory = f"valid/{run.score}", Memory()
    ended = len(records) - 1
    for i, record in enumerate(records):
        epoch = round(record["epoch"])
        if epoch % every and i < len(records) - 1:
            continue
        if memory.best_score is None or record[key] > memory.best_score:
            memory.best_score, memory.best_epoch = record[key], epoch
        if stopping.out_of_patience(memory, int(record["step"])):
            ended = i
            break
    assert memory.best_score is not None
    best = max(record[key] for record in records)
    epochs = [round(records[i]["epoch"]) for i in (ended, -1)]
    return End(run.config.seed, best - memory.best_score, *epochs)


def read(path: Path, patience: int) -> tuple[Run, int, int, list[dict[str, float]]]:
    """A run as that patience would have it, how often it would and did evaluate, and its records."""
    config: Config = load(path.parent / "config.yaml")
    did = config.eval.every
    if config.stop.patience is not None or did is None:
        raise SystemExit(
            f"{path.parent}: not a run with stop.patience=null and eval.every=a number"
        )
    config.stop.patience, config.eval.every = patience, None
    run = make_run(config)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return run, run.eval_every, did, records


def main() -> None:
    """Read the runs and print a table for each patience."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patience", default=str(Config().stop.patience))
    parser.add_argument("--every", default="null")
    words = parser.parse_args()
    paths = sorted(words.folder.rglob("metrics.jsonl"))
    whole = [path for path in paths if is_finished(path.parent)]
    for patience in map(int, words.patience.split(",")):
        ends: dict[tuple[str, int], list[End]] = defaultdict(list)
        for path in whole:
            run, period, did, records = read(path, patience)
            every = period if words.every == "null" else int(words.every)
            every = max(did, every - every % did)
            ends[run.config.model.name, run.config.depth].append(end_of(run, records, every))
        print(
            f"stop.patience={patience} eval.every={words.every}, {len(whole)} runs of {len(paths)}"
        )
        print("model       depth  seeds  worst loss  of seed  mean end  of epochs")
        for (model, depth), found in sorted(ends.items()):
            worst = max(found, key=lambda end: end.loss)
            mean, most = (sum(end[i] for end in found) / len(found) for i in (2, 3))
            row = f"{model:11} {depth:5} {len(found):6} {worst.loss:11.2f} {worst.seed:8}"
            print(f"{row} {mean:9.0f} {most:10.0f}")


if __name__ == "__main__":
    main()
