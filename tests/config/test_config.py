"""Every file under configs/ composes, and every wrong key or value dies with one clear line."""

from pathlib import Path

import pytest
from cases import rare
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bihm import config as schema
from bihm import paths
from bihm.cli import sweep
from bihm.config.families import TARGETPROP, own_columns
from bihm.config.machine_checks import check_machine
from bihm.config.schema import job_name
from bihm.data import names
from bihm.errors import BihmError
from bihm.machine.layer_sizes import layer_sizes
from bihm.machine.rules import RULES

CONFIGS = paths.configs()


def read(*overrides):
    schema.register()
    sweep.register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        raw = compose("train", overrides=list(overrides))
    config = schema.parse(raw, [o.partition("=")[0].lstrip("+") for o in overrides])
    check_machine(config)
    return config


def test_the_defaults_are_the_promised_ones():
    config = read()
    assert (config.model.name, config.dataset.name) == ("bihm", "digits")
    assert (config.depth, config.K, config.batch_size, config.seed) == (12, 10, 100, 0)
    assert (config.optim.lr, config.optim.schedule, config.stop.patience) == (1e-3, "constant", 100)
    assert config.max_seconds is None
    assert config.layers == layer_sizes(12, 64)


def test_the_schema_and_the_file_agree_on_the_defaults():
    from_file, from_code = schema.flatten(read()), schema.flatten(schema.Config())
    different = {key for key in from_file if from_file[key] != from_code[key]}
    assert different == {"dataset.n_features", "dataset.image_shape", "layers"}


def test_twelve_layers_on_784_pixels_are_the_papers():
    paper = [300, 200, 100, 75, 50, 35, 30, 25, 20, 15, 10, 10]
    assert read("dataset=binarized_mnist", "depth=12").layers == paper


def files():
    """Each file; most recipes and datasets among the long tests."""
    quick = ("digits", "bars", "file", "mnist")
    for path in sorted(CONFIGS.glob("*/*.yaml")):
        one = path.parent.name not in ("experiment", "dataset") or path.stem in quick
        long = [] if one else [pytest.mark.long]
        yield pytest.param(path, marks=long, id=f"{path.parent.name}-{path.stem}")


@pytest.mark.parametrize("path", list(files()))
def test_every_file_composes(path: Path):
    group, name = path.parent.name, path.stem
    config = read(f"{group}={name}")
    if group in ("model", "dataset"):
        assert getattr(config, group).name == name
    if group == "experiment":
        assert path.read_text().startswith("# @package _global_")


def test_every_dataset_has_a_file_and_no_file_names_a_class():
    assert {p.stem for p in (CONFIGS / "dataset").glob("*.yaml")} == {*names(), "file"}
    assert not (CONFIGS / "depth").exists()  # it would break depth=12
    assert not [p for p in CONFIGS.rglob("*.yaml") if "_target_" in p.read_text()]


def test_layers_win_over_depth_and_say_the_depth():
    assert read("layers=[30,20]").depth == 2
    assert read("layers=[30,20]", "depth=2").layers == [30, 20]


def test_a_model_brings_its_own_options():
    assert read("model=rws").model.q_update == "both"
    assert read("model=rws", "model.q_update=wake", "K=3").K == 3
    assert read("model=wake_sleep").K == 1
    assert (
        read("model.warm_up=3").model.warm_up
        == read("model=rws", "model.warm_up=3").model.warm_up
        == 3
    )
    assert read("model=wake_sleep", "K=4").K == 4


def test_a_configuration_survives_its_file(tmp_path):
    config = read("model=rws", "layers=[9,4]", "optim.phases=[{K: 5},{K: 20,lr: 3e-4}]")
    (tmp_path / "config.yaml").write_text(schema.to_yaml(config))
    again = schema.load(tmp_path / "config.yaml")
    assert again == config
    assert schema.differences(again, config) == []
    again.seed, again.max_seconds = 5, 3.0
    assert schema.differences(config, again) == ["seed was 0, now 5"]


