"""`bihm-export`: the weights of a finished run as one file for others."""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from bihm.cli.keyvalue import parse
from bihm.errors import BihmError
from bihm.records.run_files import require_run

PROGRAM = "bihm-export"
USAGE = """usage: bihm-export run=DIR [out=FILE]

Writes the best state of a run as a safetensors file: the parameters that estimates are made of, under
their names (p.0.w), and the resolved configuration in the metadata. `bihm-eval weights=FILE` reads it.

  run=DIR    a run directory of bihm-train
  out=FILE   where to, or in which folder; by default DIR/weights.safetensors
"""


@dataclass
class Command:
    """The arguments of `bihm-export`."""

    run: str
    out: str | None = None


def main(argv: list[str] | None = None) -> None:
    """The console script."""
    logging.basicConfig(format=f"{PROGRAM}: %(message)s")
    try:
        command = parse(argv, Command, PROGRAM, USAGE)
        require_run(Path(command.run))
        from bihm.run.load import export  # jax takes a second to import

        print(export(Path(command.run), command.out))
    except BihmError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
