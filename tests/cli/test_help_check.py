"""Hydra's parser under Python 3.14, whose argparse reads a help text when an option is added."""

import argparse

import hydra._internal.utils as hydras
import pytest
from malformed import attempt, check, home

from bihm.cli import help_check

__all__ = ["home"]  # a fixture


def check_help(parser, action):
    """What 3.14 does with the help of an option just added, by its documentation: it must be a text."""
    if action.help is None or action.help is argparse.SUPPRESS:
        return
    try:
        assert "%" not in action.help or action.help % vars(action)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError("badly formed help string") from error


@pytest.fixture
def checked(monkeypatch):
    """The check, on every Python; and Hydra's parser as a new process has it."""
    add_argument = argparse.ArgumentParser.add_argument

    def add_and_check(parser, *args, **named):
        action = add_argument(parser, *args, **named)
        parser._check_help(action)
        return action

    if not hasattr(argparse.ArgumentParser, "_check_help"):
        monkeypatch.setattr(argparse.ArgumentParser, "_check_help", check_help, raising=False)
        monkeypatch.setattr(argparse.ArgumentParser, "add_argument", add_and_check)
    monkeypatch.setattr(hydras, "argparse", argparse)


@pytest.mark.usefixtures("checked")
def test_without_the_shim_hydra_has_no_parser():
    with pytest.raises(ValueError, match="badly formed help string"):
        hydras.get_args_parser()


@pytest.mark.usefixtures("checked")
def test_hydras_parser_is_made_and_the_others_stay_checked():
    help_check.install()
    help_check.install()
    assert hydras.get_args_parser().parse_args(["-m", "seed=0,1"]).multirun
    # The completion of a shell asks for it by this name.
    assert hydras.get_args(["depth=3"]).overrides == ["depth=3"]
    with pytest.raises(ValueError, match="badly formed help string"):
        argparse.ArgumentParser().add_argument("--fast", help="100%, or nearly")


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("--cfg job depth=3", "depth: 3\n"),
        pytest.param("--help", "depth", marks=pytest.mark.long),
    ],
)
def test_hydras_own_answers(words, wanted, home):
    code, out, err, _ = attempt(["bihm-train", *words.split()])
    assert (code, err) == (0, "")
    assert wanted in out


@pytest.mark.usefixtures("checked")
def test_a_wrong_word_is_still_one_line(home):
    check(("bihm-train dpeth=3", 2, "did you mean 'depth'?"), home)
    check(("bihm-train --nothing", 2, "unrecognized arguments: --nothing"), home)