WRONG = {
    "dpeth=12": "did you mean 'depth'",
    "depth=abc": "depth=abc: a whole number is due, got abc",
    "model=foo": f"choose one of {', '.join(sorted([*RULES, TARGETPROP]))}",
    "depth=0": "depth must be at least 1, got 0",
    "optim.lr=nan": "optim.lr must be a finite number > 0",
    "optim.schedule=linear": "optim.schedule must be one of constant, cosine",
    "optim.phases=[{K: 0}]": "optim.phases[0].K must be at least 1",
    "init.bias=abc": "init.bias must be a finite number, got 'abc'",
    "init.form=x": "did you mean 'init.from'",
    "init.from=3": "init.from must be a run directory, a weights file or null, got 3",
    "model.q_update=wake": "model.q_update belongs to model=rws",
    "p.layer=foo": "p.layer must be one of",
}
WRONG_TOO = {  # others stand for them
    "+lrr=1": "there is no key 'lrr'",
    "K=2.5": "K=2.5",
    "seed=-1": "seed must lie in",
    "layers=[30,0]": "layers[1] must be at least 1",
    "optim.l1=-1": "optim.l1 must be a finite number >= 0",
    "optim.soften=1": "optim.soften must be at least 0 and less than 1, got 1",
    "optim.soften=nan": "optim.soften must be at least 0 and less than 1, got nan",
    "optim.average=1": "optim.average is a decay between 0 and 1",
    "init.weights=he": "init.weights must be one of authors, glorot",
    "eval.final_z_outer=1": "eval.final_z_outer must be at least 2",
    "model.delta=0.3": "model.delta belongs to model=targetprop, not bihm",
    "q.layer=3": "q.layer must be a type or a list of types",
    "+model.foo=1": "there is no key 'model.foo'",
    "optim.rl=1": "did you mean 'optim.lr'",
    "depth=true": "depth",
    "dataset=mnits": "dataset=mnits: there is no such option",
    "K=0": "K must be at least 1",
    "batch_size=-3": "batch_size must be at least 1",
    "epochs=0": "epochs must be at least 1",
    "max_seconds=0": "max_seconds must be a finite number > 0",
    "layers=[]": "layers is empty",
    "layers=[30,x]": "layers",
    "optim.lr=0": "optim.lr must be",
    "optim.name=lion": "optim.name must be one of adam, sgd",
    "optim.clip=0": "optim.clip must be",
    "optim.phases=[{k: 3}]": "k",
    "init.visible_bias=mean": "init.visible_bias must be one of constant, data",
    "init.bias=inf": "init.bias must be a finite number",
    "init.bias=true": "init.bias must be a finite number",
    "+init.foo=1": "there is no key 'init.foo'",
    "init.from=''": "init.from must be",
    "init.weights=[authors]": "init.weights must be one of authors, glorot",
    "init=null": "init",
    "init=3": "init",
    "eval.K=0": "eval.K must be at least 1",
    "stop.patience=0": "stop.patience must be at least 1",
    "eval.parzen_samples=30": "eval.parzen_samples belongs to model=targetprop, not bihm",
    "model.sleep_batch_size=4": "belongs to model=rws or wake_sleep, not bihm",
    "model.warm_up=0": "model.warm_up must be at least 1, got 0",
    "p.layer=[sbn,sbn]": "p.layer has 2 entries; a machine of this depth needs 13",
    "experiment=nothing": "experiment=nothing: there is no such option",
}


@pytest.mark.parametrize("launcher", ["joblib", "submitit_slurm"])
def test_a_launcher_that_is_not_installed_says_what_to_install(launcher):
    options = "\n\nAvailable options in 'hydra/launcher':\n\tbasic\n\ttogether"
    said = schema.explain(HydraException(f"Could not find 'hydra/launcher/{launcher}'{options}"))
    package = f"hydra-{launcher.partition('_')[0]}-launcher"
    assert said.endswith(f"{launcher} is in a package that is not installed: pip install {package}")
    assert "basic, together" in schema.explain(
        HydraException(f"Could not find 'hydra/launcher/nothing'{options}")
    )


@pytest.mark.parametrize("override", [*WRONG, *rare(*WRONG_TOO)])
def test_what_is_wrong_is_said_in_one_line(override):
    with pytest.raises((BihmError, OmegaConfBaseException, HydraException)) as caught:
        read(override)
    error = caught.value
    line = str(error) if isinstance(error, BihmError) else schema.explain(error)
    assert (WRONG | WRONG_TOO)[override] in line
    assert "\n" not in line


def test_depth_against_layers():
    with pytest.raises(BihmError, match="disagrees with the 1 sizes"):
        read("layers=[30]", "depth=3")
    with pytest.raises(BihmError, match="disagrees"):
        read("layers=[30]", "depth=12")  # the default's value, but given


