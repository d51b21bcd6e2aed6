"""`bihm-report` as a user types it: all that a run has is on the page, nothing else is asked for."""

import base64
import hashlib
import json
import re
import shutil
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest
from cases import rare
from small_run import EACH_EPOCH, tiny
from tiny_machine import tiny_machine

from bihm.cli import report as command
from bihm.config import to_yaml
from bihm.config.schema import ModelConfig
from bihm.errors import NumbersError
from bihm.machine.machine import split
from bihm.report import page, pictures, plots, write
from bihm.report.files import RunFiles
from bihm.report.machine import Bounds
from bihm.report.write import write_report
from bihm.run.train import train
from bihm.run.trained import TrainedMachine

QUICK = ["rows=20", "K=30"]
OF_BITS = [
    *("Numbers", "Learning", "How far to believe it", "What it draws", "Which layers are alive"),
    "Configuration",
]
OF_BIHM = [
    *("The estimate against K", "2 log Z against outer samples", "Effective sample size by row"),
    *("k-hat by row", "Samples of p", "The chain of p*", "Completions", "Weights of p(x | h1)"),
    *("Weights of q(h1 | x)", "KL(q || p) by layer", "Activity by layer"),
]


class Reader(HTMLParser):
    """The texts below each tag, and every attribute."""

    def __init__(self, html):
        super().__init__()
        self.texts, self.attributes, self.open, self.balance = {}, [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag  # well formed

    def handle_data(self, data):
        for tag in set(self.open[-2:]):
            self.texts.setdefault(tag, []).append(data.strip())

    def has(self, text):
        return any(text in one for texts in self.texts.values() for one in texts)


@pytest.fixture
def report(shell):
    return partial(shell, command)


@pytest.fixture
def bihm(uninterrupted):
    return uninterrupted[0]


@pytest.fixture
def unseen(monkeypatch):
    """No pictures: their programs take longest to compile."""
    monkeypatch.setattr("bihm.report.machine.pictures", lambda machine: iter(()))


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(uninterrupted, tmp_path_factory):
    """The page of a run, as a text."""
    folder = tmp_path_factory.mktemp("made")
    before = contents(uninterrupted[0])
    path = write_report([uninterrupted[0]], out=str(folder), bounds=Bounds(20, 30))
    assert contents(uninterrupted[0]) == before
    return path.read_text()


@pytest.mark.long
def test_all_is_there_for_bihm(made, bihm):
    html = Reader(made)
    assert [text for text in html.texts["h3"] + html.texts["summary"] if text] == OF_BITS
    for title in OF_BIHM:
        assert title in html.texts["h4"]
    results = json.loads((bihm / "results.json").read_text())
    assert html.has(f"{results['test']['log_p']['mean']:.3f}".replace("-", "\N{MINUS SIGN}"))
    assert html.has("from 20 of the")
    assert html.has("optim.lr")
    assert "data:image/gif;base64," in made
    assert str(bihm.parent) not in made


@pytest.mark.long
def test_equal_runs_make_equal_pages(report, bihm, made, tmp_path):
    code, out, err = report(f"run={bihm}", f"out={tmp_path / 'a.html'}", *QUICK)
    assert (code, out, err) == (0, f"{tmp_path / 'a.html'}\n", "")
    assert (tmp_path / "a.html").read_text() == made


@pytest.mark.long
def test_it_asks_for_nothing_outside_of_itself(made):
    text, html = made, Reader(made)
    for tag, name, value in html.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("src", "srcset", "href", "xlink:href"):
            assert value.startswith(("data:image/", "#")), (tag, name)
    addresses = set(re.findall(r"https?://[^\"\s]*", text))
    assert addresses <= {"http://www.w3.org/1999/xlink"}  # the name of a namespace
    assert "default-src 'none'" in text
    drawn = [colour for colour in plots.COLOURS if colour in text]
    assert drawn == []  # all are the page's own, light or dark


@pytest.mark.long  # of each model the programs that draw samples and complete rows
@pytest.mark.parametrize("model", ["rws", "targetprop"])
def test_what_a_model_does_not_have_is_left_out(report, tmp_path, model):
    config = tiny(epochs=2, model=ModelConfig(model, "both" if model == "rws" else None))
    if model == "targetprop":
        config.eval.parzen_samples, config.eval.final_parzen_samples = 20, 30
        config.K, config.eval.K, config.eval.final_K = 10, 10, 1000
        config.eval.z_outer, config.eval.final_z_outer, config.eval.z_inner = 200, 100_000, 10
    train(config, tmp_path / "run")
    code, _, err = report(f"run={tmp_path / 'run'}", *QUICK)
    assert (code, err) == (0, "")
    html = Reader((tmp_path / "run/report.html").read_text())
    assert not html.has("2 log Z")
    assert not html.has("log p*")
    assert "The chain of p*" not in html.texts["h4"]
    of_bits = model == "rws"
    for title in ("The estimate against K", "KL(q || p) by layer"):
        assert (title in html.texts["h4"]) == of_bits
    assert html.has("Parzen density") != of_bits
    assert "Completions" in html.texts["h4"]


@pytest.mark.long
@pytest.mark.parametrize("side", ["p", "q"])
def test_weights_behind_a_deterministic_layer_are_no_pictures(side, tmp_path):
    """They are between h_1, or x, and units of that layer."""
    machine = tiny_machine(*(["dsbn", "sbn"] if side == "p" else ["sbn", "dsbn"]), visible=16)
    structure, params = split(machine)
    trained = TrainedMachine(tiny(layers=[4, 3, 2]), structure, params, f"{tmp_path}/")
    shown = [one.title for one in pictures._weights(trained, trained.layout)]
    assert shown == ["Weights of q(h1 | x)" if side == "p" else "Weights of p(x | h1)"]


@pytest.mark.long
def test_where_rows_are_no_images_there_are_no_pictures(report, bihm, tmp_path, monkeypatch):
    monkeypatch.setattr("bihm.run.trained.TrainedMachine.layout", None)
    assert report(f"run={bihm}", f"out={tmp_path}", *QUICK)[0] == 0
    html = Reader((tmp_path / "report.html").read_text())
    assert "What it draws" not in html.texts["h3"]
    assert "The estimate against K" in html.texts["h4"]


@pytest.mark.long  # of another width
def test_a_file_of_bits_has_a_page_that_does_not_tell_where_it_lies(report, tmp_path):
    rows = "\n".join(",".join(str((i >> j) & 1) for j in range(6)) for i in range(64))
    (tmp_path / "bits.csv").write_text(rows)
    config = tiny(epochs=1, layers=[4, 3], batch_size=20)
    config.dataset.name, config.dataset.path = "file", str(tmp_path / "bits.csv")
    config.dataset.image_shape, config.dataset.n_features = None, 6
    train(config, tmp_path / "run")
    assert report(f"run={tmp_path / 'run'}", *QUICK)[0] == 0
    text = (tmp_path / "run/report.html").read_text()
    html = Reader(text)
    assert "What it draws" not in html.texts["h3"]
    assert "The estimate against K" in html.texts["h4"]
    assert "bits.csv" in text
    assert str(tmp_path) not in text


def test_a_run_that_did_not_finish_has_a_page_that_says_so(report, bihm, tmp_path):
    place = tmp_path / "run"
    place.mkdir()
    for name in ("config.yaml", "metrics.jsonl"):
        shutil.copy(bihm / name, place / name)
    half = json.dumps({"status": "failed", "reason": "NumbersError: the loss is nan", "time": ""})
    (place / "status.json").write_text(half)
    with (place / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 5, "valid/log_p_til')  # cut off
    code, _, err = report(f"run={place}", *QUICK)
    assert code == 0
    assert err.count("\n") == 1
    assert "Estimates and pictures are left out: checkpoints: there is no checkpoint" in err
    html = Reader((place / "report.html").read_text())
    assert html.has("NumbersError: the loss is nan")
    assert html.has("there is no checkpoint")
    assert "failed" in html.texts["span"]
    assert "Learning" in html.texts["h3"]
    (place / "config.yaml").write_text("K: [")
    assert report(f"run={place}", *QUICK)[0] == 0
    assert Reader((place / "report.html").read_text()).has("config.yaml: line 1: ")


def test_the_page_of_several_runs_says_why_some_did_not_finish():
    names = [f"{n}-K={n}" for n in range(write.MOST_REASONS + 2)]
    rows = [{"status": "failed", "reason": f"ConfigError: no {name}"} for name in names]
    done = RunFiles(Path("done"), "done", {"status": "finished", "reason": "", "layers": None}, [])
    lost = [
        RunFiles(Path(name), name, {**row, "layers": None}, [])
        for name, row in zip(names, rows, strict=True)
    ]
    part = write._together([done, *lost], "valid.log_p")
    assert part.notes[0] == "0-K=0: ConfigError: no 0-K=0"
    assert part.notes[write.MOST_REASONS :] == ["and 2 more"]
    assert write._together([done, *lost[:2]], "valid.log_p").notes[1].startswith("1-K=1: ")


EVIL = "<script>alert(1)</script>\"'&$x_2$"


@pytest.mark.parametrize("pages", ["sweep", *rare("runs")])
def test_what_comes_from_files_is_text(report, bihm, tmp_path, pages):
    place = tmp_path / "run <b>"
    place.mkdir()
    shutil.copy(bihm / "metrics.jsonl", place / "metrics.jsonl")
    config = tiny()
    config.dataset.path, config.dataset.name = f"/x/{EVIL}.csv", "file"
    (place / "config.yaml").write_text(to_yaml(config))
    (place / "status.json").write_text(json.dumps({"status": EVIL, "reason": EVIL}))
    results = {"device": EVIL, "versions": {EVIL: EVIL}, "test": {"log_p": {"mean": EVIL}}}
    (place / "results.json").write_text(json.dumps(results))
    other = tmp_path / "other"
    shutil.copytree(place, other)
    (other / "config.yaml").write_text(to_yaml(tiny(precision="bf16")))
    one_by_one = [f"run={place}"], [f"run={place}", f"run={other}"]
    for words in one_by_one if pages == "runs" else [[f"sweep={tmp_path}"]]:
        code, out, _ = report(*words, f"out={tmp_path / 'page.html'}", *QUICK)
        assert (code, out) == (0, f"{tmp_path / 'page.html'}\n")
        text = (tmp_path / "page.html").read_text()
        html = Reader(text)
        assert text.count("<script") == 1
        assert html.has("alert(1)")
        assert "<b>" not in text
        assert {tag for tag, *_ in html.attributes if tag == "script"} == set()


def test_a_name_with_a_dollar_can_be_drawn():
    svg = plots.effects([(EVIL, [(EVIL, 1.0, 0.1), ("$\\frac{$", 2.0, None)])], 1.5, "a $b_c$")
    assert "&lt;script" in svg
    assert "<script" not in svg
    assert "$b_c$" in svg


@pytest.mark.long
def test_runs_are_laid_over_each_other(report, bihm, tmp_path, unseen):
    train(tiny(seed=1, **EACH_EPOCH), tmp_path / "seed1")
    train(tiny(epochs=3), tmp_path / "less")
    words = [f"run={bihm},{tmp_path / 'seed1'}", f"run={tmp_path / 'less'}"]
    code, _, err = report(*words, f"out={tmp_path}", *QUICK)
    assert (code, err) == (0, "")
    text = (tmp_path / "report.html").read_text()
    html = Reader(text)
    assert html.has("3 of 3 runs have finished; 2 settings.")
    assert html.has("means over up to 2 seeds")
    assert html.has("epochs=4, valid")
    assert "Main effects" in html.texts["h3"]
    assert 'class="sortable"' in text
    assert text.count("The estimate against K</h4>") == 3  # each run whole

    code, out, _ = report(f"sweep={tmp_path}", *QUICK)
    assert (code, out) == (0, f"{tmp_path}/report.html\n")
    text = (tmp_path / "report.html").read_text()
    assert text.count("The estimate against K</h4>") == 1  # the best alone
    assert Reader(text).has("The best on valid: ")


def test_the_script_that_sorts_is_the_one_that_may_run():
    html = page.render(page.Page("a", "", []))
    script = re.search(r"<script>(.*?)</script>", html, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html


@pytest.mark.long
def test_a_disk_that_refuses_and_numbers_that_broke_leave_a_part_out(
    report, bihm, tmp_path, monkeypatch, unseen
):
    def refuse(*args, **named):
        raise PermissionError(13, "Permission denied", "x")

    def broken(*args, **named):
        raise NumbersError("the estimate of log_p is nan")

    monkeypatch.setattr("bihm.report.estimates.look_at_layers", refuse)
    monkeypatch.setattr("bihm.report.estimates.believe", broken)
    code, _, err = report(f"run={bihm}", f"out={tmp_path}", *QUICK)
    assert code == 0
    html = Reader((tmp_path / "report.html").read_text())
    assert html.has("Plots of the layers are left out: x: Permission denied")
    assert html.has("Estimates against K are left out: the estimate of log_p is nan")
    assert err.count("\n") == 2
    assert "2 log Z against outer samples" in html.texts["h4"]
