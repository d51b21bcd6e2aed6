"""Runs of `bihm-train` for the scripts beside this file: several at once, gone on with, done only once."""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from bihm.cli.compose import compose_words
from bihm.config import differences, load
from bihm.errors import ConfigError
from bihm.records.run_files import read_json, write_json, write_text
from bihm.run.training.raised_limits import changed_limits

MADE_BY = (
    "made_by.json"  # beside a run's own files: the words of its command, and the commit of the code
)
INTERRUPTED = 75
ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "RESULTS.md"


class Job(NamedTuple):
    """One run: the words of bihm-train, and where it goes."""

    words: tuple[str, ...]
    directory: Path

    @property
    def finished(self) -> bool:
        """Whether it has been done with these very words; in its place a run of others is an error."""
        if not (self.directory / "config.yaml").is_file():
            return False
        saved, wanted = load(self.directory / "config.yaml"), compose_words(self.words)[0]
        if changed := differences(saved, wanted):
            raise SystemExit(
                f"{self.directory} holds another run: {', '.join(changed)}; choose another folder"
            )
        return is_finished(self.directory) and not changed_limits(saved, wanted)


def is_finished(directory: Path) -> bool:
    """Whether a run has ended and left its results."""
    files = [directory / name for name in ("status.json", "results.json")]
    return all(file.is_file() for file in files) and read_json(files[0])["status"] == "finished"


def commit() -> str:
    """The commit of the code that runs, with + where files differ from it; ? where there is no git."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "?"


def made_by(directory: Path) -> dict[str, Any]:
    """The words and the commit of a run; of one that no script started, nothing is known."""
    file = directory / MADE_BY
    return dict(read_json(file)) if file.is_file() else {"words": None, "commit": "?"}


class Runner:
    """Keeps up to `at_once` runs going; a signal is handed to them, and each saves and ends."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.stopped = False
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._commit = commit()

    def run(self, jobs: Iterable[Job]) -> list[Job]:
        """Do what is not done yet; the jobs that failed. An interrupted one goes on when asked again."""
        waiting = [job for job in jobs if not job.finished]
        before = {
            number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            with ThreadPoolExecutor(self.at_once) as pool:
                codes = list(pool.map(self._one, waiting))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.stopped:
            print("stopped; the same command goes on from here", file=sys.stderr)
            sys.exit(INTERRUPTED)
        return [job for job, code in zip(waiting, codes, strict=True) if code]

    def _one(self, job: Job) -> int:
        command = [sys.executable, "-m", "bihm.cli.train", *job.words]
        with self._lock:
            if self.stopped:
                return INTERRUPTED
            before = self._sign(job)
            print(f"begin  {job.directory}", flush=True)
            process = subprocess.Popen(
                [*command, f"hydra.run.dir={job.directory}"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is ours to hand on, once
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
            self._running.add(process)
            if self.stopped:  # while it was starting
                process.terminate()
        told = process.communicate()[1].strip()
        if process.returncode == ConfigError.exit_code and before is not None:
            write_json(job.directory / MADE_BY, before)  # nothing was done by these words
        with self._lock:
            self._running.discard(process)
        print(f"end {process.returncode:2d} {job.directory}  {told[-300:]}", flush=True)
        return process.returncode

    def _sign(self, job: Job) -> dict[str, Any] | None:
        """Note the commit before the run begins, for it may outlive us; return what a begun run noted."""
        job.directory.mkdir(parents=True, exist_ok=True)
        before = made_by(job.directory) if (job.directory / "config.yaml").is_file() else None
        commits = [before["commit"]] if before else []
        words = {"words": list(job.words), "commit": among([*commits, self._commit])}
        write_json(job.directory / MADE_BY, words)
        return before

    def _stop(self, number: int, frame: object) -> None:
        del number, frame
        self.stopped = True
        for process in tuple(self._running):
            process.terminate()


def recorded(file: Path) -> dict[str, Any]:
    """A JSON file of ours beside the scripts."""
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def seeds_error(values: list[float]) -> float:
    """The standard error of a mean over seeds; of one seed none is known, and it is 0."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def of_seeds(means: list[float], sems: list[float], digits: int) -> str:
    """The mean over seeds +- the standard error of the rows, and in brackets that of the seeds."""
    text = f"{statistics.mean(means):.{digits}f} +- {statistics.mean(sems):.{digits}f}"
    if len(means) > 1:
        text += f" ({seeds_error(means):.{digits}f})"
    return text


def among(values: Iterable[Any]) -> str:
    """The different ones of some values, in their order."""
    return ", ".join(dict.fromkeys(map(str, values)))


def line(cells: Iterable[str]) -> str:
    """A line of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def document(word: str) -> Path:
    """The file that tables go into: its absence is told before hours of runs, not after them."""
    if not Path(word).is_file():
        raise argparse.ArgumentTypeError(f"{word}: no such file; tables are written into one")
    return Path(word)


def replace(document: Path, name: str, new: str) -> bool:
    """Put `new` between `<!-- NAME -->` and `<!-- end of NAME -->`; whether the document has these."""
    text = document.read_text(encoding="utf-8")
    before, begin, rest = text.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->")
    if end:
        write_text(document, f"{before}{begin}{new}\n{end}{after}")
    return bool(end)