def test_a_damaged_config_file_is_one_line(tmp_path):
    path = tmp_path / "config.yaml"
    for text in ("a: [", "- 1\n", "depth: x\n", "dpth: 3\n"):
        path.write_text(text)
        with pytest.raises(BihmError) as caught:
            schema.load(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "due"),
    [
        ("model", 3, "a group of keys is due"),
        ("p", [1], "a group of keys is due"),
        ("init", "authors", "a group of keys is due"),
        ("layers", {"a": 1}, "a list is due"),
        ("optim.phases", {"K": 1}, "a list is due"),
        ("dataset.image_shape", {"a": 1}, "a list is due"),
    ],
)
def test_a_saved_configuration_of_another_shape_says_where(tmp_path, key, value, due):
    saved = OmegaConf.create(schema.to_dict(read("layers=[30]")))
    OmegaConf.update(saved, key, value, merge=False)
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(saved))
    for reader in (
        lambda: schema.load(tmp_path / "config.yaml"),
        lambda: schema.from_dict(OmegaConf.to_container(saved)),
    ):
        with pytest.raises(BihmError) as caught:
            reader()
        assert f"{key}: {due}" in str(caught.value)
        assert str(value) in str(caught.value)


WHOLE = [
    ("layers=[1e2,5.0]", "layers", [100, 5]),
    ("optim.phases=[{K:1e2}]", "optim.phases", 100),
    ("seed=4e9", "seed", 4_000_000_000),
    *(
        pytest.param(*case, marks=pytest.mark.long)
        for case in (
            ("epochs=1e3", "epochs", 1000),
            ("K=1e1", "K", 10),
            ("stop.patience=2.0", "stop.patience", 2),
        )
    ),
]


@pytest.mark.parametrize(("word", "key", "value"), WHOLE)
def test_a_whole_number_may_be_written_as_a_float(word, key, value):
    got = schema.flatten(read(word))[key]
    if key == "optim.phases":
        got = got[0]["K"]
    assert (got, str(got)) == (value, str(value))


def test_a_whole_width_of_hidden_units_too():
    words = ("p.layer=dsbn", "q.layer=dsbn", "p.hidden=1e2", "q.hidden=[2e1,5]")
    config = read(*words)
    assert (config.p.hidden, config.q.hidden) == (100, [20, 5])
    assert type(config.p.hidden) is type(config.q.hidden[0]) is int


def test_a_recipe_may_write_so_too(tmp_path):
    (tmp_path / "recipe.yaml").write_text("# @package _global_\nepochs: 1e3\nK: 5.0\n")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "recipe.yaml").rename(tmp_path / "experiment" / "recipe.yaml")
    config = read("experiment=recipe", f"hydra.searchpath=[file://{tmp_path}]")
    assert (config.epochs, config.K) == (1000, 5)


@pytest.mark.parametrize(
    "word", ["epochs=1e-1", "K=nan", *rare("epochs=2.5", "K=inf", "K=true", "K='1e3'")]
)
def test_what_is_no_whole_number_is_refused(word):
    with pytest.raises((HydraException, OmegaConfBaseException), match=word[0]):
        read(word)


@pytest.mark.parametrize("word", ["p.hidden=2.5", "q.hidden=[1e-1]"])
def test_what_is_no_whole_width_is_refused(word):
    with pytest.raises(BihmError, match="hidden must be a whole number"):
        read("p.layer=dsbn", "q.layer=dsbn", word)


def test_each_column_of_a_table_of_runs_has_one_type():
    for words, text in ((["p.hidden=5"], "5"), (["p.hidden=[5,6]"], "[5, 6]"), ([], None)):
        assert schema.columns(read("p.layer=dsbn", *words))["p.hidden"] == text


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("model=rws,seed=1", "3-model=rws,seed=1"),
        ("", "3"),
        ("layers=[200,100],K=5", "3-layers=200-100,K=5"),
        ("optim.phases=[{K:10,lr:0.001},{K:5}]", "3-optim.phases=_K_10-lr_0.001_-_K_5"),
        ("dataset.path=/a/b c/d.csv,seed=2", "3-dataset.path=d.csv,seed=2"),
        ("dataset.path=/données/été 'x'\\.npy", "3-dataset.path=_t_x_.npy"),
        ("dataset.path=名", "3-dataset.path"),
        ("+p.order=random,stop.patience=null", "3-+p.order=random,stop.patience=null"),
        ("dataset.path=..", "3-dataset.path"),
    ],
)
def test_a_job_has_a_name_that_any_library_takes_for_a_name(words, name):
    assert job_name(3, words) == name


