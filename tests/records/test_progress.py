"""The progress line, in plain logs and on a real pseudo-terminal."""

import fcntl
import io
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import bihm
from bihm.cli import report
from bihm.records.progress import count_parts, progress

SCRIPT = """
import logging, sys
from bihm.records.progress import progress

logger = logging.getLogger("watched")
logger.setLevel(logging.INFO)
for name in sys.argv[2].split(","):
    stream = sys.stdout if name == "stdout" else open(name, "w", encoding="utf-8")
    logger.addHandler(logging.StreamHandler(stream))
total = int(sys.argv[1]) or None
with progress(total, True, logger) as shown:
    shown.advance(1000, "")
    for step in range(1010, 1060, 10):
        import time; time.sleep(0.11)
        shown.advance(step, f"train -{step}.5 [valid] \\u2212{step}")
        if step == 1020:
            shown.line("evaluation [red]one[/red] \\u2212")
        if step == 1030:
            print("from elsewhere")
print("after")
"""


def in_terminal(*arguments, width=100, **environment):
    """What a terminal of that width receives, and the exit status."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    keep = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    keep |= {"TERM": "xterm", "PYTHONIOENCODING": "utf-8"} | environment
    command = [sys.executable, "-c", SCRIPT, *arguments]
    process = subprocess.Popen(command, stdout=follower, stderr=follower, env=keep)
    os.close(follower)
    received = b""
    try:
        while True:
            try:
                received += (chunk := os.read(leader, 65536))
            except OSError:  # the last writer is gone
                break
            if not chunk:
                break
        os.close(leader)
        return received.decode(), process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def logged():
    """A logger and the stream that holds what it was told."""
    stream = io.StringIO()
    logger = logging.getLogger("test_progress")
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield logger, stream
    logger.removeHandler(handler)


@pytest.mark.parametrize("interactive", [False, True])
@pytest.mark.parametrize("total", [None, 50])
def test_without_a_terminal_only_lines_are_logged(logged, capfd, interactive, total, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    logger, stream = logged
    with progress(total, interactive, logger) as shown:
        for step in range(50):
            shown.advance(step, "train -90")
        shown.line("epoch 1: 100% of [it]")
    assert stream.getvalue() == "epoch 1: 100% of [it]\n"
    assert capfd.readouterr() == ("", "")


def test_bar_shows_steps_rate_texts_and_time_left(tmp_path):
    text, status = in_terminal("1100", str(tmp_path / "log"))
    assert status == 0
    assert "1050/1100" in text
    rates = [float(rate) for rate in re.findall(r"([\d.]+) steps/s", text)]
    assert rates
    assert all(10 < rate < 100 for rate in rates)  # 10 steps in 0.11 s: the first 1000 do not count
    assert re.search(r"  0:00:0\d left  ", text)
    assert "train -1050.5 [valid] \u22121050" in text
    assert "evaluation [red]one[/red] \u2212\r\n" in text
    assert text.index("from elsewhere") < text.index("1040/1100")
    assert text.rstrip().endswith("after")
    assert (tmp_path / "log").read_text("utf-8") == "evaluation [red]one[/red] \u2212\n"


def test_without_total_no_time_is_left(tmp_path):
    text, status = in_terminal("0", str(tmp_path / "log"))
    assert status == 0
    assert "1050 steps" in text
    assert "steps/s" in text
    assert not re.search(r"\d:\d\d:\d\d", text)


def test_line_shows_once_where_the_logger_writes_to_the_terminal_itself(tmp_path):
    text, status = in_terminal("1100", f"stdout,{tmp_path / 'log'}")
    assert status == 0
    assert text.count("evaluation") == 1
    # In a line of its own: the cursor went back to the bar's start and cleared it first.
    before = text[: text.index("evaluation")]
    assert before.endswith("\x1b[2K")
    assert "evaluation" in (tmp_path / "log").read_text("utf-8")


def test_narrow_terminal_crops_the_end_of_the_line(tmp_path):
    text, status = in_terminal("1100", str(tmp_path / "log"), width=40)
    assert status == 0
    assert re.search(r"1050/1100  [\d.]+ steps/s", text)
    assert "-1050.5" not in text


@pytest.mark.parametrize(
    ("width", "environment"),
    [(20, {}), (5, {}), (20, {"PYTHONIOENCODING": "ascii"}), (100, {"LC_ALL": "C"})],
)
def test_odd_terminals_do_no_harm(tmp_path, width, environment):
    text, status = in_terminal("1100", str(tmp_path / "log"), width=width, **environment)
    assert (status, "Error" in text) == (0, False)
    assert text.rstrip().endswith("after")


def test_dumb_terminal_gets_plain_lines():
    text, status = in_terminal("1100", "stdout", TERM="dumb")
    assert status == 0
    lines = text.splitlines()
    assert lines == ["evaluation [red]one[/red] \u2212", "from elsewhere", "after"]


def test_training_outlives_its_terminal(tmp_path):
    script = SCRIPT.replace('print("from elsewhere")', "pass").replace(
        'print("after")', f'open({str(tmp_path / "done")!r}, "w").close()'
    )
    # Its own session, so that closing the terminal sends no SIGHUP, like nohup.
    leader, follower = pty.openpty()
    command = [sys.executable, "-c", script, "1100", str(tmp_path / "log")]
    environment = os.environ | {"TERM": "xterm"}
    process = subprocess.Popen(
        command, stdout=follower, stderr=follower, env=environment, start_new_session=True
    )
    os.close(follower)
    try:
        assert os.read(leader, 10)
        os.close(leader)
        process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "done").exists()
    assert "evaluation" in (tmp_path / "log").read_text("utf-8")


@pytest.mark.parametrize("draws", [False, True])
def test_errors_of_the_body_pass_through(logged, monkeypatch, draws):
    monkeypatch.setattr("bihm.records.progress._can_draw", lambda: draws)
    logger, _ = logged
    with pytest.raises(OSError, match="disk"), progress(5, True, logger):
        raise OSError("disk")


def test_streams_that_were_closed_before_python_began_are_no_terminal(monkeypatch):
    """`bihm-train ... >&-`, and daemons: sys.stdout and sys.stderr are None."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    count_parts(1, 2)
    report._say("looking")
    with progress(10, interactive=True, logger=logging.getLogger("closed")) as shown:
        shown.advance(1, "")


def test_parts_are_counted_in_one_line_of_a_terminal_and_nowhere_else(monkeypatch, capsys):
    count_parts(1, 2)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("bihm.records.progress.is_terminal", lambda stream: stream is sys.stderr)
    for done in (1, 2):
        count_parts(done, 2)
    assert capsys.readouterr() == ("", "\r1 of 2 parts\r2 of 2 parts\n")


def test_nothing_else_asks_a_stream_that_may_be_closed():
    folder = Path(bihm.__file__).parent
    asking = [file.name for file in folder.rglob("*.py") if ".isatty()" in file.read_text()]
    assert asking == ["progress.py"]
