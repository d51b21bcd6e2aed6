"""What of bihm is pure Python, on whatever Python runs this: all files compile, all configs compose.

Hydra's parser and composition and our words need no compiled package. A compiler's warning is an error.
"""

import contextlib
import io
import sys
import warnings
from pathlib import Path

from bihm.cli import train

ROOT = Path(__file__).resolve().parent.parent
WORDS = [  # words, exit code, and what must stand in the answer
    ("--help", 0, "depth"),
    ("--cfg job layers=[30,20]", 0, "depth: 12\n"),
    ("--cfg job model=rws K=7 seed=3", 0, "K: 7\n"),
    ("dpeth=3", 2, "did you mean 'depth'?"),
    ("--nothing", 2, "unrecognized arguments: --nothing"),
    ("model=foo", 2, "choose one of bihm, rws, targetprop, wake_sleep"),
    ("K=(", 2, "cannot be read"),
]


def answer(words: list[str]) -> tuple[int | str, str]:
    """The exit code of `bihm-train`, and what it prints."""
    said = io.StringIO()
    sys.argv = ["bihm-train", *words]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            train.main()
        except SystemExit as leaving:
            return leaving.code or 0, said.getvalue()
    return 0, said.getvalue()


def main() -> None:
    warnings.simplefilter("error")
    files = [path for top in ("bihm", "scripts", "tests") for path in (ROOT / top).rglob("*.py")]
    for path in files:
        compile(path.read_text(encoding="utf-8"), str(path), "exec")
    composed = [
        (f"{path.parent.name}={path.stem} --cfg job", 0, "checkpoint:\n")
        for path in sorted((ROOT / "configs").glob("*/*.yaml"))
    ]
    for words, code, fragment in WORDS + composed:
        got, said = answer(words.split())
        if got != code or fragment not in said:
            sys.exit(
                f"bihm-train {words}: exit code {got}, wanted {code} and {fragment!r}:\n{said}"
            )
    print(
        f"Python {sys.version.split()[0]}: {len(files)} files compile, {len(composed)} configs compose, "
        f"{len(WORDS)} other commands answer"
    )


if __name__ == "__main__":
    main()
