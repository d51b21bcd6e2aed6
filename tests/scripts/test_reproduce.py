"""The scripts that make RESULTS.md: what they run, go on with and skip, and what they write of it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "scripts" / "reproduce"))
import jobs
import levels
import reproduce
import search
import tables

import bihm
from bihm.config import to_yaml

FOLDER = Path(__file__).parents[2] / "scripts" / "reproduce"

SMALL = (
    "dataset=bars layers=[4] depth=1 batch_size=250 eval.every=5 eval.final_K=6 "
    "eval.final_z_outer=100 checkpoint.every_seconds=0"
)
RECIPE = "bihm_nltcs"
CELL = {"recipe": RECIPE, "method": "BiHM", "published": "5.5", "best": "4.4", "by": "MADE"}
OTHER = {"recipe": "rws_web", "method": "-", "best": "4.4", "by": "MADE", "noise": ".1"}
TABLES = {"one": {"source": "A paper", "cells": [CELL, OTHER]}}
DOCUMENT = "# Title\n\n<!-- one -->\nold\n<!-- end of one -->\n\nafter\n"


def made_up(folder, results, seed, log_p):
    """A finished run with the results of a real one, but for a number."""
    run = folder / f"{RECIPE}-seed{seed}"
    shutil.copytree(results, run)
    block = json.loads((run / "results.json").read_text())
    block["test"]["log_p"] = {"mean": log_p, "sem": 0.25}
    block["test"]["two_log_z"] |= {"mean": -0.5, "low": -0.7 - seed, "high": -0.3}
    (run / "results.json").write_text(json.dumps(block))
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("\nseed: 0\n", f"\nseed: {seed}\n"))
    commits = "abc1234, def5678" if seed else "abc1234"  # a later one went on with it
    (run / jobs.MADE_BY).write_text(json.dumps({"words": [], "commit": commits}))
    return run


@pytest.fixture
def document(tmp_path):
    file = tmp_path / "RESULTS.md"
    file.write_text(DOCUMENT)
    return file


def rows(document):
    lines = [line for line in document.read_text().splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def test_a_table_says_what_finished_runs_say_and_nothing_else(document, uninterrupted, tmp_path):
    for seed, log_p in ((0, -7.0), (1, -8.0), (2, -7.5)):
        made_up(tmp_path, uninterrupted[0], seed, log_p)
    (tmp_path / f"{RECIPE}-seed2" / "status.json").write_text('{"status": "interrupted"}')
    assert tables.write_tables(document, TABLES, [tmp_path]) == ["one"]
    text = document.read_text()
    assert text.startswith("# Title\n\n<!-- one -->\nPublished: A paper.\n")
    assert text.endswith("<!-- end of one -->\n\nafter\n")
    assert "old" not in text
    ours, none = rows(document)
    named = dict(zip(tables.HEAD, ours, strict=True))
    assert named["-log p"] == "7.50 +- 0.25 (0.50)"  # of two seeds: 7 and 8
    assert named["2 log Z [95 %]"] == "-0.500 [-1.700, -0.300]"
    assert named["published (method)"] == "5.5 (BiHM)"
    assert named["best of any"] == "4.4 (MADE)"
    test, train = uninterrupted[1]["test"], uninterrupted[1]["train"]
    assert named["ESS p / p\\*, %"] == f"{100 * test['ess_p']:.1f} / {100 * test['ess_p_star']:.1f}"
    assert named["K"] == str(test["K"])
    assert named["updates"] == str(train["steps"])
    assert (named["seeds"], named["device"], named["commit"]) == ("0, 1", "cpu", "abc1234, def5678")
    assert none[:2] == ["`rws_web`", "not run"]
    assert none[4] == "4.4 (MADE) +- .1"
    before = document.read_bytes()
    tables.write_tables(document, TABLES, [tmp_path])
    assert document.read_bytes() == before


def test_one_seed_has_no_error_over_seeds_and_runs_are_looked_for_in_order(
    document, uninterrupted, tmp_path
):
    made_up(tmp_path / "kept", uninterrupted[0], 0, -9.0)
    tables.write_tables(document, TABLES, [tmp_path / "nothing", tmp_path / "kept"])
    assert rows(document)[0][1] == "9.00 +- 0.25"
    made_up(tmp_path / "mine", uninterrupted[0], 0, -7.0)
    tables.write_tables(document, TABLES, [tmp_path / "mine", tmp_path / "kept"])
    assert rows(document)[0][1] == "7.00 +- 0.25"


def test_an_ensemble_is_marked_as_one(document, uninterrupted, tmp_path):
    made_up(tmp_path, uninterrupted[0], 0, -7.0)
    block = {"K": 5, "log_p": {"mean": -6.0, "sem": 0.004}, "members": [{}, {}]}
    (tmp_path / f"{RECIPE}-mixture.json").write_text(json.dumps(block))
    tables.write_tables(document, TABLES, [tmp_path])
    row = rows(document)[1]
    assert row[0] == f"`{RECIPE}`, **ensemble** of 2"
    assert row[1] == "6.000 +- 0.004"
    assert len(row) == len(tables.HEAD)


def test_an_ensemble_of_other_seeds_is_evaluated_anew(uninterrupted, tmp_path, monkeypatch):
    runs = [made_up(tmp_path, uninterrupted[0], seed, -7.0) for seed in (0, 1, 2)]
    file, asked = tmp_path / f"{RECIPE}-mixture.json", []

    def estimate(words):
        given = dict(word.split("=", 1) for word in words)
        asked.append(given)
        content = {"K": int(given["K"]), "mixture_of": given["run"].split(",")}
        Path(given["out"]).write_text(json.dumps(content))

    monkeypatch.setattr(reproduce.evaluate, "main", estimate)
    for seeds, K in (([0, 1], 5), ([0, 1], 5), ([0, 1, 2], 5), ([0, 1, 2], 7)):
        reproduce.mix(tmp_path, RECIPE, seeds, K)
        content = json.loads(file.read_text())
        assert (content["K"], content["mixture_of"]) == (K, [str(runs[seed]) for seed in seeds])
    assert len(asked) == 3  # the second had been done
    assert [path.name for path in tmp_path.glob("*mixture*")] == [file.name]


def test_a_run_is_published_with_its_weights_or_for_its_numbers_alone(
    document, uninterrupted, tmp_path
):
    for seed in (0, 1):
        run = made_up(tmp_path / "runs", uninterrupted[0], seed, -7.0)
        if seed:
            (run / jobs.MADE_BY).unlink()  # begun by hand, not by a script
        reproduce.publish(run, tmp_path / "kept", weights=seed == 0)
    assert tables.write_tables(document, TABLES, [tmp_path / "kept"]) == ["one"]
    assert rows(document)[0][1] == "7.00 +- 0.25 (0.00)"  # of two seeds
    assert rows(document)[0][-1] == "abc1234, ?"
    names = {path.parent.name for path in (tmp_path / "kept").rglob("weights.safetensors")}
    assert names == {f"{RECIPE}-seed0"}
    assert not [path for path in (tmp_path / "kept").rglob("*") if path.name == "checkpoints"]


def test_densities_have_a_table_of_their_own(document, uninterrupted, tmp_path):
    cell = {"recipe": RECIPE, "published": "236", "published_directed": "126"}
    cells = [cell, cell | {"recipe": "rws_web"}]
    parzen = {"one": {"source": "A paper", "score": "parzen", "cells": cells}}
    assert tables.write_tables(document, parzen, [tmp_path]) == []
    assert document.read_text() == DOCUMENT  # its runs may lie elsewhere
    for seed, mean in ((0, 236.0), (1, 238.0)):
        run = made_up(tmp_path, uninterrupted[0], seed, -7.0)
        results = json.loads((run / "results.json").read_text())
        results["test"] = {
            name: {"mean": mean - less, "sem": 1.75, "sigma": 0.2154, "samples": 10000}
            for less, name in enumerate(("parzen", "parzen_directed", "parzen_anchor"))
        }
        (run / "results.json").write_text(json.dumps(results))
    tables.write_tables(document, parzen, [tmp_path])
    named = dict(zip(tables.densities.HEAD, rows(document)[0], strict=True))
    assert named["Parzen estimate"] == "237.0 +- 1.8 (1.0)"
    assert named["of directed samples"] == "236.0 +- 1.8 (1.0)"
    assert named["of training rows (anchor)"] == "235.0 +- 1.8 (1.0)"
    assert (named["sigma"], named["samples"], named["seeds"]) == ("0.215", "10000", "0, 1")
    assert rows(document)[1][:6] == ["`rws_web`", "not run", "-", "-", "236", "126"]


@pytest.mark.parametrize(
    ("log_p", "against_bihm", "against_best"),
    [
        (-5.5, "level (+0.00)", "behind by 1.10"),
        (-5.59, "level (-0.09)", "behind by 1.19"),
        (-5.61, "behind by 0.11", "behind by 1.21"),
        (-5.39, "better by 0.11", "behind by 0.99"),
        (-4.47, "better by 1.03", "level (-0.07)"),
        (-4.25, "better by 1.25", "better by 0.15"),
    ],
)
def test_a_set_is_better_or_behind_only_beyond_the_noise_of_its_rows(
    log_p, against_bihm, against_best, uninterrupted, tmp_path
):
    made_up(tmp_path, uninterrupted[0], 0, log_p)
    cells = [CELL | {"noise": ".1"}, OTHER, OTHER | {"recipe": "rws_nltcs"}]
    head, _, *rows = levels.table_of({"one": {"cells": cells}}, [tmp_path]).splitlines()
    assert len(rows) == 1  # of the set that has a BiHM
    row = dict(zip(head.split(" | "), rows[0].split(" | "), strict=True))
    assert row["| set"] == "| nltcs"
    assert row["BiHM: ours"] == f"{-log_p:.2f} (one seed), {against_bihm}"
    assert (row["RWS, sbn: ours"], row["DARN: ours"]) == ("not run", "-")
    assert row["the best of ours"] == f"{-log_p:.2f} (`{RECIPE}`)"
    assert row["against the published BiHM"] == against_bihm
    assert row["against the best of any |"] == f"{against_best} |"


@pytest.mark.parametrize(("seeds", "mark"), [(1, " (one seed)"), (2, " (two seeds)"), (3, "")])
def test_fewer_seeds_than_three_are_said(seeds, mark, uninterrupted, tmp_path):
    for seed in range(seeds):
        made_up(tmp_path, uninterrupted[0], seed, -5.5)
    table = levels.table_of({"one": {"cells": [CELL | {"noise": ".1"}]}}, [tmp_path])
    assert f"| 5.50{mark}, level (+0.00) |" in table


def test_the_best_of_a_set_may_be_an_ensemble_of_any_rules(uninterrupted, tmp_path):
    made_up(tmp_path, uninterrupted[0], 0, -5.0)
    made_up(tmp_path, uninterrupted[0], 1, -6.0)
    made_up(tmp_path, uninterrupted[0], 2, -5.5)
    block = {"log_p": {"mean": -5.25, "sem": 0.004}, "members": [{}, {}, {}]}
    (tmp_path / "both_nltcs-mixture.json").write_text(json.dumps(block))
    (tmp_path / "both_plants-mixture.json").write_text(json.dumps(block))
    cells = [CELL | {"noise": ".1", "rows": "other rows"}]
    row = levels.table_of({"one": {"cells": cells}}, [tmp_path / "none", tmp_path]).splitlines()[2]
    assert row.split(" | ")[:3] == ["| nltcs, other rows", ".1", "5.50, level (+0.00)"]
    assert row.split(" | ")[5:7] == ["5.250 (`both_nltcs`, ensemble of 3)", "better by 0.250"]


def test_every_recipe_with_a_published_number_exists():
    published = jobs.recorded(reproduce.PUBLISHED)
    recipes = [cell["recipe"] for table in published.values() for cell in table["cells"]]
    assert len(set(recipes)) == len(recipes)
    for recipe in recipes:
        assert (FOLDER.parents[1] / "configs" / "experiment" / f"{recipe}.yaml").is_file()
    document = (FOLDER.parents[1] / "RESULTS.md").read_text()
    for name in (*published, "levels"):
        assert f"<!-- {name} -->" in document
        assert f"<!-- end of {name} -->" in document


def ran(like, folder, name, plan, setting, limits=()):
    """The run of a setting as a search would have left it, with the numbers of another."""
    (job,) = search.jobs_of(folder, name, plan | {"settings": [setting]})
    shutil.copytree(like, job.directory)
    config, _ = jobs.compose_words([*job.words, *limits])
    (job.directory / "config.yaml").write_text(to_yaml(config))
    return job.directory


def test_a_search_reads_valid_alone_and_puts_the_best_first(uninterrupted, tmp_path):
    settings = [["K=3"], ["K=4"], ["layers=[5,2]"], ["K=9"], ["optim.lr=9"]]
    plan = {"words": ["dataset=bars"], "settings": settings}
    for setting, log_p in ((["K=3"], -9.0), (["K=4"], -7.0), (["layers=[5,2]"], -8.0)):
        run = ran(uninterrupted[0], tmp_path, "bars", plan, setting)
        block = json.loads((run / "results.json").read_text())
        block["valid"]["log_p"]["mean"] = log_p
        del block["test"]
        (run / "results.json").write_text(json.dumps(block))
    for setting, reason in (
        ("optim.lr=9", "NumbersError: train/loss is nan at step 3; lower optim.lr"),
        ("K=9", "OSError: no space left on device"),
    ):
        failed = tmp_path / "bars" / setting
        failed.mkdir()
        (failed / "status.json").write_text(json.dumps({"status": "failed", "reason": reason}))
    found = search.record(tmp_path, "bars", plan)
    assert [entry["setting"] for entry in found["tried"]] == [["K=4"], ["layers=[5,2]"], ["K=3"]]
    assert found["tried"][0]["valid_log_p"] == -7.0
    assert found["not_run"] == [["K=9"]]
    (last, row) = search.table_of([found], "log_p").splitlines()[-1:-3:-1]
    assert last.startswith("| bars | `K=9` | not run |")
    assert row.startswith("| bars | `optim.lr=9` | train/loss is nan at step 3 |")
    # What a record says of runs that are gone stays, as long as it is about the same words.
    shutil.rmtree(tmp_path / "bars")
    assert search.record(tmp_path, "bars", plan, found) == found
    assert search.record(tmp_path, "bars", plan)["not_run"] == settings
    other = plan | {"words": ["dataset=bars", "K=2"]}
    assert search.record(tmp_path, "bars", other, found)["not_run"] == settings


def test_a_search_records_no_run_of_other_words(uninterrupted, tmp_path):
    """Limits that differ, which a run may be given later, make no other run, but other numbers."""
    plan = {"words": ["dataset=bars", "epochs=9"], "settings": [["K=3"], ["K=4"]]}
    for setting, limits in ((["K=3"], ["epochs=4"]), (["K=4"], ["stop.patience=3"])):
        ran(uninterrupted[0], tmp_path, "bars", plan, setting, limits)
    found = search.record(tmp_path, "bars", plan)
    assert (found["tried"], found["not_run"]) == ([], plan["settings"])
    shutil.copytree(tmp_path / "bars" / "K=4", tmp_path / "bars" / "K=5")
    with pytest.raises(SystemExit, match="holds another run: K was 4, now 5"):
        search.record(tmp_path, "bars", plan | {"settings": [["K=5"]]})


@pytest.mark.long
def test_a_search_says_what_failed_and_leaves_what_was_noted(document, tmp_path):
    """Other epochs under a cosine are refused: the run stays what it was, by its old words."""
    plan = {
        "words": ["dataset=bars", *SMALL.split(), "optim.schedule=cosine"],
        "settings": [["epochs=2"]],
    }
    file, folder = tmp_path / "plan.json", tmp_path / "runs"
    words = ["--plan", file, "--records", tmp_path / "records", "--results", document]

    def searched():
        file.write_text(json.dumps({"bars": plan}))
        command = [sys.executable, FOLDER / "search.py", folder, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert searched().returncode == 0
    (old,) = (folder / "bars").iterdir()
    before = json.loads((old / jobs.MADE_BY).read_text())
    plan["settings"] = [["epochs=3"]]
    old.rename(folder / "bars" / "epochs=3")
    done = searched()
    assert done.returncode == 1
    assert "1 of 1 runs failed" in done.stderr
    assert json.loads((folder / "bars" / "epochs=3" / jobs.MADE_BY).read_text()) == before
    assert jobs.recorded(tmp_path / "records" / "bars.json")["tried"] == []


def test_a_search_may_compare_densities_which_have_a_table_of_their_own(uninterrupted, tmp_path):
    bits = {"words": ["dataset=bars"], "settings": [["K=3"]]}
    grey = {"words": ["model=targetprop"], "settings": [[], ["model.N=3"]], "score": "parzen"}
    for folder, block in (
        ("bits/K=3", {"log_p": {"mean": -9.0, "sem": 0.1}, "ess_p": 0.5}),
        ("grey/as-it-is", {"parzen": {"mean": 230.0, "sem": 1.5}}),
        ("grey/model.N=3", {"parzen": {"mean": 236.0, "sem": 1.5}}),
    ):
        name, setting = folder.split("/")
        plan = {"bits": bits, "grey": grey}[name]
        run = ran(
            uninterrupted[0], tmp_path, name, plan, [] if setting == "as-it-is" else [setting]
        )
        results = json.loads((run / "results.json").read_text()) | {"valid": block}
        (run / "results.json").write_text(json.dumps(results))
    records = [search.record(tmp_path, n, plan) for n, plan in (("bits", bits), ("grey", grey))]
    assert [entry["valid_parzen"] for entry in records[1]["tried"]] == [236.0, 230.0]
    of_bits, of_densities = (search.table_of(records, score) for score in ("log_p", "parzen"))
    assert "grey" not in of_bits
    assert "| 9.00 +- 0.10 | 50.0 |" in of_bits
    assert "bits" not in of_densities
    assert "| grey | `model.N=3` | 236.00 +- 1.50 |" in of_densities
    assert "| grey | as it is | 230.00 +- 1.50 |" in of_densities


@pytest.mark.long
def test_how_a_machine_is_sampled_is_looked_for_on_valid(tmp_path):
    small = ["dataset=bars", "layers=[6,3]", "epochs=2", "batch_size=250", "model.N=2"]
    samples = ["eval.parzen_samples=20", "eval.final_parzen_samples=60"]
    bihm.train("model=targetprop", *small, *samples, directory=tmp_path / "run")
    record = tmp_path / "record.json"
    words = [tmp_path / "run", "--record", record, "--variances", "4,9", "--rounds"]
    for rounds in ("0", "0,1"):  # the second time only what is new
        done = subprocess.run(
            [sys.executable, FOLDER / "how_to_sample.py", *words, rounds],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.partition("best last")[0].count("valid_parzen") == 2
    tried = jobs.recorded(record)["tried"]
    assert {(one["top_variance"], one["rounds"]) for one in tried} == {
        (4, 0),
        (9, 0),
        (4, 1),
        (9, 1),
    }
    assert [one["valid_parzen"] for one in tried] == sorted(one["valid_parzen"] for one in tried)
    assert all(one["sem"] > 0 and 0.1 <= one["sigma"] <= 1 for one in tried)
    other = shutil.copytree(tmp_path / "run", tmp_path / "other")
    command = [sys.executable, FOLDER / "how_to_sample.py", other, "--record", record]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "record.json is the record of run; give another --record" in done.stderr


@pytest.mark.long
def test_what_a_search_is_to_try_has_a_place_and_words_of_its_own():
    for name, plan in jobs.recorded(search.PLAN).items():
        found = search.jobs_of(Path("runs"), name, plan)
        assert len({job.directory for job in found}) == len(found)
        for job in found:
            config, _ = jobs.compose_words(job.words)
            assert config.dataset.name in name  # a set's or a recipe's
            assert config.seed == 0
            assert max(map(len, job.directory.parts)) < 200  # of the 255 that file systems allow


def start(*words):
    return subprocess.Popen(
        [sys.executable, str(FOLDER / "reproduce.py"), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(FOLDER.parents[1])},
    )


@pytest.mark.long
def test_runs_go_on_where_they_were_and_are_done_once(document, tmp_path):
    (tmp_path / "published.json").write_text(json.dumps(TABLES))
    more = ["--published", tmp_path / "published.json", "--results", document, "--jobs", "2"]
    long = [tmp_path / "runs", RECIPE, "--seeds", "0,1", "--words", f"{SMALL} epochs=200", *more]
    begun = start(*long)
    runs = [tmp_path / "runs" / f"{RECIPE}-seed{seed}" for seed in (0, 1)]
    while not all((run / ".checkpointed").exists() for run in runs):
        assert begun.poll() is None, begun.communicate()[0]
        time.sleep(0.1)
    begun.send_signal(signal.SIGTERM)
    told = begun.communicate()[0]
    assert begun.returncode == 75, told
    assert [json.loads((r / "status.json").read_text())["status"] for r in runs] == [
        "interrupted"
    ] * 2
    assert document.read_text() == DOCUMENT
    made = runs[1] / jobs.MADE_BY  # though its script never saw it end
    commit = json.loads(made.read_text())["commit"]
    made.write_text(json.dumps({"words": [], "commit": "abc1234"}))
    again = start(*long, "--mixtures")
    told = again.communicate()[0]
    assert again.returncode == 0, told
    assert "going on" in (runs[0] / "train.log").read_text()
    ours, mixed = rows(document)[:2]
    named = dict(zip(tables.HEAD, ours, strict=True))
    assert (named["K"], named["seeds"]) == ("6", "0, 1")
    assert re.fullmatch(r"[0-9a-f]{7,}\+?|\?", commit)
    assert named["commit"] == f"{commit}, abc1234"  # the second was gone on with
    assert "ensemble" in mixed[0]
    before = [(run / "results.json").stat().st_mtime_ns for run in runs]
    third = start(*long)
    told = third.communicate()[0]
    assert third.returncode == 0
    assert "begin" not in told
    assert [(run / "results.json").stat().st_mtime_ns for run in runs] == before
    other = start(*[word if word != long[5] else f"{SMALL} epochs=200 K=3" for word in long])
    told = other.communicate()[0]
    assert other.returncode == 1
    assert told.startswith(f"{runs[0]} holds another run: K was 10, now 3; choose another folder")
