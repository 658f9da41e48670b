"""Draw the picture of `docs/how-to/reports.md`: `python docs/draw_report.py report.html`; needs Chromium or Chrome.

The page is photographed as it is and set in columns; 128 colours are enough for it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
from kit import browser  # noqa: E402

WIDTH, COLUMNS, HEIGHT = 830, 2, 1724
COLOURS = 128


def main() -> None:
    """One picture of one report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "images" / "report.png")
    asked = parser.parse_args()
    program = browser.find()
    if program is None:
        raise SystemExit("no Chromium or Chrome on this machine")
    with tempfile.TemporaryDirectory() as home, browser.opened(program, Path(home)) as new_tab:
        tab = new_tab()
        tab.view(WIDTH, COLUMNS * HEIGHT)
        tab.open(asked.report)
        tab.screenshot(Path(home) / "page.png")
        with Image.open(Path(home) / "page.png") as found:
            page = found.convert("RGB")
    sheet = Image.new("RGB", (COLUMNS * WIDTH, HEIGHT))
    for k in range(COLUMNS):
        sheet.paste(page.crop((0, k * HEIGHT, WIDTH, (k + 1) * HEIGHT)), (k * WIDTH, 0))
    small = sheet.resize((sheet.width * 5 // 8, sheet.height * 5 // 8), Image.Resampling.LANCZOS)
    small.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(asked.out, optimize=True)


if __name__ == "__main__":
    main()
