"""Every cell of the papers' tables that we make has a recipe, of the rule, data and layers of that cell."""

import pytest
from hydra import compose, initialize_config_dir

from bihm import config as schema
from bihm import paths
from bihm.cli import sweep
from bihm.config.machine_checks import check_machine
from bihm.config.unread import unread

FOLDER = paths.configs() / "experiment"
UCI = {  # Bornschein et al. 2016, Table 2: latent layers of BiHM and of RWS, data side first
    "adult": ([100, 70, 50, 25], [100, 20, 5]),
    "connect4": ([300, 110, 50, 20], [150, 50, 10]),
    "dna": ([200, 150, 130, 100, 70, 50, 30, 20, 10], [150, 10]),
    "mushrooms": ([150, 100, 90, 60, 40, 20], [150, 50, 10]),
    "nips": ([200, 100, 50, 25], [150, 50, 10]),
    "ocr_letters": ([600, 500, 100, 50, 30, 10], [300, 100, 10]),
    "web": ([650, 580, 70, 30, 10], [300, 50, 10]),
}
# With an autoregressive bottom: sizes that a search has chosen; else those of BiHM.
DARN = {
    "adult": [50],
    "connect4": [300],
    "dna": [20],
    "mushrooms": [100],
    "ocr_letters": [300],
    "web": [200],
}
DENSITY = {  # sizes of ours: no machine of the three rules is published on these
    "nltcs": [50, 30, 10],
    "plants": [150, 80, 40, 15],
    "jester": [150, 80, 40, 15],
    "baudio": [150, 80, 40, 15],
    "bnetflix": [150, 80, 40, 15],
    "accidents": [150, 80, 40, 15],
}
DARN_DENSITY = {"nltcs": [50, 30, 10]}  # with an autoregressive bottom; else one layer of 200
# Samples a row in training that a search has chosen; else the default, of wake-sleep one.
SAMPLES = {
    "bihm_connect4": 30,
    "rws_connect4": 30,
    "bihm_dna": 5,
    "bihm_shallow_dna": 5,
    "bihm_ocr_letters": 100,
    "bihm_mushrooms": 30,
    "bihm_binarized_mnist_long": 30,
    "bihm_nips": 100,
    "bihm_darn_q_nips": 100,
}
DARN_Q = (  # with an autoregressive q
    "bihm_darn_binarized_mnist",
    "bihm_darn_ocr_letters",
    "bihm_darn_q_nips",
    "rws_darn_q_dna",
)
TWELVE = [300, 200, 100, 75, 50, 35, 30, 25, 20, 15, 10, 10]  # the paper's text
FIVE = [400, 300, 200, 100, 10]  # of the best RWS in its paper


def cells():
    """Name of the recipe, rule, dataset, layers, type of the bottom conditional of p."""
    for name, (bihm, rws) in UCI.items():
        yield f"bihm_{name}", "bihm", name, bihm, "sbn"
        yield f"rws_{name}", "rws", name, rws, "sbn"
        yield f"bihm_darn_{name}", "bihm", name, DARN.get(name, bihm), "darn"
    yield "bihm_shallow_dna", "bihm", "dna", UCI["dna"][1], "sbn"
    yield "bihm_darn_q_nips", "bihm", "nips", UCI["nips"][0], "sbn"
    yield "rws_darn_q_dna", "rws", "dna", UCI["dna"][1], "sbn"
    for name, sizes in DENSITY.items():
        yield f"bihm_{name}", "bihm", name, sizes, "sbn"
        yield f"bihm_darn_{name}", "bihm", name, DARN_DENSITY.get(name, [200]), "darn"
    for name in ("bihm_binarized_mnist", "bihm_binarized_mnist_long"):
        yield name, "bihm", "binarized_mnist", TWELVE, "sbn"
    yield "bihm_darn_binarized_mnist", "bihm", "binarized_mnist", [300], "darn"
    yield (
        "bihm_caltech101_silhouettes",
        "bihm",
        "caltech101_silhouettes",
        [300, 200, 100, 50],
        "sbn",
    )
    for data in ("binarized_mnist", "caltech101_silhouettes"):
        yield f"rws_{data}", "rws", data, FIVE, "sbn"
    yield "rws_binarized_mnist_long", "rws", "binarized_mnist", FIVE, "sbn"
    yield "wake_sleep_binarized_mnist", "wake_sleep", "binarized_mnist", FIVE, "sbn"
    for rule in ("rws", "wake_sleep"):
        for depth in (1, 2, 3):
            tail = "_".join(["200"] * depth)
            name = f"{rule}_binarized_mnist_{tail}"
            yield name, rule, "binarized_mnist", [200] * depth, "sbn"


def read(name):
    schema.register()
    sweep.register()
    with initialize_config_dir(str(paths.configs()), version_base="1.3"):
        config = schema.parse(compose("train", overrides=[f"experiment={name}"]))
    check_machine(config)
    return config


QUICK = ("bihm_nips", "bihm_darn_dna", "rws_adult", "wake_sleep_binarized_mnist_200_200")


@pytest.mark.parametrize(
    ("name", "rule", "dataset", "layers", "bottom"),
    [pytest.param(*cell, marks=[] if cell[0] in QUICK else [pytest.mark.long]) for cell in cells()],
)
def test_a_recipe_is_the_cell_that_it_names(name, rule, dataset, layers, bottom):
    config = read(name)
    assert (config.model.name, config.dataset.name, config.layers) == (rule, dataset, layers)
    kinds = config.p.layer if isinstance(config.p.layer, list) else [config.p.layer]
    if bottom == "darn":
        assert kinds in (["darn"], ["darn", *["sbn"] * len(layers)])  # the prior is, too, or not
    else:
        assert kinds == ["sbn"]
    samples = SAMPLES.get(name, 1 if rule == "wake_sleep" else 10)
    assert (config.q.layer, config.K) == ("darn" if name in DARN_Q else "sbn", samples)
    # Numbers stand beside each other only where they are estimated in one way.
    assert (config.eval.final_K, config.eval.final_z_outer) == (1000, 100_000)
    # A cosine that patience cuts off never reaches its low rates.
    assert (config.optim.schedule, config.stop.patience) == ("cosine", None)
    assert unread(config) == []


def test_every_cell_has_a_recipe():
    assert {cell[0] for cell in cells()} <= {path.stem for path in FOLDER.glob("*.yaml")}


def test_the_first_lines_of_a_recipe_say_what_is_published():
    for path in FOLDER.glob("*.yaml"):
        assert path.read_text().splitlines()[1].startswith("# "), path.name
