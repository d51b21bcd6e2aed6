"""Progress for a person who watches: a bar on a terminal, plain log lines anywhere else."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

BAR_WIDTH = 10
REFRESH_SECONDS = 0.1  # drawing more often costs time and shows nothing
RATE_SECONDS = 300.0  # the rate is a mean over this long, so that slow chunks have one at all


class Progress(NamedTuple):
    """What the training loop may say.

    `advance(step, text)`: steps done, and a short text such as the current estimates; shown on
    the bar alone. Its first call says where the run starts, which need not be zero.
    `line(text)`: a lasting line, for each evaluation one; always logged, too.
    """

    advance: Callable[[int, str], None]
    line: Callable[[str], None]


@contextlib.contextmanager
def progress(
    total_steps: int | None, interactive: bool, logger: logging.Logger
) -> Iterator[Progress]:
    """Yield a `Progress`: a bar when `interactive` and stdout is a terminal that can draw one.

    Without `total_steps` the bar shows no time left.
    """
    if interactive and _can_draw():
        with _bar(total_steps, logger) as shown:
            yield shown
    else:
        yield Progress(advance=lambda step, text: None, line=logger.info)


def count_parts(done: int, total: int) -> None:
    """Say on a terminal, in one line that grows, how much of an estimate or of samples is done."""
    if is_terminal(sys.stderr):
        end = "\n" if done == total else ""
        print(f"\r{done} of {total} parts", end=end, file=sys.stderr, flush=True)


def _can_draw() -> bool:
    from rich.console import Console

    # Not Console.is_terminal: that believes FORCE_COLOR, which is set where no one watches.
    return is_terminal(sys.stdout) and not Console().is_dumb_terminal


def is_terminal(stream: Any) -> bool:
    """Whether a person watches a standard stream; one that was closed before Python began is None."""
    return stream is not None and bool(stream.isatty())


@contextlib.contextmanager
def _bar(total_steps: int | None, logger: logging.Logger) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console()
    # No refresh thread: it would only take time from the training, which reports chunk by chunk.
    bar = Bar(
        *_columns(),
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stderr=is_terminal(sys.stderr),
        speed_estimate_period=RATE_SECONDS,
    )
    bar.add_task("", total=total_steps, words="")
    handlers = _terminal_handlers(logger)  # before rich puts its own streams in their place
    with contextlib.ExitStack() as stack:
        stack.callback(_unless_gone, console, bar.stop)
        _unless_gone(console, bar.start)
        for handler in handlers:
            # Log lines must go through rich's stream, or they are drawn into the bar.
            stack.callback(handler.setStream, handler.stream)
            handler.setStream(sys.stdout)
        logged_here = logger.isEnabledFor(logging.INFO) and any(
            handler.level <= logging.INFO for handler in handlers
        )
        yield _on_bar(bar, logger, logged_here)


def _on_bar(bar: Any, logger: logging.Logger, logged_here: bool) -> Progress:
    """The two calls on a started bar; `logged_here`: what is logged shows on this terminal."""
    encoding = bar.console.encoding
    (task,) = bar.task_ids
    drawn = -REFRESH_SECONDS

    def advance(step: int, text: str) -> None:
        nonlocal drawn
        bar.update(task, completed=step)  # rich leaves the first call out of the speed
        shown = bar.tasks[0]
        words = _words(step, shown.total, shown.speed, _printable(text, encoding))
        bar.update(task, words=words)
        if time.monotonic() - drawn >= REFRESH_SECONDS:
            drawn = time.monotonic()
            _unless_gone(bar.console, bar.refresh)

    def line(text: str) -> None:
        if not logged_here:
            shown = _printable(text, encoding)
            _unless_gone(bar.console, lambda: bar.console.out(shown, highlight=False))
        logger.info(text)

    return Progress(advance, line)


def _columns() -> Iterator[Any]:
    from rich.progress import BarColumn, TextColumn
    from rich.table import Column

    # All words are one column, so that a narrow terminal crops the end of the line and not each
    # number; cropped, since rich's own ellipsis is a character that not every terminal has.
    yield BarColumn(BAR_WIDTH)
    words = Column(no_wrap=True, overflow="crop")
    yield TextColumn("{task.fields[words]}", style="none", markup=False, table_column=words)


def _words(step: int, total: int | None, speed: float | None, text: str) -> str:
    words = [f"{step}/{total}" if total is not None else f"{step} steps"]
    if speed:
        words.append(f"{speed:,.1f} steps/s")
        if total is not None:
            words.append(f"{timedelta(seconds=round(max(0, total - step) / speed))} left")
    return "  ".join([*words, text])


def _terminal_handlers(logger: logging.Logger) -> list[logging.StreamHandler[Any]]:
    """The handlers that `logger` reaches and that write to this terminal."""
    terminal = [stream for stream in (sys.stdout, sys.stderr) if is_terminal(stream)]
    found: list[logging.StreamHandler[Any]] = []
    here: logging.Logger | None = logger
    while here is not None:
        streams = (h for h in here.handlers if isinstance(h, logging.StreamHandler))
        found += [handler for handler in streams if handler.stream in terminal]
        here = here.parent if here.propagate else None
    return found


def _printable(text: str, encoding: str) -> str:
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _unless_gone(console: Any, write: Callable[[], object]) -> None:
    """Write to the terminal, which may have gone away; the training shall not go with it."""
    try:
        write()
    except OSError:
        console.quiet = True  # or all that could not be written is kept and tried again
