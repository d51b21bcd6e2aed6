"""The README's pictures of `bihm-report`: pages as a browser shows them, at a desk and on a phone.

    ./scripts/run python scripts/reproduce/report_pictures.py RUN SWEEP [FOLDER]

RUN and SWEEP are what `bihm-train model=bihm depth=12` and a multirun left; the pictures go to FOLDER, by
default scripts/reproduce/pictures/. It needs `chromium` (or $BROWSER) beside the packages.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from bihm.report.write import write_report
from bihm.runtime import configure_jax

BROWSER = os.environ.get("BROWSER", "chromium")
LIGHT, DARK = 1, 0  # as the browser's settings name them
DESK, PHONE = 1200, 390  # pixels across
SHOTS = {  # file: page, width, height, scheme
    "report-desk.png": ("run", DESK, 2080, LIGHT),
    "report-phone-dark.png": ("run", PHONE, 2400, DARK),
    "report-sweep.png": ("sweep", DESK, 1880, LIGHT),
}
COLOURS = 256  # of a picture: flat areas and thin lines need no more


def shoot(page: Path, picture: Path, width: int, height: int, scheme: int) -> None:
    """Write what a browser of this size shows of a page."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--user-data-dir={profile}", f"--blink-settings=preferredColorScheme={scheme}",
                f"--window-size={width},{height}", f"--screenshot={picture}", page.resolve().as_uri(),
            ],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
    with Image.open(picture) as shot:
        plain = shot.convert("RGB")
    few = plain.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(picture, optimize=True)


def main(run: str, sweep: str, folder: str | None = None) -> None:
    """Make the pages and their pictures."""
    into = Path(folder) if folder else Path(__file__).parent / "pictures"
    configure_jax()
    with tempfile.TemporaryDirectory() as place:
        pages = {
            "run": write_report([Path(run)], out=f"{place}/run.html", say=print, note=print),
            "sweep": write_report([], Path(sweep), f"{place}/sweep.html", say=print, note=print),
        }
        for name, (page, width, height, scheme) in SHOTS.items():
            shoot(pages[page], (into / name).resolve(), width, height, scheme)
            print(into / name, (into / name).stat().st_size)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
