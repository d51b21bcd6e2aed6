"""What the console scripts call: nothing slow is imported before somebody listens to Ctrl-C."""

import sys
from collections.abc import Callable
from importlib import import_module

INTERRUPTED = 130  # errors.CTRL_C


def _command(program: str) -> Callable[[], None]:
    """The `main` of a command, with a word in the place of a traceback while Python imports it."""

    def start() -> None:
        try:
            main = import_module(f"bihm.cli.{MODULES[program]}").main
        except KeyboardInterrupt:
            sys.stderr.write(f"{program}: interrupted\n")
            sys.exit(INTERRUPTED)
        main()

    return start


MODULES = {
    "bihm-train": "train",
    "bihm-eval": "evaluate",
    "bihm-sample": "sample",
    "bihm-export": "export",
    "bihm-report": "report",
    "bihm-data": "data",
}
train, evaluate, sample, export, report, data = map(_command, MODULES)
