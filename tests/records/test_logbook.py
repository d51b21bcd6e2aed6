"""The logbook, read back by TensorBoard's own reader and server."""

import contextlib
import io
import json
import os
import re
import resource
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from bihm.records import pictures
from bihm.records.logbook import Logbook


def read(directory):
    """TensorBoard's view of a directory."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(directory), size_guidance={"scalars": 0, "images": 0})
    return accumulator.Reload()


def curve(directory, tag):
    return [(point.step, point.value) for point in read(directory).Scalars(tag)]


def lines(directory):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = (directory / "metrics.jsonl").read_text()
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def write_run(directory, config=None, final=None, success=True):
    with closing(Logbook(directory)) as book:
        book.hparams(config or {"lr": 0.001})
        for step in (10, 20, 30):
            book.evaluation(step, step / 10, step * 1.5, {"valid/log_p": -100.0 - step})
        if final is not None:
            book.session_end(30, final, success)


def test_evaluation_goes_to_both_places(tmp_path):
    with closing(Logbook(tmp_path / "new" / "run")) as book:
        book.evaluation(10, 1, 2.5, {"train/loss": 0.5, "count": 3, "absent": None})
        book.evaluation(20, 2, 4.5, {"train/loss": 0.25})
        # Nothing waits in memory: a reader sees it while the run goes on.
        assert curve(tmp_path / "new" / "run", "train/loss") == [(10, 0.5), (20, 0.25)]
        assert curve(tmp_path / "new" / "run", "seconds") == [(10, 2.5), (20, 4.5)]
        assert "absent" not in read(tmp_path / "new" / "run").Tags()["scalars"]
        own = {"step": 10, "epoch": 1, "seconds": 2.5}
        assert lines(tmp_path / "new" / "run") == [
            {**own, "train/loss": 0.5, "count": 3, "absent": None},
            {"step": 20, "epoch": 2, "seconds": 4.5, "train/loss": 0.25},
        ]


def test_broken_numbers_are_null_in_json_and_nan_in_tensorboard(tmp_path):
    with closing(Logbook(tmp_path)) as book:
        book.evaluation(1, 1, 1.0, {"a": float("nan"), "b": float("-inf")})
    assert lines(tmp_path) == [{"step": 1, "epoch": 1, "seconds": 1.0, "a": None, "b": None}]
    assert np.isnan(curve(tmp_path, "a")[0][1])
    assert curve(tmp_path, "b") == [(1, -np.inf)]


def test_evaluation_refuses_the_names_of_its_own(tmp_path):
    with closing(Logbook(tmp_path)) as book, pytest.raises(ValueError, match="'step'"):
        book.evaluation(1, 1, 1.0, {"step": 3.0})
    assert lines(tmp_path) == []


def test_scalars_are_points_of_curves_alone(tmp_path):
    with closing(Logbook(tmp_path)) as book:
        book.scalars(3, {"train/bound": -90.5, "train/none": None})
    assert curve(tmp_path, "train/bound") == [(3, -90.5)]
    assert read(tmp_path).Tags()["scalars"] == ["train/bound"]
    assert lines(tmp_path) == []


def test_images_and_texts(tmp_path):
    picture = pictures.grid(np.zeros((6, 8, 5), np.uint8), columns=3)
    with closing(Logbook(tmp_path)) as book:
        book.image(7, "samples", *picture)
        book.text(0, "config", "# a: b\n\u2212 c")
    (image,) = read(tmp_path).Images("samples")
    assert (image.step, image.height, image.width) == (7, 2 * 9 + 1, 3 * 6 + 1)
    assert Image.open(io.BytesIO(image.encoded_image_string)).size == (image.width, image.height)
    (text,) = read(tmp_path).Tensors("config")
    assert [value.decode() for value in text.tensor_proto.string_val] == ["# a: b\n\u2212 c"]
    assert read(tmp_path).SummaryMetadata("config").plugin_data.plugin_name == "text"


def hparams_of(directory, tag="session_start_info"):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = read(directory).SummaryMetadata(f"_hparams_/{tag}").plugin_data.content
    return getattr(HParamsPluginData.FromString(content), tag)


def test_hparams_keep_their_types(tmp_path):
    config = {"lr": 0.5, "model": "bihm", "K": 10, "on": True, "layers": [3, 2], "none": None}
    with closing(Logbook(tmp_path)) as book:
        book.hparams(config | {"numpy": np.float32(0.25), "most": float("inf")})
    columns = hparams_of(tmp_path).hparams
    kinds = {name: value.WhichOneof("kind") for name, value in columns.items()}
    numbers = {"lr": "number_value", "K": "number_value", "numpy": "number_value"}
    texts = dict.fromkeys(["model", "layers", "most"], "string_value")
    assert kinds == numbers | texts | {"on": "bool_value"}
    assert columns["layers"].string_value == "[3, 2]"
    # With an "experiment" record TensorBoard would hide the columns that it does not name.
    plugin = read(tmp_path).PluginTagToContent("hparams")
    assert list(plugin) == ["_hparams_/session_start_info"]


def column(logdir, name):
    """What TensorBoard's HPARAMS tab makes of one key of all runs under a folder."""
    from types import SimpleNamespace

    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.hparams import api_pb2, backend_context

    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(logdir))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(logdir))
    context = backend_context.Context(SimpleNamespace(data_provider=provider))
    request = RequestContext()
    metadata = context.hparams_metadata(request, "")
    experiment = context.experiment_from_metadata(request, "", True, metadata, [])
    (info,) = (info for info in experiment.hparam_infos if info.name == name)
    return api_pb2.DataType.Name(info.type)


