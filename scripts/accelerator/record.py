"""What was measured so far, in one JSON file that is whole at every moment."""

import json
import os
from pathlib import Path
from typing import Any

FILE = "measured.json"


class Record:
    """The file of all parts; each part has a key of its own and writes after each number."""

    def __init__(self, folder: Path, part: str):
        self.path, self.part = folder / FILE, part

    def read(self) -> dict[str, Any]:
        """Everything that all parts have written."""
        return json.loads(self.path.read_text()) if self.path.is_file() else {}

    def set(self, name: str, value: Any) -> None:
        """Write one number, or a block of them, beside what the part has written before."""
        everything = self.read()
        everything.setdefault(self.part, {})[name] = value
        unfinished = self.path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(everything, indent=1) + "\n")
        os.replace(unfinished, self.path)
