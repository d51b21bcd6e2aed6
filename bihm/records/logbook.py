"""What a run leaves behind for its readers: `metrics.jsonl`, and event files for TensorBoard.

Three kinds of event file lie in the run directory, named so that they sort in this order, which is
the order in which TensorBoard reads them:

    events.out.tfevents.0000000000.hparams      the configuration, one record, replaced on resume
    events.out.tfevents.<seconds>.<host>.<pid>  one for each start: scalars, images, texts
    events.out.tfevents.9999999999.end          final numbers and status, dropped on resume

The first and the last stand alone because TensorBoard believes the first hparams record of a run:
a resumed run could never correct its configuration or a status of "failure" otherwise.
No "experiment" record is written; with one, TensorBoard hides the columns that it does not name.
"""

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import re
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bihm.errors import writing
from bihm.records.run_files import write_bytes

METRICS = "metrics.jsonl"
EVENTS = "events.out.tfevents."
HPARAMS = EVENTS + "0000000000.hparams"
END = EVENTS + "9999999999.end"

Scalars = Mapping[str, float | int | None]  # None: not measured this time


class Logbook:
    """The open log of one run; every method has written what it was given when it returns.

    `resume_step` is the step of the restored state, `evaluated_step` that of the last evaluation it knows
    of, at most as many: what was logged after them is dropped. None is a fresh start, which removes the
    logs (nothing else) that a run before it left in `directory`.
    Every method raises OSError, naming the file, when the disk refuses.
    """

    def __init__(
        self, directory: Path, resume_step: int | None = None, evaluated_step: int | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        if resume_step is None:
            for old in directory.glob(EVENTS + "*"):
                old.unlink()
        (directory / END).unlink(missing_ok=True)
        last = -1 if resume_step is None else resume_step
        # A run that stops inside an estimate saves the moment before it, so the line of that very step
        # may have been written since by a start that died before it saved.
        dropped = _keep_lines(
            directory / METRICS, last if evaluated_step is None else evaluated_step
        )
        self._lines = os.open(directory / METRICS, os.O_WRONLY | os.O_APPEND)
        self._events = _new_event_file(directory)
        # Readers drop the points from a START's step on. TensorBoard's slower loader does so from
        # the second START only, so a fresh run writes one as well; it has nothing older to drop.
        first = min(max(last, 0) + 1, dropped)
        start = _event(int(first), session_log={"status": "START"})
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.close)
            _append(self._events, _event(0, file_version="brain.Event:2"), start)
            on_failure.pop_all()

    def evaluation(self, step: int, epoch: float | int, seconds: float, scalars: Scalars) -> None:
        """One evaluation: a line of strict JSON (NaN and infinity as null), and all to TensorBoard.

        `seconds` is wall time since the run first started. Raises ValueError when `scalars` holds
        a key of the line's own.
        """
        own: dict[str, float | int | None] = {"step": step, "epoch": epoch, "seconds": seconds}
        if taken := own.keys() & scalars.keys():
            raise ValueError(f"names of metrics.jsonl's own: {sorted(taken)}")
        line = {name: _finite(value) for name, value in (own | dict(scalars)).items()}
        text = json.dumps(line, allow_nan=False) + "\n"
        _write(self._lines, text.encode(), self._directory / METRICS)
        self.scalars(step, {"epoch": epoch, "seconds": seconds, **scalars})

    def scalars(self, step: int, values: Scalars) -> None:
        """Points of curves, to TensorBoard alone; a None is left out, a NaN shows as one."""
        points = _points(values)
        if points:
            _append(self._events, _event(step, summary={"value": points}))

    def image(self, step: int, tag: str, png: bytes, height: int, width: int) -> None:
        """A picture, PNG encoded, grey or colour; sizes in pixels."""
        image = {"height": height, "width": width, "colorspace": 1, "encoded_image_string": png}
        _append(self._events, _event(step, summary={"value": [{"tag": tag, "image": image}]}))

    def text(self, step: int, tag: str, markdown: str) -> None:
        """A text that TensorBoard renders as Markdown."""
        from bihm.records import summaries

        self._values(step, summaries.text(tag, markdown))

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """How numbers are spread, by tag."""
        from bihm.records import summaries

        self._values(step, *(summaries.histogram(tag, some) for tag, some in values.items()))

    def layout(self, names: Iterable[str]) -> None:
        """Charts for TensorBoard's custom scalars: train and valid of one quantity in one."""
        from bihm.records import summaries

        self._values(0, summaries.layout(names))

    def _values(self, step: int, *values: Any) -> None:
        if values:
            _append(self._events, _event(step, summary={"value": values}))

    def hparams(self, config: Mapping[str, Any]) -> None:
        """The configuration as columns of the HPARAMS tab, one row a run.

        bool, int, float and str stay what they are, None is left out, anything else is shown as its
        `str()`. A key must have the same type in all runs that are compared: a column of numbers and
        texts is one of texts to TensorBoard, whose check boxes then hide the runs with numbers.
        """
        from tensorboard.plugins.hparams import summary_v2

        columns = {name: _column(value) for name, value in config.items() if value is not None}
        # The default trial name is a hash of the values, which folds equal runs into one row.
        row = _row_name(self._directory.resolve())
        summary = summary_v2.hparams_pb(columns, trial_id=row)
        _replace_event_file(self._directory / HPARAMS, _event(0, summary=summary))

    def session_end(self, step: int, metrics: Scalars, success: bool) -> None:
        """The run's last word: final numbers beside the hparams, and success or failure.

        Not for a run that was interrupted and goes on later: without this it shows as running.
        """
        from tensorboard.plugins.hparams import metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        status = "STATUS_SUCCESS" if success else "STATUS_FAILURE"
        info = {"status": status, "end_time_secs": time.time()}
        end = {
            "tag": metadata.SESSION_END_INFO_TAG,
            "metadata": metadata.create_summary_metadata(HParamsPluginData(session_end_info=info)),
            "tensor": metadata.NULL_TENSOR,
        }
        event = _event(step, summary={"value": [*_points(metrics), end]})
        _replace_event_file(self._directory / END, event)

    def bands(self, title: str, edges: Mapping[str, tuple[str, str]]) -> None:
        """Charts under Custom Scalars: each curve in a band between two others, all named by their tags."""
        from bihm.records import summaries

        self._values(0, summaries.bands(title, edges))

    def close(self) -> None:
        """Close the files; a second call does nothing."""
        if not self._events.closed:
            os.close(self._lines)
            self._events.close()


