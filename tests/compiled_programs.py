"""Where the tests keep what they compiled, so that each program is compiled once a session."""

import os
import tempfile
from pathlib import Path

# Whoever names the session keeps its programs for more than one of them.
OURS = "BIHM_TESTS_SESSION" not in os.environ
SESSION = os.environ.setdefault("BIHM_TESTS_SESSION", str(os.getpid()))  # its workers inherit it
COMPILED = Path(tempfile.gettempdir()) / f"bihm-tests-{SESSION}"
