"""`like=RUN`: a run's configuration again, below the words that are given beside it."""

import os
from pathlib import Path

import pytest
from cases import rare
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from malformed import check, home
from small_run import tiny

from bihm import paths
from bihm.cli import command_words, imports, sweep, untrusted_files
from bihm.config import flatten, parse, register, to_yaml
from bihm.config.schema import Config

__all__ = ["home"]  # a fixture


@pytest.fixture(autouse=True)
def nothing_stored():
    yield
    ConfigStore.instance().repo.pop("like", None)


def save(config, name="run"):
    os.makedirs(name)
    (Path(name) / "config.yaml").write_text(to_yaml(config))


def composed(*given):
    """What a job would be given for these words, and the configuration that it makes of it."""
    register()
    sweep.register()
    imports.register()
    untrusted_files.install()
    turned = command_words.turn(given, False)
    with initialize_config_dir(str(paths.configs()), version_base="1.3"):
        return parse(compose("train", overrides=turned), [word.partition("=")[0] for word in given])


def by_rule(**changes):
    """A run whose sizes of layers follow from its depth."""
    config = tiny(depth=2, **changes)
    config.layers = composed("dataset=bars", "depth=2").layers
    return config


def test_every_key_of_the_run_comes_back(home):
    config = tiny(K=7, seed=5, max_seconds=3.5, p__layer=["dsbn", "sbn", "sbn"], p__hidden=[4, 5])
    config.model.name, config.model.q_update, config.model.sleep_batch_size = "rws", "both", 9
    config.optim.phases = load_phases()
    config.checkpoint.every_seconds = 0.5
    save(config)
    assert flatten(composed("like=run")) == flatten(config)


def load_phases():
    return parse_phases("optim.phases=[{K: 2, lr: 0.1},{K: 3, patience: 4}]")


def parse_phases(word):
    return composed(word).optim.phases


def test_the_words_win_wherever_they_stand(home):
    save(tiny(K=7, seed=5))
    for given in (["like=run", "K=3"], ["K=3", "like=run"]):
        config = composed(*given)
        assert (config.K, config.seed) == (3, 5)


def test_a_rule_given_beside_it_has_its_own_options(home):
    config = tiny(K=7)
    config.model.name, config.model.q_update = "rws", "wake"
    save(config)
    other = composed("like=run", "model=bihm")
    assert (other.model.name, other.model.q_update, other.K) == ("bihm", None, 7)
    assert composed("like=run", "model=rws").model.q_update == "both"  # as model=rws alone says
    assert composed("like=run", "model.q_update=sleep").model.q_update == "sleep"


@pytest.mark.parametrize(
    ("rule", "K", "other", "expected"),
    [
        ("wake_sleep", 1, "rws", 10),
        ("bihm", 10, "wake_sleep", 1),
        ("wake_sleep", 5, "rws", 5),
        ("rws", 30, "wake_sleep", 30),
        ("rws", 10, "bihm", 10),
    ],
)
def test_another_rule_has_its_own_number_of_samples_unless_one_was_given(
    rule, K, other, expected, home
):
    config = tiny(K=K, seed=5)
    config.model.name = rule
    save(config)
    found = composed("like=run", f"model={other}")
    assert (found.model.name, found.K, found.seed) == (other, expected, 5)
    assert found.K == composed(f"model={other}", *([f"K={K}"] if expected == K else [])).K


def test_another_family_has_its_own_keys(home):
    save(composed("model=targetprop", "dataset=mnist", "eval.parzen_samples=50", "epochs=7"))
    bits = composed("like=run", "model=rws", "dataset=digits")
    assert (bits.epochs, bits.eval.parzen_samples) == (7, 1000)
    for key in ("optim", "stop", "depth"):
        assert getattr(bits, key) == getattr(composed("model=rws"), key), key
    save(composed("model=rws", "K=5", "q.layer=darn", "eval.final_K=50", "seed=3"), "other")
    real = composed("like=other", "model=targetprop", "dataset=mnist")
    assert flatten(real) == flatten(composed("model=targetprop", "dataset=mnist", "seed=3"))


@pytest.mark.long
def test_another_dataset_has_its_own_sizes(home):
    save(by_rule(K=7))
    config = composed("like=run", "dataset=adult")
    assert (config.dataset.n_features, config.dataset.image_shape) == (123, None)
    assert config.layers == composed("dataset=adult", "depth=2").layers
    assert config.K == 7


def test_sizes_that_were_given_stay_with_another_dataset(home):
    save(tiny())
    assert composed("like=run", "dataset=adult").layers == [6, 3]


@pytest.mark.parametrize("make", [tiny, *rare(by_rule)])
def test_another_depth_or_other_layers_win(make, home):
    save(make())
    config = composed("like=run", "depth=3")
    assert (config.depth, len(config.layers)) == (3, 3)
    config = composed("like=run", "layers=[4,3,2]")
    assert (config.depth, config.layers) == (3, [4, 3, 2])


@pytest.mark.parametrize("words", [[], ["layers=[5]"]])
def test_sizes_of_a_family_with_another_usual_depth_are_no_contradiction(home, words):
    save(composed("model=targetprop", "dataset=bars", "layers=[5]"))
    again = composed("like=run", "seed=1", *words)
    assert (again.depth, again.layers) == (1, [5])


@pytest.mark.long
def test_another_file_says_its_own_width(home):
    config = tiny()
    config.dataset.name, config.dataset.path = "file", "/nowhere/a.npz"
    save(config)
    again = composed("like=run", "dataset.path=/nowhere/b.npz")
    assert again.dataset == type(again.dataset)("file", None, None, "/nowhere/b.npz")
    assert composed("like=run").dataset == config.dataset


def test_a_sweep_tries_several_runs(home):
    save(tiny(K=7), "a/run")
    save(tiny(K=8), "b/run")
    (word,) = command_words.turn(["like=a/run,b/run"], True)
    one, two = word.removeprefix("like=").split(",")
    assert one != two
    for name, K in ((one, 7), (two, 8)):
        with initialize_config_dir(str(paths.configs()), version_base="1.3"):
            assert compose("train", overrides=[f"like={name}"]).K == K


@pytest.mark.long
def test_defaults_alone_give_the_defaults(home):
    config = composed()
    save(config)
    assert composed("like=run") == config
    assert Config().K == config.K


def test_a_run_of_another_version_is_refused_in_one_line(home):
    save(tiny())
    with Path("run/config.yaml").open("a") as file:
        file.write("news: 3\n")
    check(("bihm-train like=run", 2, "run/config.yaml: there is no key 'news'"), home)