@pytest.mark.parametrize(
    ("key", "values", "kind"),
    [
        ("stop.patience", (None, 5), "DATA_TYPE_FLOAT64"),
        ("max_seconds", (7, 7.5, None), "DATA_TYPE_FLOAT64"),
        ("model.q_update", (None, "wake"), "DATA_TYPE_STRING"),
        ("on", (None, True), "DATA_TYPE_BOOL"),
    ],
)
def test_a_null_does_not_change_the_type_of_a_column(tmp_path, key, values, kind):
    for i, value in enumerate(values):
        write_run(tmp_path / str(i), {key: value, "lr": 0.5})
    assert column(tmp_path, key) == kind
    assert column(tmp_path, "lr") == "DATA_TYPE_FLOAT64"


@pytest.mark.parametrize(("success", "status"), [(True, 1), (False, 2)])
def test_session_end(tmp_path, success, status):
    write_run(tmp_path, final={"test/log_p": -84.5, "test/none": None}, success=success)
    assert curve(tmp_path, "test/log_p") == [(30, -84.5)]
    assert hparams_of(tmp_path, "session_end_info").status == status


def test_equal_runs_are_rows_of_their_own(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b")
    assert hparams_of(tmp_path / "a").group_name != hparams_of(tmp_path / "b").group_name


def test_a_row_is_named_by_the_end_of_its_path_and_stays_when_it_is_resumed(tmp_path):
    rows = []
    for folder in ("x", "y", "x"):
        run = tmp_path / folder / "all" / "sweep" / "3-model=rws,seed=1"
        write_run(run)
        rows.append(hparams_of(run).group_name)
    assert rows[0] == rows[2] != rows[1]
    assert all(re.fullmatch(r"all/sweep/3-model=rws,seed=1 \([0-9a-f]{6}\)", row) for row in rows)
    assert str(tmp_path) not in "".join(rows)


@pytest.mark.parametrize(("resume_step", "kept"), [(20, [10, 20]), (25, [10, 20]), (0, [])])
def test_resume_drops_what_came_after_the_restored_step(tmp_path, resume_step, kept):
    write_run(tmp_path)
    with closing(Logbook(tmp_path, resume_step)) as book:
        assert [line["step"] for line in lines(tmp_path)] == kept
        book.evaluation(40, 4.0, 1.0, {"valid/log_p": -1.0})
    assert [line["step"] for line in lines(tmp_path)] == [*kept, 40]
    assert [step for step, _ in curve(tmp_path, "valid/log_p")] == [*kept, 40]
    assert hparams_of(tmp_path).hparams["lr"].number_value == 0.001
    assert [path.name for path in tmp_path.glob("*tmp*")] == []


def test_resume_before_an_evaluation_drops_what_it_logged(tmp_path):
    write_run(tmp_path)
    with closing(Logbook(tmp_path, 20, 10)) as book:
        assert [line["step"] for line in lines(tmp_path)] == [10]
        book.evaluation(20, 2.0, 1.0, {"valid/log_p": -7.0})
    assert [line["step"] for line in lines(tmp_path)] == [10, 20]
    assert curve(tmp_path, "valid/log_p")[1:] == [(20, -7.0)]


def test_slow_loader_drops_orphans_too(tmp_path):
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    write_run(tmp_path)
    Logbook(tmp_path, 20).close()
    points = EventAccumulator(str(tmp_path)).Reload().Tensors("valid/log_p")
    assert [point.step for point in points] == [10, 20]


def test_resume_twice_in_a_second_with_a_clock_set_back(tmp_path, monkeypatch):
    write_run(tmp_path)
    for start, clock in enumerate((5.0, 5.0)):
        monkeypatch.setattr("time.time", lambda clock=clock: clock)
        with closing(Logbook(tmp_path, 10)) as book:
            book.evaluation(20 + start, 2.0, 1.0, {"valid/log_p": -1.0})
    assert [step for step, _ in curve(tmp_path, "valid/log_p")] == [10, 21]


def test_resume_corrects_configuration_and_status(tmp_path):
    write_run(tmp_path, {"epochs": 3}, {"test/log_p": -90.0}, success=False)
    with closing(Logbook(tmp_path, 20)) as book:
        assert "_hparams_/session_end_info" not in read(tmp_path).PluginTagToContent("hparams")
        assert "test/log_p" not in read(tmp_path).Tags()["scalars"]
        book.hparams({"epochs": 6})
        book.session_end(60, {"test/log_p": -80.0}, True)
    assert hparams_of(tmp_path).hparams["epochs"].number_value == 6
    assert hparams_of(tmp_path, "session_end_info").status == 1
    assert curve(tmp_path, "test/log_p") == [(60, -80.0)]


def test_fresh_start_removes_the_logs_of_before_and_nothing_else(tmp_path):
    write_run(tmp_path, final={"test/log_p": -90.0})
    (tmp_path / "config.yaml").write_text("kept")
    Logbook(tmp_path).close()
    assert lines(tmp_path) == []
    assert read(tmp_path).Tags()["scalars"] == []
    assert (tmp_path / "config.yaml").read_text() == "kept"


@pytest.mark.parametrize(
    "torn", [b'{"step": 15, "ep', b'{"step": 15}', b'{"step": 15, "ep\n', b"\n"]
)
def test_half_written_line_is_dropped(tmp_path, torn):
    write_run(tmp_path)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    with closing(Logbook(tmp_path, 20)) as book:
        book.evaluation(30, 3.0, 1.0, {"a": 1.0})
    assert [line["step"] for line in lines(tmp_path)] == [10, 20, 30]


def test_half_written_event_does_not_hide_the_next_start(tmp_path):
    write_run(tmp_path)
    (killed,) = tmp_path.glob("events.out.tfevents.[1-8]*")
    os.truncate(killed, killed.stat().st_size - 5)
    with closing(Logbook(tmp_path, 20)) as book:
        book.evaluation(40, 4.0, 1.0, {"valid/log_p": -1.0})
    assert [step for step, _ in curve(tmp_path, "valid/log_p")] == [10, 20, 40]


def test_full_disk_is_reported_and_leaves_whole_lines(tmp_path):
    script = f"""
import errno, pathlib, resource, signal
from bihm.records.logbook import Logbook
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
book = Logbook(pathlib.Path({str(tmp_path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    for step in range(100):
        book.evaluation(step, step, 1.0, {{"name/of/a/scalar": 1.0}})
except OSError as error:
    assert error.errno in (errno.EFBIG, errno.ENOSPC), error
    print("refused")
"""
    assert resource.RLIMIT_FSIZE  # stands in for the disk
    command = [sys.executable, "-c", script]
    out = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert out == "refused\n"
    written = lines(tmp_path)
    assert [line["step"] for line in written] == list(range(len(written)))


def test_short_write_is_undone(tmp_path, monkeypatch):
    with closing(Logbook(tmp_path)) as book:
        book.evaluation(1, 1, 1.0, {"a": 1.0})
        real = os.write
        monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:7]))
        with pytest.raises(OSError, match="space"):
            book.evaluation(2, 2, 1.0, {"a": 1.0})
    assert [line["step"] for line in lines(tmp_path)] == [1]