def _finite(value: float | int | None) -> float | int | None:
    return value if value is not None and math.isfinite(value) else None


def _points(values: Scalars) -> list[dict[str, Any]]:
    kept = ((tag, value) for tag, value in values.items() if value is not None)
    return [{"tag": tag, "simple_value": float(value)} for tag, value in kept]


def _row_name(directory: Path) -> str:
    """The end of a run's path, which says what it is, and a mark of the whole, which is its own."""
    mark = hashlib.sha256(os.fsencode(directory)).hexdigest()[:6]
    end = "/".join(directory.parts[1:][-3:])
    return f"{end} ({mark})".encode(errors="replace").decode()


def _column(value: Any) -> bool | float | int | str:
    if isinstance(value, np.generic):
        value = value.item()
    # An infinity among the numbers makes TensorBoard's JSON, and with it the whole tab, fail.
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float | str) else str(value)


def _keep_lines(path: Path, last_step: int) -> float:
    """Keep the whole lines up to `last_step`, and return the first step that goes, or infinity.

    What a killed run half wrote goes, too.
    """
    content = path.read_bytes() if path.exists() else b""
    lines = content.splitlines(keepends=True)
    kept = b"".join(line for line in lines if _step_of(line) <= last_step)
    write_bytes(path, kept)
    return min((step for step in map(_step_of, lines) if step > last_step), default=math.inf)


def _step_of(line: bytes) -> float:
    """The step of one line; infinity for a damaged one, which is after every step."""
    if line.endswith(b"\n"):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            return float(json.loads(line)["step"])
    return math.inf


def _write(descriptor: int, data: bytes, path: Path) -> None:
    """One write at the end, so that a reader never meets a half; what a full disk cut off is undone."""
    size = os.lseek(descriptor, 0, os.SEEK_END)
    with writing(path):
        if os.write(descriptor, data) < len(data):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _event(step: int, **content: Any) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event

    encoded: bytes = Event(wall_time=time.time(), step=step, **content).SerializeToString()
    return encoded


def _records(*events: bytes) -> bytes:
    from tensorboard.summary.writer.record_writer import RecordWriter

    # Not tensorboard's EventFileWriter: it writes in a thread of its own, so that a full disk is
    # reported late or, when its queue is full at the end, hangs.
    records = io.BytesIO()
    writer = RecordWriter(records)
    for event in events:
        writer.write(event)
    return records.getvalue()


def _append(file: io.FileIO, *events: bytes) -> None:
    _write(file.fileno(), _records(*events), Path(str(file.name)))


def _new_event_file(directory: Path) -> io.FileIO:
    """Open a file whose name sorts after those of all earlier starts, whatever the clock says."""
    names = (re.match(re.escape(EVENTS) + r"(\d+)", old.name) for old in directory.glob("events.*"))
    stamps = [int(name.group(1)) for name in names if name]
    stamp = max([int(time.time()), *(stamp + 1 for stamp in stamps)])
    name = f"{EVENTS}{stamp:010d}.{socket.gethostname()}.{os.getpid()}"
    return (directory / name).open("xb", buffering=0)


def _replace_event_file(path: Path, event: bytes) -> None:
    write_bytes(path, _records(_event(0, file_version="brain.Event:2"), event))
