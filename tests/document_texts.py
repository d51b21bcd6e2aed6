"""What the documents tell their readers to type."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "RESULTS.md", "PERFORMANCE.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
COMMAND = re.compile(
    r"(BIHM_DATA=\S+ )?(\./scripts/run |bihm-\w+ |pytest |python scripts/|\.ci/run|tensorboard )"
)
EXAMPLES = ("A new training rule, step by step", "A new layer, step by step")  # of CONTRIBUTING.md
FORM = re.compile(r"\b(NAME|FILE)\b|=$|\.\.|\[-")  # what to fill in, not what to type


def text_of(document):
    return (ROOT / document).read_text()


def commands_in(text):
    """Indented lines and code spans that begin like a command, without their comments."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    spans = re.findall(r"`([^`\n]+)`", text)
    found = [part.partition("  #")[0].strip() for part in (*lines, *spans) if COMMAND.match(part)]
    return [one for one in found if " " in one or one == ".ci/run"]


def section(document, title):
    """The text below a heading, up to the next one."""
    return text_of(document).split(f"## {title}\n")[1].split("\n## ")[0]
