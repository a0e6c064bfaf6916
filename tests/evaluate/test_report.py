"""The report: one file that needs nothing else and says every number; looked at by a real browser."""

from __future__ import annotations

import base64
import errno
import math
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NoReturn

import matplotlib
import numpy as np
import pytest
from PIL import Image

from quickstudy.errors import InputError, StorageError
from quickstudy.evaluate import Curve, Entry, EpisodePicture, Section, compare, render_report, write_report
from quickstudy.evaluate.figures import draw_curves, draw_intervals, drawing, dress, logarithmic
from quickstudy.evaluate.picture import png
from tests.evaluate.fakes import a_result

VOID = {"meta", "img", "br", "source"}


class Page(HTMLParser):
    """Everything the tests ask of a page: balanced tags, elements with attributes, visible text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += " " + " ".join(data.split())

    def having(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def a_picture(ink: bool = True) -> EpisodePicture:
    rng = np.random.default_rng(0)
    return EpisodePicture(
        support=rng.integers(0, 256, (2, 8, 8), dtype=np.uint8),
        support_y=np.array([0, 1]),
        query=rng.integers(0, 256, (5, 8, 8), dtype=np.uint8),
        query_y=np.array([0, 0, 1, 1, -1]),
        predicted=np.array([0, 1, 1, -1, 0]),
        caption="maml, task 0",
        names=["seven", "three"],
        ink=ink,
    )


def parts() -> dict[str, Any]:
    base = [0.71, 0.73, 0.70, 0.74]
    columns = ("5-way 1-shot", "5-way 5-shot")
    wild = a_result([0.5] * 4, per_episode=(0.25, 0.5, 0.25, 0.5), mean=0.375, diverged=2, transductive=True)
    entries = [
        Entry("protonet", {columns[0]: a_result([v + 0.0612 for v in base], seconds=12.34)}),
        Entry("maml", {columns[0]: a_result(base), columns[1]: wild}),
        Entry("knn", {c: a_result(base) for c in columns}, baseline=True),
    ]
    return {
        "title": "Digits & <letters>",
        "lead": "What was done.",
        "table": compare(entries),
        "curves": [
            Curve("protonet", "loss", range(0, 1000), [2.5 / (1 + s / 100) for s in range(1000)]),
            Curve("protonet", "validation accuracy", [0, 500, 1000], [0.2, 0.8765, 0.9123]),
        ],
        "pictures": [a_picture()],
        "settings": {"seed": 7, "learner": {"name": "protonet", "metric": "cosine"}},
        "versions": {"torch": "9.8.7"},
        "notes": ["A note."],
    }


@pytest.fixture(scope="module")
def html() -> str:
    return render_report(**parts())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_page_needs_nothing_else(html: str, page: Page) -> None:
    addresses = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "srcset", "href", "action", "data", "poster")
    ]
    assert len(addresses) > 10 and all(address.startswith("data:image/") for address in addresses)
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object", "base", "form"}
    outside = re.sub(r"data:image/[^\"]+", "", html)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|file:", outside)
    policy = [meta["content"] for meta in page.having("meta") if "http-equiv" in meta]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_the_drawings_need_nothing_else_either(page: Page) -> None:
    drawings = [a for _, attributes in page.elements for a in attributes.values() if a.startswith("data:image/svg")]
    assert len(drawings) == 8  # two panels of intervals, two of curves, each for light and dark
    for address in drawings:
        svg = base64.b64decode(address.partition(",")[2])
        ElementTree.fromstring(svg)
        used = re.findall(rb"(?:href|src)=\"([^\"]+)\"|url\(([^)]+)\)|font-family", svg)
        assert used and all((a or b).startswith(b"#") for a, b in used)


@pytest.mark.parametrize(
    "text",
    [
        "Digits & <letters>",
        "± 1.8", "78.1", "37.5", "72.0",
        "✓ beats knn by 6.1 ± 0.0",
        "○ does not clearly beat knn: +0.0 ± 0.0 includes 0",
        "○ does not beat knn: worse by 34.5 ± 12.5",
        "transductive", "2 of 4 diverged", "not measured", "Transductive", "Diverged",
        "± 2.1", "12.3", "digits, test, seed 0", "0123456789ab",
        "maml, task 0", "2 of 4 queries right", "✗ three", "✗ no answer", "✓ seven",
        "seed 7", "learner.name protonet", "learner.metric cosine", "torch 9.8.7",
        "A note.", "What was done.",
    ],
)  # fmt: skip
def test_the_page_says(page: Page, text: str) -> None:
    assert text in page.text


def test_every_picture_can_be_heard(page: Page) -> None:
    alts = [image["alt"] for image in page.having("img")]
    assert all(alts)
    assert "query of class seven, predicted three: wrong" in alts
    assert "query of class three, predicted three: right" in alts
    assert alts.count("support example of class seven") == 1
    assert any("protonet: from 20.0 % at step 0 to 91.2 % at step 1000" in alt for alt in alts)
    assert any("5-way 5-shot, means with 95 % intervals" in alt and "maml: 37.5 ± 0.0" in alt for alt in alts)


def test_wrong_queries_are_marked_by_frame_and_sign(html: str, page: Page) -> None:
    tiles = [division.get("class") for division in page.having("div")]
    assert tiles.count("tile wrong") == 2 and html.count("✗ three") == 1
    assert tiles.count("tile") == 2 + 2  # supports, right queries; the unlabelled query is not shown


def test_the_same_input_gives_the_same_page(html: str) -> None:
    assert render_report(**parts()) == html


def test_parts_that_are_not_given_are_left_out() -> None:
    page = Page(render_report(title="Nothing yet"))
    assert page.having("section") == [] and page.having("img") == []
    assert "Nothing yet" in page.text
    only = Page(render_report(title="t", curves=parts()["curves"]))
    assert [section["id"] for section in only.having("section")] == ["training"]
    no_baseline = compare([Entry("maml", {"x": a_result([0.5, 0.7])})])
    assert "beats" not in Page(render_report(title="t", table=no_baseline)).text
    only_baselines = compare([Entry("knn", {"x": a_result([0.5, 0.7])}, baseline=True)])
    assert "60.0" in Page(render_report(title="t", table=only_baselines)).text


def test_errors_are_shown_as_errors() -> None:
    wild = a_result([1.0, 3.0], metric="mse", mean=math.inf, ci95=math.inf, per_episode=(1.0, math.inf), diverged=1)
    table = compare([Entry("maml", {"x": wild}), Entry("ridge", {"x": a_result([0.25, 0.25], metric="mse")})])
    text = Page(render_report(title="t", table=table)).text
    assert "mean squared error" in text and "smaller is better" in text and "∞ ± ∞" in text and "0.250" in text


def test_a_full_disk_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    write_report(path, title="old")
    before = path.read_bytes()

    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write_report(path, title="new")
    assert path.read_bytes() == before


# --- curves -------------------------------------------------------------------------------------


def test_long_and_broken_curves_are_drawn() -> None:
    values = [math.nan] * 500 + [1.0, math.inf] * 2000
    (drawing,) = draw_curves([Curve("maml", "loss", range(4500), values)])
    assert "maml: from undefined at step 0 to ∞ at step 4499" in drawing.alt
    (flat,) = draw_curves([Curve("maml", "loss", [0], [1.0])])
    assert flat.light != flat.dark


def test_a_long_curve_passes_through_the_means_of_its_bins() -> None:
    from quickstudy.evaluate.figures import POINTS, _binned

    steps = np.arange(10.0 * POINTS)
    x, mean, low, high = _binned(steps, steps % 10)
    assert x[:2].tolist() == [4.5, 14.5] and len(x) == POINTS
    assert set(mean) == {4.5} and set(low) == {0.9} and set(high) == {8.1}


def test_drawing_leaves_no_trace_in_matplotlib() -> None:
    before = dict(matplotlib.rcParams)
    draw_curves(parts()["curves"])
    draw_intervals(parts()["table"])
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(("steps", "values"), [([], []), ([1, 2], [0.5])])
def test_a_curve_without_values_is_refused(steps: list[int], values: list[float]) -> None:
    with pytest.raises(InputError, match=r"Cannot draw the loss of maml: \d steps and \d values given"):
        Curve("maml", "loss", steps, values)


# --- a browser ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium() -> str:
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
    )
    if not found:
        reason = "no chromium: install it (apt-get install chromium) to have the report looked at"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def photograph(chromium: str, page: Path, folder: Path, *options: str) -> np.ndarray[Any, Any]:
    shot = folder / "shot.png"
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --hide-scrollbars --window-size=1200,1900"
    )
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [chromium, *flags.split(), profile, f"--screenshot={shot}", *options, page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return np.asarray(Image.open(shot).convert("RGB")).astype(int)


def holds(shot: np.ndarray[Any, Any], colour: str) -> int:
    """How many pixels are of this colour, give or take what smoothing does."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((abs(shot - wanted).max(2) <= 3).sum())


