"""The page: whole without a network and without scripts; sorted, filtered and looked at in a browser."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from quickstudy.leaderboard import Board, read_board, render_page, write_page
from quickstudy.leaderboard.published import published
from quickstudy.leaderboard.reading import _tables
from tests.leaderboard.rows import made, robust, row, seen


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    folder = tmp_path_factory.mktemp("results")
    good, poor = made(0.9, 1), made(0.5, 3)
    row(folder, "good <b>", good, train_seconds=600.0, made="2026-01-02", robustness=seen(good, 0.4, 0.09))
    better = made(0.91, 2)
    row(folder, "better", better, train_seconds=4000.0, recipe="a-recipe", robustness=robust(better))
    row(folder, "poor", poor, baseline=True, train_seconds=20.0, robustness=seen(poor, 0.5, 0.1))
    row(folder, "free", made(0.6, 6))
    row(folder, "sees all", made(0.95, 4, transductive=True), train_seconds=300.0)
    row(folder, "five shots", made(0.5, 5, shot=5))
    measured = read_board(folder, papers=False).tables
    papers = [one for one in published() if one.name in ("omniglot-maml-5w1s", "sinusoid-maml")]
    return Board((*measured, *_tables([], papers)))


class _Reader(HTMLParser):
    """What a page loads, and which tags it opens and closes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "input", "link", "path", "circle"):
            self.open.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_endtag(self, tag: str) -> None:
        if tag in ("option", "path", "circle"):
            self.open = [one for one in self.open if one != tag] if tag == "option" else self.open
            return
        assert self.open.pop() == tag, tag


def test_the_page_is_whole_and_asks_nobody(board: Board, tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", board)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    reader = _Reader()
    reader.feed(text)
    assert reader.loaded == [] and "http" not in re.sub(r'http-equiv="', "", text)
    assert "good &lt;b&gt;" in text and "good <b>" not in text
    assert "default-src 'none'" in text and text == render_page(board)
    folder = str(board.tables[0].rows[0].first.path.parents[1])
    assert 'title="study/better.json"' in text and folder not in text, "a row's file, without the machine's folders"


def test_published_figures_have_a_part_of_their_own(board: Board) -> None:
    text = render_page(board)
    parts = re.findall(r'<tbody class="(\w+)">(.*?)</tbody>', text, flags=re.DOTALL)
    for kind, body in parts:
        assert ("Finn, Abbeel, Levine" in body) == (kind == "published")
        assert ('class="rank" data-v' in body) == (kind != "published"), "papers' figures have no rank"
    assert {kind for kind, _ in parts} == {"inductive", "transductive", "published"}


def test_robustness_stands_below_its_table(board: Board) -> None:
    (part,) = re.findall(r'<details class="robustness">.*?</details>', render_page(board), flags=re.DOTALL)
    assert '<th scope="col">1 better</th>' in part and part.count("<tr>") == 3, "of the only row that has figures"
    assert "20 % wrong labels (%)" in part and "its head has 5 classes." in part


def test_cost_is_drawn_against_accuracy_where_it_is_known(board: Board) -> None:
    (drawn,) = re.findall(r'<svg class="cost".*?</svg>', render_page(board), flags=re.DOTALL)
    assert drawn.count("<circle") == 4, "what was not trained has no cost"
    assert 'class="front"' in drawn and 'class="transductive"' in drawn
    assert "1: better, " in drawn and "t1: sees all" in drawn and "nan" not in drawn.lower()


def test_an_empty_board_is_a_page() -> None:
    assert "0 measured rows" in render_page(Board(()))


# --- in a browser ----------------------------------------------------------------------------------

pytest.importorskip("playwright", reason="playwright drives the browser: pip install 'quickstudy[dev]'")
from playwright.sync_api import Browser, Page, expect  # noqa: E402

from tests.serve.browser import FAINT, NAMELESS, chromium, find_chromium  # noqa: E402


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    if not path:
        reason = "no chromium: install it (apt-get install chromium) to have the page looked at"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with chromium(path) as started:
        yield started


def names(page: Page, body: str = ".inductive") -> list[str]:
    texts: list[str] = page.locator(f"#task-1 {body} tr:visible th.name").evaluate_all(
        "nodes => nodes.map((node) => node.firstChild.textContent.trim())"
    )
    return texts


@pytest.mark.browser
def test_rows_are_sorted_and_filtered(browser: Browser, board: Board, tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", board)
    page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme="dark")
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"file://{tmp_path / 'page.html'}")
    assert names(page) == ["better", "good <b>", "free", "poor"]
    for column, down, up in (
        ("5th percentile", ["better", "good <b>", "free", "poor"], ["poor", "free", "good <b>", "better"]),
        ("Accuracy in %", ["better", "good <b>", "free", "poor"], ["poor", "free", "good <b>", "better"]),
        ("Worst class", ["poor", "good <b>", "free", "better"], ["good <b>", "poor", "free", "better"]),
        ("ECE", ["good <b>", "poor", "free", "better"], ["poor", "good <b>", "free", "better"]),
        ("Training", ["poor", "good <b>", "better", "free"], ["better", "good <b>", "poor", "free"]),
        ("Learner", ["better", "free", "good <b>", "poor"], ["poor", "good <b>", "free", "better"]),
    ):
        head = page.locator("#task-1").get_by_role("button", name=column)
        head.click()
        assert names(page) == down, "what is not known stands last"
        head.click()
        assert names(page) == up
        assert page.locator("#task-1 th[aria-sort]").count() == 1
    assert names(page, ".transductive") == ["sees all"], "each part by itself"
    page.locator("select[name=setting]").select_option("transductive")
    expect(page.locator("#shown")).to_have_text("2 rows of 2 tasks")
    assert names(page) == [] and names(page, ".transductive") == ["sees all"]
    page.get_by_role("button", name="Show all").click()
    expect(page.locator("#shown")).to_have_text("8 rows of 4 tasks")
    page.locator("select[name=shot]").select_option("1")
    page.get_by_role("searchbox", name="Text").fill("a-recipe")
    expect(page.locator("#shown")).to_have_text("1 row of 1 task")
    assert names(page) == ["better"]
    page.reload()  # what is chosen stands in the address
    expect(page.locator("#shown")).to_have_text("1 row of 1 task")
    page.evaluate("location.hash = 'shot=1'")  # an address that was sent, in a page that is open
    expect(page.locator("#shown")).not_to_have_text("1 row of 1 task")
    assert page.locator("select[name=shot]").input_value() == "1" and page.url.endswith("#shot=1")
    page.get_by_role("searchbox", name="Text").fill("nothing like that")
    expect(page.locator("#none")).to_be_visible()
    page.get_by_role("button", name="Show all").click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "a phone need not scroll sideways"
    assert page.evaluate(NAMELESS) == [] and page.evaluate(FAINT) == []
    page.emulate_media(color_scheme="light")
    assert page.evaluate(FAINT) == [] and wrong == []
    page.close()


@pytest.mark.browser
def test_it_is_a_plain_table_without_scripts(browser: Browser, board: Board, tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", board)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"file://{tmp_path / 'page.html'}")
    assert page.locator("#filters").is_hidden()
    assert page.locator("tbody tr th.name").count() == 8
    context.close()
