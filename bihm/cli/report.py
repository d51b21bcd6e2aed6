"""`bihm-report`: one page that shows what runs are worth, and how far to believe it."""

import logging
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from bihm.cli import exit_codes
from bihm.cli.keyvalue import parse
from bihm.errors import ConfigError
from bihm.records.progress import is_terminal
from bihm.records.runs import require_any

PROGRAM = "bihm-report"
MOST_RUNS, MOST_ROWS, MOST_K = 50, 10**5, 10**6
USAGE = """usage: bihm-report run=DIR[,DIR...] [run=DIR...] | sweep=DIR [out=FILE.html]
                   [rows=500] [K=10000]

Writes one HTML page that needs nothing else, no network either: configuration and numbers, learning curves,
estimates against K, 2 log Z, effective sample sizes and k-hat, samples, completions and weights, and which
layers are alive. It writes report.html into the run directory and prints where it is.

  run=DIR         a run directory of bihm-train, finished or not; several give one page with their curves
                  on top of each other, where seeds of one setting are a mean and a band
  sweep=DIR       all runs in a folder: also a table that can be sorted, and the main effect of each swept
                  key; of the runs only the best on valid is shown whole
  out=FILE.html   where to, or in which folder
  rows=500        estimates are made on at most so many rows of test, and fewer for a large machine
  K=10000         and with 1, 10, 100, .. samples, at most so many

What a run does not have is left out, and the page says so. Runs are only read; equal runs make equal pages.
"""


@dataclass
class Command:
    """The arguments of `bihm-report`."""

    run: list[str] = field(default_factory=list)
    sweep: str | None = None
    out: str | None = None
    rows: int = 500
    K: int = 10_000


def main(argv: list[str] | None = None) -> None:
    """The console script."""
    logging.basicConfig(format=f"{PROGRAM}: %(message)s")
    with exit_codes.command(PROGRAM, "lower rows or K"):
        command = parse(argv, Command, PROGRAM, USAGE)
        _check(command)
        from bihm.runtime import configure_jax  # jax takes a second to import

        configure_jax()
        from bihm.report.machine import Bounds
        from bihm.report.write import write_report

        sweep = None if command.sweep is None else Path(command.sweep)
        bounds = Bounds(command.rows, command.K)
        print(write_report([Path(r) for r in command.run], sweep, command.out, bounds, _say, _note))


def _check(command: Command) -> None:
    """See that what is asked for makes sense.

    Raises:
        ConfigError: it does not.
    """
    if bool(command.run) == (command.sweep is not None):
        raise ConfigError("give one of run=DIR and sweep=DIR")
    if command.sweep is not None and not os.path.isdir(command.sweep):
        raise ConfigError(f"sweep={command.sweep}: there is no such folder")
    if len(command.run) > MOST_RUNS:
        raise ConfigError(f"run= names {len(command.run)} runs; the most is {MOST_RUNS}")
    for name, most in (("rows", MOST_ROWS), ("K", MOST_K)):
        value = getattr(command, name)
        if not 1 <= value <= most:
            raise ConfigError(f"{name} must be at least 1 and at most {most}, got {value}")
    for run in command.run:
        require_any(Path(run))


def _say(line: str) -> None:
    if is_terminal(sys.stderr):
        print(line, file=sys.stderr, flush=True)


def _note(line: str) -> None:
    print(f"{PROGRAM}: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