@pytest.mark.browser
def test_a_browser_shows_the_page_in_light_and_in_dark(chromium: str, tmp_path: Path, html: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(html, encoding="utf-8")
    light = photograph(chromium, path, tmp_path)
    dark = photograph(chromium, path, tmp_path, "--blink-settings=preferredColorScheme=0")
    assert light[5, 5].min() > 240 and dark[5, 5].max() < 40
    # The figures' blue, in each theme's own shade, and the red frames: pictures and styles pass the page's policy.
    assert holds(light, "#0063a8") > 200 and holds(dark, "#5ab4f0") > 200
    assert holds(light, "#b3261e") > 100 and holds(dark, "#ff8a80") > 100


def test_a_section_of_its_own() -> None:
    figure = drawing(lambda axes, theme: dress(axes, theme, "reliability", grid="y"), (3, 2), "a reliability diagram")
    section = Section(
        "Calibration <raw>",
        text=["Said and found."],
        drawings=[figure],
        pictures=[(base64.b64decode(png(np.zeros((4, 4), np.uint8)).partition(",")[2]), "a spectrogram")],
        head=["bin", "found"],
        rows=[["0.1", "0.2"]],
    )
    page = Page(render_report(title="t", sections=[section]))
    alts = [attributes["alt"] for tag, attributes in page.elements if tag == "img"]
    assert alts == ["a reliability diagram", "a spectrogram"]
    assert all(word in page.text for word in ("Calibration <raw>", "Said and found.", "bin", "0.1", "0.2"))


@pytest.mark.parametrize(
    ("values", "labels"),
    [((0.6, 3.7), ["1", "2"]), ((1e-8, 1e6), ["1e-06", "0.001", "1", "1000", "1e+06"])],
)
def test_a_logarithmic_axis_has_plain_numbers(values: tuple[float, ...], labels: list[str]) -> None:
    """Labels between decades have a colour of their own in matplotlib, which a dark page swallows."""
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    axes.plot(values)
    logarithmic(axes)
    low, high = axes.get_ylim()
    places = [place for place in axes.yaxis.get_majorticklocs() if low <= place <= high]
    assert [axes.yaxis.get_major_formatter()(place, 0) for place in places] == labels
    assert not len(axes.yaxis.get_minorticklocs())
