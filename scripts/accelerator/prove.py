"""Prove and measure on this machine's accelerator: what `scripts/accelerator/run` starts.

Each part is a process of its own with a time of its own, so that one that fails or hangs costs the
others nothing. What a part leaves of its time goes to those after it.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from facts import ask_the_machine, packages_of
from record import Record
from table import table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SHARES = {"tests": 30, "kernels": 10, "benchmark": 30, "mnist": 30}  # of the time; in this order
MERCY = 20.0  # seconds between asking a part to end and ending it


def main() -> None:
    """Run the parts, print the table; 1 if a part failed."""
    arguments = parse()
    out: Path = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory(prefix="bihm-accelerator-") as place:
        env = packages_of(arguments.packages, Path(place))
        facts = ask_the_machine(env)
        if isinstance(facts, str):
            sys.exit(f"scripts/accelerator/run: {facts}")
        for name, value in facts.items():
            Record(out, "machine").set(name, value)
        with (out / "log.txt").open("a") as log:
            codes = run_parts(arguments, out, env, end, log)
    print(table(Record(out, "").read()), flush=True)
    print(f"all of it: {out}")
    sys.exit(int(any(codes.values())))


def parse() -> argparse.Namespace:
    """The words of the command."""
    parser = argparse.ArgumentParser(
        prog="scripts/accelerator/run", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--out", type=Path, default=Path("outputs/accelerator"))
    parser.add_argument("--parts", type=parts, default=list(SHARES), help=",".join(SHARES))
    parser.add_argument("--packages", type=Path, help="a folder that `pack` made")
    parser.add_argument(
        "--small", action="store_true", help="tiny machines: is all of it in order?"
    )
    parser.add_argument("--train", default="", help="more words for bihm-train, for part mnist")
    arguments = parser.parse_args()
    if not 0 < arguments.minutes <= 24 * 60:
        parser.error(f"--minutes {arguments.minutes} is not between 0 and a day")
    if arguments.packages is not None and not arguments.packages.is_dir():
        parser.error(f"--packages {arguments.packages}: no such folder")
    return arguments


def parts(words: str) -> list[str]:
    """The parts that were asked for, in the order of SHARES."""
    asked = words.split(",")
    for name in asked:
        if name not in SHARES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(SHARES)}")
    return [name for name in SHARES if name in asked]


def run_parts(
    arguments: argparse.Namespace, out: Path, env: dict[str, str], end: float, log: Any
) -> dict[str, int]:
    """Each part's exit code; -1 for one that had to be ended."""
    codes = {}
    for i, name in enumerate(arguments.parts):
        left = end - time.monotonic()
        share = SHARES[name] / sum(SHARES[other] for other in arguments.parts[i:])
        if left < 1:
            print(f"{name}: no time left", flush=True)
            codes[name] = -1
            continue
        limit = max(1.0, share * left)
        print(f"{name}: at most {limit:.0f} of the {left:.0f} seconds left", flush=True)
        started = time.monotonic()
        codes[name] = bounded(command(name, arguments, out, limit), env, limit, log)
        seconds = round(time.monotonic() - started, 1)
        record = Record(out, name)
        record.set("ended", {"code": codes[name], "seconds": seconds, "limit": round(limit, 1)})
        if name == "tests":
            record.set("counts", counts((out / "log.txt").read_text()))
        print(f"{name}: exit code {codes[name]} after {seconds} s", flush=True)
    return codes


def command(name: str, arguments: argparse.Namespace, out: Path, limit: float) -> list[str]:
    """What to start for a part."""
    if name == "tests":
        wanted = ["tests/device"]
        if not arguments.small:  # the enumerations of every default test, here on the accelerator
            wanted += ["tests/machine/test_exact.py", "tests/kernels"]
        return [
            *(sys.executable, "-m", "pytest", "-v", "-rfEs", "--tb=short", "--durations=8"),
            *("-n", "0", "-p", "no:cacheprovider", "-W", "default"),
            *("-m", "device or not long", *wanted),
        ]
    script = {"benchmark": "measure"}.get(name, name)
    words = [sys.executable, str(HERE / f"{script}.py"), "--out", str(out), "--seconds", str(limit)]
    if arguments.small:
        words.append("--small")
    if name == "mnist" and arguments.train:
        words += ["--train", arguments.train]
    return words


def bounded(
    words: list[str], env: dict[str, str], limit: float, log: Any, mercy: float = MERCY
) -> int:
    """A process's exit code; after `limit` seconds it is asked to end, and `mercy` later ended."""
    print(f"\n== {' '.join(words)}", file=log, flush=True)
    process = subprocess.Popen(
        words, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    # SIGINT first: pytest then still says what failed, and Python what it was doing.
    for sign, seconds in ((signal.SIGINT, limit), (signal.SIGKILL, mercy)):
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            print(f"\n== no end in {seconds:.0f} s: {sign.name}", file=log, flush=True)
            os.killpg(process.pid, sign)
    process.wait()
    return -1


def counts(log: str) -> dict[str, Any]:
    """How many tests passed, failed and were skipped, from pytest's own lines; which ones failed."""
    lines = log.rpartition("-m pytest")[2].splitlines()
    found = [re.match(r"(tests/\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED)\b", line) for line in lines]
    ends = [(match[1], match[2].lower()) for match in found if match]
    numbers: dict[str, Any] = {}
    for _, how in ends:
        numbers[how] = numbers.get(how, 0) + 1
    numbers["not passed"] = [test for test, how in ends if how in ("failed", "error")]
    return numbers


if __name__ == "__main__":
    main()
