"""Hydra's and OmegaConf's errors in one line each: what was wrong, where, and what would be right."""

import difflib
import re

import yaml
from hydra.errors import OverrideParseException

from bihm.config.checks import A_GROUP, A_LIST
from bihm.config.schema import GROUPS, Config, PhaseConfig, flatten

# Launchers that the documents name, and the packages they come with (extras of pyproject.toml).
LAUNCHERS = {
    "joblib": "hydra-joblib-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
}
REASONS = [  # why OmegaConf refuses a value, and what is due in its place
    (re.compile(text, re.DOTALL), words)
    for text, words in (
        (
            r"Value '(.*)' of type '\w+' could not be converted to Integer",
            "a whole number is due, got {0}",
        ),
        (r"Value '(.*)' of type '\w+' could not be converted to Float", "a number is due, got {0}"),
        (r"Value '(.*)' is not a valid bool", "true or false is due, got {0}"),
        (r"Cannot convert '\w+' to string: '(.*)'", "a text is due, got {0}"),
        (r"Invalid value assigned: \w+ is not a ListConfig", A_LIST),
        (r"Cannot merge DictConfig with ListConfig", A_LIST),
        (
            r"Invalid type assigned: \w+ is not a subclass of (?:int|float)\.",
            "a number is due",
        ),
        (r"Invalid type assigned: .* value:\s*(.*)", f"{A_GROUP}, got {{0}}"),
        (r"Cannot assign (?:\w+) to Dict", A_GROUP),
        (r"field '(.*)' is not Optional", "{0} cannot be null"),
        (r"Incompatible value 'None'", "a value is due, got null"),
    )
]


def explain(error: Exception) -> str:
    """Say in one line what a user's command got wrong."""
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override!r} cannot be read; a word is key=value, a list [a,b], "
            "and a text may be quoted"
        )
    texts = [str(error), str(error.__cause__ or error.__context__ or "")]
    whole = "\n".join(texts)
    given = re.search(r"Could not override '([^']+)'", whole)
    if given and not _leaves(given[1]):  # or something is wrong inside of it
        return _unknown_key(given[1])
    if found := re.search(r"Key '([^']+)' not in|Key '([^']+)' is not in struct", whole):
        key, place = found[1] or found[2], given[1] if given else _full_key(whole)
        if place == "optim.phases":
            return f"{place} takes no key {key!r}; a phase has {', '.join(vars(PhaseConfig()))}"
        if given and place not in _leaves(place):  # a group
            return _unknown_key(f"{place}.{key}")
        return (
            f"{place} takes no key {key!r}"
            if place in _leaves(place)
            else _unknown_key(place or key)
        )
    if found := re.search(r"Ambiguous value for argument '([^']+)'", whole):
        return f"{found[1]}: several values make a sweep, with -m; a list is [a,b]"
    if found := re.search(r"Error merging override (.+)", texts[0]):
        reason, (key, _, value) = _plain(_first_line(texts[1])), found[1].partition("=")
        if reason == A_LIST and value.startswith("["):  # OmegaConf says the same of both
            return f"{found[1]}: {A_GROUP}, got {value}"
        if whole_key := next(
            (name for name in flatten(Config()) if key.startswith(f"{name}.")), None
        ):
            return f"{found[1]}: {whole_key} is given as a whole, as {whole_key}=[..]"
        example = f", as {key}=[{value}]" if reason == A_LIST and value.isalnum() else ""
        return f"{found[1]}: {reason}{example}"
    if found := re.search(r"Could not find '([^']*)/([^'/]*)'", whole):
        if found[1].endswith("hydra/launcher") and (package := LAUNCHERS.get(found[2])):
            return f"{found[1]}={found[2]} is in a package that is not installed: pip install {package}"
        options = re.findall(r"^\s+(\S+)$", whole.partition("Available options")[2], re.MULTILINE)
        choices = f"; choose one of {', '.join(options)}" if options else ""
        return f"{found[1]}={found[2]}: there is no such option{choices}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem_mark.name}: line {error.problem_mark.line + 1}: {error.problem}"
    key = _full_key(whole)
    reason = _plain(_first_line(whole)) or f"Hydra cannot do this ({type(error).__name__})"
    return f"{key}: {reason}" if key else reason


def _leaves(key: str) -> list[str]:
    """The keys with values that this one is, or has inside."""
    return [name for name in flatten(Config()) if f"{name}.".startswith(f"{key}.")]


def _unknown_key(key: str) -> str:
    key = key.lstrip("+~")
    close = _like(key, [*flatten(Config()), *GROUPS, "like"])
    hint = f"; did you mean {close[0]!r}?" if close else "; `bihm-train --cfg job` shows all keys"
    return f"there is no key {key!r}{hint}"


def _like(key: str, known: list[str]) -> list[str]:
    """The keys that somebody may have meant, the likeliest first."""
    group, _, own = key.rpartition(".")
    inner = [name for name in known if name.endswith(f".{key}")]  # lr for optim.lr
    outer = [name for name in known if group and name == own]  # optim.epochs for epochs
    case = [name for name in known if name.lower() == key.lower()]
    there = {name.rpartition(".")[2]: name for name in known if name.startswith(f"{group}.")}
    if group and there:  # that both begin with optim. makes betas no more like phases
        close = [there[name] for name in difflib.get_close_matches(own, there, 1, 0.5)]
    else:
        close = difflib.get_close_matches(key, known, 1)
    return inner + outer + case + close


def _plain(reason: str) -> str:
    """OmegaConf's reason in words that name no class of Python's."""
    for pattern, words in REASONS:
        if found := pattern.match(reason):
            return words.replace("{0}", found[1] or "nothing") if pattern.groups else words
    return reason


def _full_key(text: str) -> str:
    found = re.search(r"full_key: (\S+)", text)
    return found[1] if found else ""


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else ""