def test_a_job_of_two_hundred_words_has_a_short_name():
    name = job_name(199, ",".join(f"some.key{i}={i}" for i in range(200)))
    assert name.startswith("199-some.key0=0,some.key1=1,")
    assert len(name) <= 90


STRANGERS = (
    *("K=10", "p={layer: sbn}", "init.bias=0"),
    *rare("K=3", "p.layer=sbn", "q.layer=darn", "q.hidden=3", "eval.K=10", "eval.z_inner=4"),
    *rare("init.visible_bias=data"),
)


@pytest.mark.parametrize("word", STRANGERS)
def test_keys_of_bits_die_with_target_propagation_even_at_their_default(word):
    with pytest.raises(BihmError) as caught:
        read("model=targetprop", word)
    key = word.partition("=")[0]
    assert f"{key if '.' in key or key == 'K' else f'{key}.layer'} has no meaning" in str(
        caught.value
    )
    assert "model.delta, " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_target_propagation_has_limits_and_a_depth_of_its_own():
    config = read("model=targetprop")
    assert (config.depth, len(config.layers), config.optim.name) == (2, 2, "sgd")
    assert (config.model.N, config.model.delta, config.model.alpha) == (15, 0.1, 0.001)
    assert read("model=targetprop", "layers=[30]").depth == 1
    assert read("model=targetprop", "depth=3").depth == 3
    with pytest.raises(BihmError, match="depth=3 disagrees with the 2 sizes"):
        read("model=targetprop", "depth=3", "layers=[20,10]")


def test_a_configuration_from_before_a_key_was_there_is_still_that_of_its_run(tmp_path):
    config = read("model=targetprop", "model.N=3")
    lines = schema.to_yaml(config).splitlines(keepends=True)
    kept = [line for line in lines if "weights: orthogonal" not in line and "rounds:" not in line]
    assert len(lines) - len(kept) == 2
    (tmp_path / "config.yaml").write_text("".join(kept))
    assert schema.differences(schema.load(tmp_path / "config.yaml"), config) == []
    other = read("model=targetprop", "model.N=3", "model.weights=glorot")
    told = schema.differences(schema.load(tmp_path / "config.yaml"), other)
    assert told == ["model.weights was orthogonal, now glorot"]


@pytest.mark.parametrize("group", ["model", "p", "optim", ""])
def test_of_keys_that_another_version_saved_those_that_are_null_are_left_out(tmp_path, group):
    """Somebody adds a rule with an option: runs of other rules, where it is null, still are runs here."""
    config = read("model=rws", "layers=[30]")
    saved = schema.to_dict(config)
    for value in (None, 3):
        (saved[group] if group else saved)["later"] = value
        (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(saved)))
        readers = (
            lambda: schema.load(tmp_path / "config.yaml"),
            lambda: schema.from_dict(saved),
        )
        for reader in readers:
            if value is None:
                assert reader() == config
                continue
            with pytest.raises(BihmError, match=r"there is no key '(\w+\.)?later'"):
                reader()


LIMITS = {
    "model.N=-1": "model.N must be at least 0",
    "model.rounds=100000": "model.rounds must be at most 10000",
    "model.alpha=nan": "model.alpha must be a finite number >= 0",
    "model.weights=small": "model.weights must be one of orthogonal, glorot, authors",
    "model.sleep_batch_size=3": "model.sleep_batch_size belongs to model=rws or wake_sleep",
    "optim.phases=[{K: 3}]": "optim.phases: K has no meaning",
    "optim.soften=0.1": "optim.soften has no meaning",
}


@pytest.mark.parametrize(
    "word", ["model.N=-1", *rare(*(word for word in LIMITS if word != "model.N=-1"))]
)
def test_what_target_propagation_cannot_have_dies_in_one_line(word):
    with pytest.raises(BihmError, match=LIMITS[word]):
        read("model=targetprop", word)


def test_a_run_of_either_family_has_its_own_columns():
    def own(*words):
        config = read(*words)
        return set(own_columns(config, schema.columns(config)))

    bits, real = own(), own("model=targetprop")
    assert {"K", "p.layer", "eval.z_inner"} <= bits - real
    assert real - bits == {"eval.parzen_samples", "eval.final_parzen_samples"}
