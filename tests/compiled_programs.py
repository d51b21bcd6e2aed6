"""Where the tests keep what they compiled, so that each program is compiled once a session."""

import os
import tempfile
from pathlib import Path

SESSION = os.environ.setdefault("BIHM_TESTS_SESSION", str(os.getpid()))  # its workers inherit it
COMPILED = Path(tempfile.gettempdir()) / f"bihm-tests-{SESSION}"
