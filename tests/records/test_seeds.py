"""Seeds of one setting: grouped by all other keys, and their curves as a mean with a band."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from bihm.config import Config, flatten
from bihm.records.seeds import FOLDER, curves, mean_and_sd, settings, write_means


def flat(**values):
    return flatten(Config()) | {key.replace("__", "."): value for key, value in values.items()}


def test_settings_are_told_apart_by_every_key_but_the_seed():
    configs = {
        Path("a"): flat(seed=0, optim__lr=1e-3),
        Path("b"): flat(seed=0, optim__lr=3e-3),
        Path("c"): flat(seed=7, optim__lr=1e-3),
    }
    first, second = settings(configs)
    assert first == ({"optim.lr": "0.001"}, [Path("a"), Path("c")])
    assert second == ({"optim.lr": "0.003"}, [Path("b")])
    (alone,) = settings({Path("a"): flat(seed=0), Path("b"): flat(seed=1)})
    assert alone == ({}, [Path("a"), Path("b")])


def test_a_run_that_was_made_twice_is_one_seed():
    configs = {Path(name): flat(seed=seed, K=5) for name, seed in (("a", 0), ("b", 0), ("c", 1))}
    assert settings(configs) == [({}, [Path("a"), Path("c")])]
    configs[Path("b")]["devices"] = 2  # as it is on other devices
    assert settings(configs) == [({}, [Path("a"), Path("c")])]


def test_mean_and_deviation():
    assert mean_and_sd([1.0, 2.0, 6.0]) == (3.0, pytest.approx(np.std([1, 2, 6], ddof=1)))
    assert mean_and_sd([4.0])[0] == 4.0
    assert math.isnan(mean_and_sd([4.0])[1])


def write_run(directory, values, broken="", **more):
    directory.mkdir()
    lines = [
        {"step": 10 * (i + 1), "epoch": i + 1, "seconds": 2.0, "valid/log_p": value, **more}
        for i, value in enumerate(values)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (directory / "metrics.jsonl").write_text(text + broken)
    return directory


@pytest.fixture
def jobs(tmp_path):
    return [
        write_run(tmp_path / "0", [-4.0, -2.0, -1.0], weight_norm=3.0),
        write_run(tmp_path / "1", [-8.0, -3.0], '{"step": 30, "val', weight_norm=5.0),
    ]


def test_a_curve_is_the_mean_of_all_and_ends_where_the_first_run_does(jobs):
    found = curves(jobs)
    assert list(found) == [10, 20]
    assert found[10]["valid/log_p"] == (-6.0, pytest.approx(8**0.5))
    assert found[20]["valid/log_p"].mean == -2.5
    assert found[10]["weight_norm"].mean == 4.0


def test_what_some_runs_lack_has_no_mean(jobs, tmp_path):
    odd = write_run(tmp_path / "2", [None, -3.0])
    found = curves([*jobs, odd])
    assert "valid/log_p" not in found[10]
    assert "weight_norm" not in found[20]
    assert found[20]["valid/log_p"].mean == pytest.approx(-8 / 3)
    assert curves([*jobs, tmp_path / "nowhere"]) == {}


def read(directory):
    return EventAccumulator(str(directory), {"tensors": 0}).Reload()


def points(events, tag):
    return [(one.step, one.value) for one in events.Scalars(tag)]


def test_tensorboard_shows_a_run_with_mean_and_band_and_no_hparams(jobs, tmp_path):
    write_means(settings({job: flat(seed=i) for i, job in enumerate(jobs)}), tmp_path)
    events = read(tmp_path / FOLDER)
    assert points(events, "valid/log_p") == [(10, -6.0), (20, -2.5)]
    low, high = (points(events, f"mean{sign}sd/valid/log_p") for sign in "-+")
    assert low == [(10, pytest.approx(-6 - 8**0.5)), (20, pytest.approx(-2.5 - 0.5**0.5))]
    assert high == [(10, pytest.approx(-6 + 8**0.5)), (20, pytest.approx(-2.5 + 0.5**0.5))]
    assert points(events, "weight_norm") == [(10, 4.0), (20, 4.0)]
    assert "mean-sd/weight_norm" not in events.Tags()["scalars"]
    with pytest.raises(KeyError):
        events.PluginTagToContent("hparams")
    (layout,) = events.Tensors("custom_scalars__config__")
    told = layout_pb2.Layout.FromString(layout.tensor_proto.string_val[0])
    ((series,),) = [chart.margin.series for chart in told.category[0].chart]
    tags = (series.value, series.lower, series.upper)
    assert tags == ("valid/log_p", "mean-sd/valid/log_p", "mean+sd/valid/log_p")


def test_settings_that_are_named_alike_each_have_their_curves(jobs, tmp_path):
    configs = {
        write_run(tmp_path / f"{name}{i}", [value]): flat(seed=i, dataset__path=f"{name}.csv")
        for name, value in (("alpha", -1.0), ("ä", -2.0), ("ö", -3.0))
        for i in range(2)
    }
    write_means(settings(configs), tmp_path)
    found = {
        folder.name: points(read(folder), "valid/log_p")[0][1]
        for folder in (tmp_path / FOLDER).iterdir()
    }
    assert found.pop("dataset.path=alpha.csv") == -1.0
    assert sorted(found.values()) == [-3.0, -2.0]


def test_a_run_for_each_setting_with_several_seeds_and_none_of_before(jobs, tmp_path):
    more = write_run(tmp_path / "2", [-1.0])
    configs = {job: flat(seed=i, optim__lr=1e-3) for i, job in enumerate(jobs)}
    old = tmp_path / FOLDER / "K=5"
    old.mkdir(parents=True)
    write_means(settings(configs | {more: flat(seed=0, optim__lr=3e-3)}), tmp_path)
    (one,) = (tmp_path / FOLDER).iterdir()
    assert one.name == "optim.lr=0.001"
