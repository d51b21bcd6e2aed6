"""Where the tests keep what they compiled, so that each program is compiled once a session.

`BIHM_TESTS_COMPILED` names a folder that several sessions share and that is theirs to remove.
"""

import os
import tempfile
from pathlib import Path

from bihm.runtime import packing

SESSION = os.environ.setdefault("BIHM_TESTS_SESSION", str(os.getpid()))  # its workers inherit it
SHARED = os.environ.get("BIHM_TESTS_COMPILED")
FOLDER = Path(SHARED or Path(tempfile.gettempdir()) / f"bihm-tests-{SESSION}")
COMPILED = FOLDER / packing()  # Python 3.14 packs otherwise than those before