def test_a_book_may_be_closed_twice(tmp_path):
    book = Logbook(tmp_path)
    book.close()
    book.close()


def test_import_is_light():
    script = "import sys, bihm.records.logbook; print('tensorboard' in sys.modules, 'jax' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert out.stdout == "False False\n"


@contextlib.contextmanager
def server(logdir, *options):
    """The address of a real TensorBoard on loopback, which ends with the block."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--port", "0"]
    command += ["--host", "127.0.0.1", *options]
    log = logdir.with_suffix(".log")
    with log.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            deadline = time.monotonic() + 60
            while not (found := re.search(r"http://127\.0\.0\.1:\d+/", log.read_text())):
                assert time.monotonic() < deadline, log.read_text()
                assert process.poll() is None, log.read_text()
                time.sleep(0.2)
            yield found.group()
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            finally:
                process.kill()


def ask(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())


def wait_for(question, enough):
    """Ask until the server has loaded what is needed."""
    deadline = time.monotonic() + 60
    while not enough(answer := question()):
        assert time.monotonic() < deadline, answer
        time.sleep(0.5)
    return answer


@pytest.mark.long
@pytest.mark.parametrize("loader", ["--load_fast=auto", "--load_fast=false"])
def test_real_server_shows_every_run(tmp_path, loader):
    logdir = tmp_path / "outputs"
    finals = ({"eval/test_ll": -84.5, "eval/broken": float("nan")}, {"eval/test_ll": -90.0})
    write_run(logdir / "a", {"lr": 0.5, "model": "bihm", "depth": 3}, finals[0], success=False)
    write_run(logdir / "b", {"lr": 0.25, "samples": 5, "lr_end": float("inf")}, finals[1])
    with closing(Logbook(logdir / "a", 20)) as book:
        book.hparams({"lr": 0.5, "model": "bihm", "depth": 4})
        book.image(20, "samples", *pictures.grid(np.zeros((2, 3, 4), np.uint8)))
        book.text(0, "config", "**bold**")
        book.layout(["train/log_p", "valid/log_p", "valid/two_log_z", "weight_norm/p.0.w"])
        book.histograms(20, {"ess_p": np.array([0.5, 0.25, np.nan, 1.0])})
        # Its fast loader drops orphans not at the START but at a curve's next point.
        book.evaluation(25, 2.5, 1.0, {"valid/log_p": -1.0})
        book.session_end(20, finals[0], True)
    with server(logdir, loader) as address:
        data = address + "data/"
        wait_for(lambda: ask(data + "runs"), lambda runs: sorted(runs) == ["a", "b"])
        listing = ask(data + "plugins_listing")
        for name in ("scalars", "images", "text", "hparams", "histograms", "custom_scalars"):
            assert listing[name]["enabled"], name
        points = ask(data + "plugin/scalars/scalars?run=a&tag=valid/log_p")
        assert [point[1:] for point in points] == [[10, -110.0], [20, -120.0], [25, -1.0]]
        assert "samples" in ask(data + "plugin/images/tags")["a"]
        assert ask(data + "plugin/text/tags")["a"] == ["config"]
        (text,) = ask(data + "plugin/text/text?run=a&tag=config")
        assert "<strong>bold</strong>" in text["text"]
        check_hparams(data + "plugin/hparams/")
        check_charts(data + "plugin/custom_scalars/")
        (at,) = ask(data + "plugin/histograms/histograms?run=a&tag=ess_p")
        assert sum(count for *_, count in at[2]) == 3


def check_charts(address):
    """A layout as TensorBoard's own plug-in reads it, and that its patterns find the points."""
    categories = {one["title"]: one["chart"] for one in ask(address + "layout")["category"]}
    assert list(categories) == ["train and valid", "train or valid alone", "by layer"]
    (together,) = categories["train and valid"]
    assert together == {"title": "log_p", "multiline": {"tag": ["^(train|valid)/log_p$"]}}
    assert [one["title"] for one in categories["train or valid alone"]] == ["valid/two_log_z"]
    assert categories["by layer"][0]["multiline"]["tag"] == ["^weight_norm/.*$"]
    pattern = urllib.parse.quote(together["multiline"]["tag"][0])
    found = ask(address + f"scalars?run=a&tag={pattern}")
    assert found["regex_valid"]
    assert list(found["tag_to_events"]) == ["valid/log_p"]


