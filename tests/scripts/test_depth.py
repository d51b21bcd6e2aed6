"""The study of depth: what it runs, and the table and the figure that it makes of runs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parents[2] / "scripts" / "reproduce"))
import depth
import jobs

FOLDER = Path(__file__).parents[2] / "scripts" / "reproduce"


def made_up(folder, results, name, values):
    """Finished runs of one configuration: those of another run, but for its numbers."""
    for seed, value in enumerate(values):
        run = shutil.copytree(results, folder / f"{name}-{seed}")
        block = json.loads((run / "results.json").read_text())
        block["test"] |= {
            "log_p": {"mean": value, "sem": 0.3}, "log_p_star": {"mean": value + 1, "sem": 0.3},
            "ess_p": 0.25, "ess_p_star": 0.125 * (seed + 1),
        }  # fmt: skip
        (run / "results.json").write_text(json.dumps(block))
    return folder


@pytest.fixture
def small_study(monkeypatch, uninterrupted):
    config = jobs.load(uninterrupted[0] / "config.yaml")
    monkeypatch.setattr(depth, "DATASETS", (config.dataset.name,))
    monkeypatch.setattr(depth, "DEPTHS", (config.depth, config.depth + 1))
    return config


def test_a_table_and_a_figure_have_means_over_seeds(small_study, uninterrupted, tmp_path):
    found = depth.read(made_up(tmp_path, uninterrupted[0], "run", [-7.0, -8.0]))
    row, none = depth.table_of(found).splitlines()[2:]
    bihm = "7.50 +- 0.50 | 6.50 +- 0.50"
    assert row == f"| bars | {small_study.depth} | {bihm} | - | - | 25.0 | 18.8 | - | - | 0 to 2 |"
    assert set(none.split(" | ")[2:-1]) == {"-"}
    depth.draw(found, tmp_path / "figure.png")
    drawn = np.asarray(Image.open(tmp_path / "figure.png").convert("RGB")).reshape(-1, 3)
    blue = tuple(bytes.fromhex(depth.COLOURS["bihm"][1:]))
    assert (drawn == blue).all(axis=1).sum() > 20  # the only rule that has runs
    red = tuple(bytes.fromhex(depth.COLOURS["rws"][1:]))
    assert not (drawn == red).all(axis=1).any()


def test_what_has_not_ended_does_not_count(small_study, uninterrupted, tmp_path):
    made_up(tmp_path, uninterrupted[0], "run", [-7.0])
    (tmp_path / "run-0" / "status.json").write_text('{"status": "interrupted"}')
    assert not depth.read(tmp_path)
    done = subprocess.run(
        [sys.executable, FOLDER / "depth.py", tmp_path, "--no-runs"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == f"{tmp_path}: no finished run below it\n"


def test_the_runs_are_one_multirun_and_tell_no_depth_by_another_rate():
    words = depth.command(Path("runs"))
    assert words[:2] == ["bihm-train", "-m"]
    assert words[-1] == f"hydra.sweep.dir={Path('runs').resolve()}"  # it starts elsewhere
    swept = [word.split("=") for word in words[2:-1] if "," in word]
    assert [key for key, _ in swept] == ["dataset", "model", "depth", "seed"]
    first = [f"{key}={values.split(',')[-1]}" for key, values in swept]
    rest = [word for word in words[2:-1] if "," not in word]
    config, _ = jobs.compose_words((*first, *rest))
    assert (config.depth, config.model.name, config.seed) == (12, "wake_sleep", 2)


@pytest.mark.parametrize("text", [None, "no table\n"])
def test_a_document_without_the_table_is_told_before_any_run(text, tmp_path, monkeypatch, capsys):
    document = tmp_path / "RESULTS.md"
    if text is not None:
        document.write_text(text)
    monkeypatch.setattr(depth.subprocess, "run", lambda *_, **__: pytest.fail("it ran"))
    monkeypatch.setattr(sys, "argv", ["depth.py", "runs", "--results", str(document)])
    with pytest.raises(SystemExit) as ended:
        depth.main()
    told = str(ended.value) if text else capsys.readouterr().err
    assert f"{document}: {'has no marker' if text else 'no such file'}" in told
