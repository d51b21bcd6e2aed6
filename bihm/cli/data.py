"""`bihm-data`: list, fetch, check and import datasets."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from bihm import __version__
from bihm.cli import exit_codes
from bihm.errors import ConfigError, DataError

PROGRAM = "bihm-data"
EPILOG = """\
Datasets are looked for as NAME.npz in $BIHM_DATA, then in the cache ($BIHM_CACHE, or the
platform's own place). `all` stands for every name. Exit codes: 2 a wrong command, 3 data missing
or damaged. BIHM_TRACEBACK=1 shows where an error came from.

import FILE reads arrays (.npz, .npy), MATLAB's .mat up to version 7, tables of text (.csv .tsv .txt
.dat .data .amat: values between commas, semicolons, tabs or blanks, with or without names of columns
and rows), LIBSVM (.libsvm .svm, labels left out), and .gz of a .npy, a table or LIBSVM. Splits are the
arrays train, valid and test, or the files of --valid and --test, or NAME.valid.csv and NAME.test.csv
beside NAME.train.csv; any other single table is cut 80/10/10, always the same way."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong as our other commands do: in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; `{self.prog} --help` shows what there is")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description="Datasets for bihm-train: list, fetch, check, import.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="what there is, and where it was found")
    fetch = commands.add_parser("fetch", help="download into the cache, checked by SHA-256")
    fetch.add_argument("names", nargs="+", metavar="NAME")
    check = commands.add_parser("check", help="verify the hashes of what is found")
    check.add_argument("names", nargs="+", metavar="NAME")
    bring = commands.add_parser("import", help="store your own 0/1 rows under a name")
    bring.add_argument("file", type=Path, metavar="FILE", help="see `bihm-data --help`")
    bring.add_argument("--name", required=True)
    bring.add_argument("--valid", type=Path, metavar="FILE", help="rows of the validation split")
    bring.add_argument("--test", type=Path, metavar="FILE", help="rows of the test split")
    bring.add_argument("--force", action="store_true", help="replace an import of that name")
    return parser


# The commands import bihm.data themselves: --help and a mistyped command need no numpy.


def _where(name: str) -> str:
    from bihm.data import find
    from bihm.paths import cache

    if name == "digits":
        return "embedded"
    if name == "bars":
        return "generated"
    path = find(name)
    if path is None:
        return "missing"
    return "cache" if path.parent == cache() / "data" else "$BIHM_DATA"


def _list() -> None:
    from bihm.data.catalogue import catalogue
    from bihm.data.imports import describe, imported, paths

    rows: list[tuple[str, ...]] = [
        ("name", "train", "valid", "test", "features", "where", "levels", "licence")
    ]
    for e in catalogue().values():
        sizes = [str(e.rows[split]) for split in ("train", "valid", "test")]
        licence = e.licence.split(" (")[0].split(";")[0]
        levels = "grey" if e.grey else "bits"
        rows.append((e.name, *sizes, str(e.n_features), _where(e.name), levels, licence))
    for name in imported():
        try:
            about = describe(name)
            sizes = [str(about[key]) for key in ("train", "valid", "test", "n_features")]
            there = "imported" if paths(name).data.is_file() else "lost"
            rows.append((name, *sizes, there, "bits", "yours"))
        except DataError:
            rows.append((name, "?", "?", "?", "?", "damaged", "bits", "yours"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if 1 <= i <= 4 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def _check(name: str) -> None:
    from bihm.data import entry, find, load
    from bihm.data.dataset import check_stored
    from bihm.data.imports import check_import, imported

    if name in imported():
        print(f"{name}: ok ({check_import(name)})")
        return
    path = find(name)
    if name == "bars" or path is None:
        load(name)  # says what is missing
        print(f"{name}: ok (generated)")
        return
    wanted = entry(name)
    _, reordered = check_stored(wanted, path)
    note = f"; {', '.join(reordered)}: the right rows in another order" if reordered else ""
    unseen = [key for key, pinned in wanted.sha256.items() if pinned is None]
    note += f"; {', '.join(unseen)}: only the shape, no hash is known" if unseen else ""
    print(f"{name}: ok ({path}{note})")


def _fetch(name: str) -> None:
    from bihm.data import fetch
    from bihm.data.imports import imported

    if name in imported():
        raise ConfigError(
            f"{name} is your own import; bihm-data import makes it again, with --force"
        )
    fetch(name)


def _import(arguments: argparse.Namespace) -> None:
    from bihm.data import import_file

    made = import_file(
        arguments.file, arguments.name, arguments.valid, arguments.test, arguments.force, say=print
    )
    print(f"{made.data}\n{made.config}\nuse it: bihm-train dataset={arguments.name}")


def _each(names: list[str], action: Callable[[str], None]) -> int:
    """Run `action` for every name, going on after a failure; returns the first exit code."""
    from bihm.data.catalogue import catalogue, entry
    from bihm.data.imports import imported

    if names == ["all"]:
        names = [*catalogue(), *(imported() if action is _check else [])]
    for name in names:  # a typo ends the command before an hour of downloads, not after
        if name not in imported():
            entry(name, also=imported())
    code = 0
    for name in names:
        try:
            action(name)
        except BrokenPipeError:  # nobody reads what follows
            raise
        except Exception as error:
            this = exit_codes.tell(PROGRAM, error)
            code = code or this
    return code


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "list":
        _list()
    elif arguments.command == "import":
        _import(arguments)
    else:
        return _each(arguments.names, _fetch if arguments.command == "fetch" else _check)
    return 0


def main(argv: list[str] | None = None) -> None:
    """The console script `bihm-data`; exits with the README's codes, silent on success."""
    with exit_codes.command(PROGRAM):
        sys.exit(_run(_parser().parse_args(argv)))


if __name__ == "__main__":
    main()
