"""Draws on the page of `quickstudy serve` in Chromium, and makes the pictures of it in the README.

    python docs/make_screenshots.py      # docs/pictures/playground-draw.png, playground-compare.png

Needs chromium and playwright. All that is seen is drawn here, and answered by a service that is started for it.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Page  # noqa: E402

from tests.serve.browser import (  # noqa: E402
    bolt,
    chromium,
    circle,
    draw,
    find_chromium,
    house,
    open_page,
    serving,
    star,
    teach,
)

EXAMPLES = [
    ("Sun", circle()),
    ("Star", star()),
    ("House", house()),
    ("Bolt", bolt()),
    ("Star", star(0.25, 0.45, 0.52)),
    ("House", house(0.26, 0.52, 0.48)),
]
MOST = 150_000  # bytes of a picture


def keep(shot: bytes, name: str) -> None:
    """Writes a picture in a palette, which is enough for a page."""
    file = io.BytesIO()
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(96).save(file, "PNG", optimize=True)
    if len(file.getvalue()) > MOST:
        sys.exit(f"{name} has {len(file.getvalue()):,} bytes, where {MOST:,} are the most.")
    path = ROOT / "docs" / "pictures" / f"{name}.png"
    path.write_bytes(file.getvalue())
    sys.stdout.write(f"{path.relative_to(ROOT)}: {len(file.getvalue()):,} bytes\n")


def learn(page: Page) -> None:
    """Draws all examples, and then something new."""
    for label, strokes in EXAMPLES:
        draw(page, strokes, steps=8)
        teach(page, label)
    draw(page, star(0.29, 0.53, 0.5), steps=8)
    page.locator("#answer .label.said").wait_for()
    page.locator("#compare .says .label:not(:empty)").first.wait_for()
    page.locator("#map .query").wait_for()
    page.wait_for_timeout(1500)  # until nothing moves any more


def main() -> None:
    """Makes all pictures."""
    path = find_chromium()
    if not path:
        sys.exit("No chromium: install it (apt-get install chromium).")
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "tasks") as address, chromium(path) as browser:
        page = browser.new_page(viewport={"width": 1100, "height": 760})
        learn(open_page(page, address))
        page.evaluate("scrollTo(0, 0)")
        keep(page.screenshot(), "playground-draw")
        page.get_by_role("button", name="Dark colours").click()
        below = "document.documentElement.scrollHeight - document.getElementById('compare-part').offsetTop - 60"
        page.set_viewport_size({"width": 1100, "height": page.evaluate(below)})
        page.evaluate("scrollTo(0, document.getElementById('compare-part').offsetTop)")
        page.wait_for_timeout(500)
        keep(page.screenshot(), "playground-compare")


if __name__ == "__main__":
    main()
