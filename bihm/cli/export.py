"""`bihm-export`: the weights of a run as one file for others."""

import logging
from dataclasses import dataclass
from pathlib import Path

from bihm.cli import exit_codes
from bihm.cli.keyvalue import parse
from bihm.records.run_files import require_run

PROGRAM = "bihm-export"
USAGE = """usage: bihm-export run=DIR [out=FILE]

Writes the best state of a run as a safetensors file: the parameters that estimates are made of, under
their names (p.0.w), and the resolved configuration in the metadata. `bihm-eval weights=FILE` reads it.

  run=DIR    a run directory of bihm-train
  out=FILE   where to, a .safetensors, or in which folder; by default DIR/weights.safetensors
"""


@dataclass
class Command:
    """The arguments of `bihm-export`."""

    run: str
    out: str | None = None


def main(argv: list[str] | None = None) -> None:
    """The console script."""
    logging.basicConfig(format=f"{PROGRAM}: %(message)s")
    with exit_codes.command(PROGRAM):
        command = parse(argv, Command, PROGRAM, USAGE)
        require_run(Path(command.run))
        from bihm.runtime import configure_jax  # jax takes a second to import

        configure_jax()
        from bihm.run.load import export

        print(export(Path(command.run), command.out))


if __name__ == "__main__":
    main()