def check_hparams(address):
    experiment = ask(address + "experiment", {})
    columns = {info["name"] for info in experiment["hparamInfos"]}
    assert columns == {"lr", "model", "depth", "samples", "lr_end"}
    metrics = [info["name"] for info in experiment["metricInfos"]]
    assert {"eval/test_ll", "valid/log_p"} <= {name["tag"] for name in metrics}
    statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    wanted = {
        "startIndex": 0,
        "sliceSize": 10,
        "allowedStatuses": statuses,
        "colParams": [{"hparam": name} for name in sorted(columns)]
        + [{"metric": name} for name in metrics],
    }
    groups = ask(address + "session_groups", wanted)["sessionGroups"]
    assert len(groups) == 2
    rows = {group["sessions"][0]["name"]: group for group in groups}
    assert rows["a"]["hparams"] == {"lr": 0.5, "model": "bihm", "depth": 4}
    assert rows["b"]["hparams"] == {"lr": 0.25, "samples": 5, "lr_end": "inf"}
    for name, score in (("a", -84.5), ("b", -90.0)):
        assert rows[name]["sessions"][0]["status"] == "STATUS_SUCCESS"
        values = {m["name"]["tag"]: m["value"] for m in rows[name]["metricValues"]}
        assert values["eval/test_ll"] == score
