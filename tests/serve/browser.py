"""Chromium, a service to look at, and a hand that draws: for the tests of the page and its screenshots."""

import base64
import io
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, FilePayload, Locator, Page, sync_playwright

# Strokes in parts of the sheet's side: [stroke][point] -> (x, y)
Strokes: TypeAlias = Sequence[Sequence[tuple[float, float]]]

QUIET = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars "
    "--use-fake-device-for-media-stream --use-fake-ui-for-media-stream"  # a microphone that beeps
).split()


def find_chromium() -> str:
    """Its path; empty where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), "")


@contextmanager
def chromium(path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[str]:
    """A service of its own, as a user starts it, until it is no longer wanted; its address."""
    port = port or free_port()
    command = [sys.executable, "-m", "quickstudy", "serve", "--port", str(port), "--tasks", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder.parent / f"{folder.name}.log").open("w+b") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            address = f"http://127.0.0.1:{port}/"
            wait_until_ready(address, process)
            yield address
        finally:
            process.terminate()
            process.wait(30)


def wait_until_ready(address: str, process: "subprocess.Popen[bytes]", seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert process.poll() is None, f"the service ended with status {process.returncode}"
        try:
            with urllib.request.urlopen(f"{address}ready", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise AssertionError(f"the service was not ready after {seconds:.0f} s")


def asked(address: str, path: str, method: str = "GET", body: Any = None) -> Any:
    """What the service answers, as JSON; without the page."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}v1/{path}", data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or "null")


# --- what is on the page ---


def answer(page: Page) -> Locator:
    """What is said of the sheet, once it is said."""
    return page.locator("#answer .label.said")


def faces(page: Page, label: str) -> Locator:
    """The examples of a class."""
    return page.locator("#classes > li").filter(has=page.get_by_role("heading", name=label)).locator(".faces li")


def tab_to(page: Page, selector: str, most: int = 40) -> None:
    for _ in range(most):
        if page.evaluate("(wanted) => document.activeElement.matches(wanted)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} is not reached by Tab")


NAMELESS = """() => [...document.querySelectorAll('button, input, select, textarea, canvas, [role=img], img, a')]
  .filter((node) => node.checkVisibility() && !node.closest('[aria-hidden=true]'))
  .filter((node) => !(node.getAttribute('aria-label') || node.innerText?.trim() || node.textContent.trim() || node.alt
    || [...(node.labels ?? [])].some((label) => label.textContent.trim())))
  .map((node) => node.outerHTML)"""

# All text in sight against the nearest background behind it, as WCAG 2 has it.
FAINT = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = (colour) => [...colour].slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility({opacityProperty: true}) || node.closest('svg, .hint, :disabled')) continue;
    const [a, b] = [light(rgba(getComputedStyle(node).color)), light(behind(node))].sort().reverse();
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`${node.className}: ${node.textContent.trim().slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return found;
}"""


# --- files ---


def picture(colour: tuple[int, int, int], n: int, size: int = 90) -> FilePayload:
    """A file as an input of the page takes it: a square in one colour on another."""
    pixels = np.full((size, size, 3), colour, np.uint8)
    pixels[size // 4 : size // 2, 10 * n : 10 * n + size // 3] = 250
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"name": f"{colour[0]}-{n}.png", "mimeType": "image/png", "buffer": file.getvalue()}


def hum(hertz: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes((8000 * np.sin(np.arange(6000) * 2 * np.pi * hertz / 8000)).astype("<i2").tobytes())
    return file.getvalue()


def drop_on(page: Page, label: str, file: FilePayload) -> None:
    """Drags a file from elsewhere onto a class."""
    code = base64.b64encode(file["buffer"]).decode()
    made = f"""() => {{
      const held = new DataTransfer();
      const bytes = Uint8Array.from(atob("{code}"), (letter) => letter.charCodeAt(0));
      held.items.add(new File([bytes], "dropped.png", {{type: "image/png"}}));
      return held;
    }}"""
    card = page.locator("#classes > li").filter(has=page.get_by_role("heading", name=label))
    card.dispatch_event("drop", {"dataTransfer": page.evaluate_handle(made)})


# --- what is drawn --------------------------------------------------------------------------------------


def circle(size: float = 0.3, x: float = 0.5, y: float = 0.5) -> Strokes:
    turns = [2 * math.pi * step / 12 for step in range(14)]
    return [[(x + size * math.cos(turn), y + size * math.sin(turn)) for turn in turns]]


def star(size: float = 0.33, x: float = 0.5, y: float = 0.5) -> Strokes:
    turns = [4 * math.pi * step / 5 for step in range(6)]
    return [[(x + size * math.sin(turn), y - size * math.cos(turn)) for turn in turns]]


def bolt(size: float = 0.33, x: float = 0.5, y: float = 0.5) -> Strokes:
    return [
        [(x + 0.2 * size, y - size), (x - 0.5 * size, y + 0.1 * size), (x + 0.4 * size, y), (x - 0.3 * size, y + size)]
    ]


def house(size: float = 0.32, x: float = 0.5, y: float = 0.5) -> Strokes:
    corners = [(-0.8, 1), (-0.8, -0.1), (0, -1), (0.8, -0.1), (0.8, 1), (-0.8, 1)]
    door = [(-0.2, 1), (-0.2, 0.4), (0.25, 0.4), (0.25, 1)]
    return [[(x + size * a, y + size * b) for a, b in stroke] for stroke in (corners, door)]


def draw(page: Page, strokes: Strokes, steps: int = 2) -> None:
    """With the mouse, as a hand would: pressed, moved in small steps, so many from point to point, released."""
    box = page.locator("#paper").bounding_box()
    assert box is not None
    for stroke in strokes:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=steps)
        page.mouse.up()


def teach(page: Page, label: str) -> None:
    """Says what is on the sheet, and waits until the service has it."""
    examples = page.locator("#classes .faces li:not(.pending)")
    before = examples.count()
    known = page.locator("#chips").get_by_role("button", name=label, exact=True)
    if known.count():
        known.click()
    else:
        page.get_by_label("Name of a new class").fill(label)
        page.keyboard.press("Enter")
    examples.nth(before).wait_for()


def picture_of(strokes: Strokes, side: int = 140) -> str:
    """A drawing as the page would send it, in base64."""
    sheet = Image.new("L", (side, side), 255)
    for stroke in strokes:
        ImageDraw.Draw(sheet).line([(x * side, y * side) for x, y in stroke], 0, side // 18, "curve")
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def seed(address: str, examples: Sequence[tuple[str, Strokes]], name: str = "Shapes") -> str:
    """A task of drawings that is there already; the address of its page."""
    task = asked(address, "tasks", "POST", {"name": name, "learner": "drawings"})["id"]
    made = [{"label": label, "image": picture_of(strokes)} for label, strokes in examples]
    asked(address, f"tasks/{task}/examples", "POST", {"examples": made})
    return f"{address}#task={task}"


def open_page(page: Page, address: str) -> Page:
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    return page
