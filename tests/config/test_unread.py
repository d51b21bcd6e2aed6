"""Keys without an effect are told, and no others."""

import pytest
from hydra import compose, initialize_config_dir

from bihm import config, paths
from bihm.cli import sweep
from bihm.config.unread import unread


def read(*words):
    config.register()
    sweep.register()
    with initialize_config_dir(str(paths.configs()), version_base="1.3"):
        return config.parse(compose("train", overrides=["layers=[5]", *words]))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], []),
        (["optim.lr_end=1e-5", "optim.schedule=cosine"], []),
        (["optim.lr_end=1e-5"], ["optim.lr_end=1e-05 has no effect with optim.schedule=constant"]),
        (["optim.phases=[{K:1},{lr_end:0}]"], ["optim.phases[1].lr_end=0.0 has no effect"]),
        (["K=5", "optim.phases=[{K:1},{lr:1}]"], []),
        (["K=5", "optim.phases=[{K:1},{K:2}]"], ["K=5 has no effect: each of optim.phases has"]),
        (["optim.lr=1", "optim.phases=[{lr:1e-3}]"], ["optim.lr=1.0 has no effect"]),
        (["epochs=7", "optim.phases=[{epochs:3}]"], ["epochs=7 has no effect"]),
        (["eval.z_outer=300"], []),
        (["model=rws", "eval.z_outer=300"], ["eval.z_outer=300 has no effect: 2 log Z belongs to"]),
        (["model=wake_sleep", "eval.final_z_outer=9", "eval.z_inner=3"], ["eval.fin", "eval.z_in"]),
        (["model.warm_up=10", "epochs=11"], []),
        (["model.warm_up=10", "epochs=10"], ["model.warm_up=10 does not end within the 10 epochs"]),
        (["model.warm_up=9", "epochs=5", "optim.phases=[{epochs:3},{K:2}]"], ["model.warm_up=9"]),
    ],
)
def test_what_has_no_effect_is_told(words, told):
    found = unread(read(*words))
    assert len(found) == len(told)
    assert all(line.startswith(start) for line, start in zip(found, told, strict=True))
