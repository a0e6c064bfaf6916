"""The page, in Chromium: what a person does there with mouse, keys and files, and what a screen reader finds."""

import contextlib
import io
import itertools
import os
import re
import urllib.request
import wave
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright", reason="playwright drives the browser: pip install 'quickstudy[dev]'")

from playwright.sync_api import Browser, Error, Page, Route, ViewportSize, expect

from tests.serve.browser import (
    FAINT,
    NAMELESS,
    answer,
    asked,
    bolt,
    chromium,
    circle,
    draw,
    drop_on,
    faces,
    find_chromium,
    free_port,
    hum,
    open_page,
    picture,
    seed,
    serving,
    star,
    tab_to,
    teach,
)

pytestmark = pytest.mark.browser

PHONE, DESK = ViewportSize(width=360, height=740), ViewportSize(width=1280, height=900)


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


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("service") / "tasks") as found:
        yield found


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A browser that has never seen the page, which must not complain there, and must ask nobody else."""
    context = browser.new_context(viewport=DESK, accept_downloads=True, permissions=["microphone"])
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    wrong: list[str] = []
    opened.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda request: wrong.append(request.url) if foreign(request.url, address) else None)
    opened.context.wrong = wrong  # type: ignore[attr-defined]
    yield opened
    context.close()
    assert wrong == []


def foreign(url: str, address: str) -> bool:
    return urlsplit(url).scheme not in ("data", "blob") and not url.startswith(address)


def expected_to_complain(page: Page, pattern: str) -> None:
    """The browser itself notes each refused request; the test says which it wanted."""
    wrong = page.context.wrong  # type: ignore[attr-defined]
    assert any(re.search(pattern, line) for line in wrong)
    wrong[:] = [line for line in wrong if not re.search(pattern, line)]


@pytest.fixture
def taught(page: Page, address: str) -> Page:
    """The page of a task that knows a circle and a star."""
    return open_page(page, seed(address, [("Circle", circle()), ("Star", star())]))


# --- drawing --------------------------------------------------------------------------------------------


def test_two_classes_are_drawn_a_third_drawing_is_told_and_all_is_there_after_a_reload(
    page: Page, address: str
) -> None:
    open_page(page, address)
    expect(page.locator("#answer")).to_contain_text("Draw something, then give it a name.")
    draw(page, star(0.3))
    teach(page, "Star")
    draw(page, circle())
    teach(page, "Circle")
    expect(page.locator(".learned")).to_have_text(re.compile(r"^Learned from 2 drawings of 2 classes in 0\.\d+\ss\.$"))
    draw(page, star(0.25, 0.45, 0.55))
    expect(answer(page)).to_have_text("Star")
    expect(page.locator("#answer .bars li").nth(0)).to_contain_text(re.compile(r"Star\s*\d+\s%"))
    expect(page.locator("#answer .nearest li").first).to_contain_text("Star")
    expect(page.locator("#status")).to_have_text(re.compile(r"Star, \d+\s%\."))
    # several learners, and where the examples lie
    expect(page.locator("#compare .learner .says .label").first).to_have_text("Star")
    assert page.locator("#compare .learner").count() >= 2
    expect(page.locator("#map .point")).to_have_count(3)
    expect(page.locator("#map-words li").first).to_contain_text("Star")

    page.reload()
    page.wait_for_selector("body[data-ready]")
    expect(faces(page, "Circle")).to_have_count(1)
    expect(faces(page, "Star")).to_have_count(1)
    expect(page.locator("#chips .name")).to_have_text(["Star", "Circle"])  # numbers and colours stay, too
    draw(page, circle(0.2, 0.55, 0.5))
    expect(answer(page)).to_have_text("Circle")
    # what is kept is ink on paper, as it was drawn
    task = page.url.partition("task=")[2]
    example = asked(address, f"tasks/{task}/examples")["examples"][0]
    drawn = page.request.get(f"{address}v1/tasks/{task}/examples/{example['id']}/content").body()
    grey = np.asarray(Image.open(io.BytesIO(drawn)).convert("L"))
    assert grey.shape == (280, 280) and grey[0, 0] == 255 and grey.min() == 0 and 0.02 < (grey < 128).mean() < 0.2


def test_the_losses_of_a_learner_that_learns_in_steps_are_drawn(taught: Page) -> None:
    page = taught
    learners = [
        {
            "name": "drawings",
            "summary": "s",
            "probabilities": {"Circle": 0.2, "Star": 0.8},
            "label": "Star",
            "milliseconds": 3,
        },
        {
            **{"name": "drawings-maml", "summary": "s", "probabilities": {"Circle": 0.4, "Star": 0.6}, "label": "Star"},
            **{"milliseconds": 9, "losses": [0.7, 0.4, 0.1]},
        },
    ]
    page.route("**/compare", lambda route: route.fulfill(json={"learners": learners}))
    draw(page, star())
    chart = page.get_by_role("img", name="Loss by steps: 0.70, 0.40, 0.10")
    expect(chart).to_be_visible()
    heights = [float(node.get_attribute("cy") or 0) for node in chart.locator("circle").all()]
    assert heights == sorted(heights) and len(set(heights)) == 3  # downwards, step by step
    expect(page.locator("#compare")).to_contain_text("0.70 before it learns, 0.10 after 2 steps")


def test_a_late_answer_does_not_count(taught: Page) -> None:
    page = taught
    late: list[Route] = []
    page.evaluate("""() => {
      const ask = window.fetch;
      window.givenUp = 0;
      window.fetch = (address, how) => {
        if (address.pathname.endsWith("classify")) how.signal?.addEventListener("abort", () => (window.givenUp += 1));
        return ask(address, how);
      };
    }""")

    held = True

    def hold(route: Route) -> None:
        if held:
            late.append(route)  # nobody answers, for now
        else:
            route.continue_()

    page.route("**/classify", hold)
    draw(page, circle())
    expect(page.locator("#answer .label")).to_have_text("One moment …")
    held = False
    page.get_by_role("button", name="Clear").click()
    draw(page, star())
    expect(answer(page)).to_have_text("Star")
    said = {"label": "Circle", "probability": 1, "probabilities": {"Circle": 1, "Star": 0}, "unknown": False}
    assert late and page.evaluate("window.givenUp") >= len(late)
    for route in late:
        with contextlib.suppress(Error):
            route.fulfill(json={"answers": [said]})
    page.wait_for_timeout(100)
    expect(answer(page)).to_have_text("Star")


def test_what_costs_more_waits_for_the_answer(taught: Page) -> None:
    """On a slow machine, too: learners are put side by side and the map is drawn once it is known what is there."""
    page = taught
    late: list[Route] = []
    asked_for: list[str] = []
    page.on("request", lambda request: asked_for.append(request.url.rpartition("/")[2]))
    page.route("**/classify", lambda route: late.append(route))
    draw(page, circle())
    page.wait_for_timeout(800)  # nothing changes for longer than it waits
    assert late and not {"compare", "map"} & set(asked_for)
    with page.expect_response("**/compare"), page.expect_response("**/map"):
        late[-1].continue_()
    expect(answer(page)).to_have_text("Circle")


def test_changes_are_taken_back(taught: Page) -> None:
    page = taught
    draw(page, circle(0.2))
    teach(page, "Circle")
    undo = page.locator("#undo")
    expect(faces(page, "Circle")).to_have_count(2)
    undo.click()  # the drawing
    expect(faces(page, "Circle")).to_have_count(1)
    page.get_by_role("button", name="Rename Star").click()
    page.get_by_label("New name of Star").fill("Sun")
    page.keyboard.press("Enter")
    expect(faces(page, "Sun")).to_have_count(1)
    page.get_by_role("button", name="Remove Circle", exact=True).click()
    expect(page.locator("#chips li")).to_have_count(1)
    faces(page, "Sun").hover()
    page.get_by_role("button", name="Remove this drawing of Sun").click()
    expect(faces(page, "Sun")).to_have_count(0)
    for _ in range(3):
        expect(undo).to_be_enabled()
        undo.click()
        page.wait_for_timeout(150)
    expect(faces(page, "Star")).to_have_count(1)
    expect(faces(page, "Circle")).to_have_count(1)
    draw(page, star(0.25))
    expect(answer(page)).to_have_text("Star")
    page.get_by_role("button", name="Undo stroke").click()
    expect(answer(page)).to_have_count(0)


def test_classes_whose_names_mean_something_in_an_address(page: Page, address: str) -> None:
    open_page(page, seed(address, [("..", circle()), (".", star()), ("a/b?c#%2F", circle(0.2))]))
    for name in ("..", ".", "a/b?c#%2F"):
        page.get_by_role("button", name=f"Rename {name}", exact=True).click()
        page.get_by_label(f"New name of {name}", exact=True).fill(f"{name} or so")
        page.keyboard.press("Enter")
        expect(faces(page, f"{name} or so")).to_have_count(1)
        page.wait_for_timeout(300)  # the cards are in their places
    page.locator("#undo").click()
    page.get_by_role("button", name="Remove ..", exact=False).first.click()
    expect(page.locator("#chips li")).to_have_count(2)


def test_a_task_is_exported_deleted_and_imported(taught: Page, tmp_path: Path) -> None:
    page = taught
    page.locator("#open-tasks").click()
    row = page.locator("#task-list .current")
    row.get_by_role("button", name="Rename").click()
    row.get_by_label("New name").fill("Shapes")
    page.keyboard.press("Enter")
    expect(row).to_contain_text("2 drawings · 2 classes")
    expect(page.locator("#task-name")).to_have_text("Shapes")
    with page.expect_download() as download:
        row.get_by_role("button", name="Export").click()
    assert download.value.suggested_filename == "Shapes.zip"
    kept = tmp_path / "Shapes.zip"
    download.value.save_as(kept)
    row.get_by_role("button", name="Delete").click()
    expect(row.get_by_role("button", name="Keep it")).to_be_focused()  # nothing is lost by a second Enter
    row.locator(".sure").get_by_role("button", name="Delete").click()
    expect(page.locator("#task-name")).to_have_text("New task")
    expect(page.locator("#classes > li")).to_have_count(0)
    page.locator("#import-file").set_input_files(kept)
    expect(page.locator("#task-name")).to_have_text("Shapes")
    expect(faces(page, "Star")).to_have_count(1)
    draw(page, circle(0.25))
    expect(answer(page)).to_have_text("Circle")


def test_a_deleted_task_is_asked_nothing_any_more(taught: Page) -> None:
    page = taught
    held: list[Route] = []
    page.route(re.compile(r"/v1/tasks/[^/]+/(compare|map)$"), lambda route: held.append(route))
    with page.expect_request("**/compare"), page.expect_request("**/map"):
        draw(page, circle(0.3))
    page.locator("#open-tasks").click()
    row = page.locator("#task-list .current")
    row.get_by_role("button", name="Delete").click()
    row.locator(".sure").get_by_role("button", name="Delete").click()
    expect(page.locator("#task-name")).to_have_text("New task")
    for route in held:
        with contextlib.suppress(Error):  # given up
            route.continue_()  # the service would get the question after the task is gone; `page` looks for complaints
    page.wait_for_timeout(300)


# --- pictures, sounds, sentences ------------------------------------------------------------------------


def test_sentences(page: Page, address: str) -> None:
    open_page(page, address)
    page.get_by_role("radio", name="Sentences").check(force=True)
    words = page.get_by_role("textbox", name="Sentences")
    words.fill("a table for two tonight\ncan we have dinner at eight")
    expect(page.locator("#teach-title")).to_have_text("What are these 2?")
    teach(page, "Food")
    expect(faces(page, "Food")).to_have_count(2)
    words.fill("will it rain tomorrow")
    teach(page, "Weather")
    words.fill("is there rain today")
    expect(answer(page)).to_have_text("Weather")
    words.fill("will rain come tomorrow\na table and some dinner")
    expect(answer(page)).to_have_text("Food")  # of the line with the cursor
    page.keyboard.press("Control+Home")
    expect(answer(page)).to_have_text("Weather")


def test_pictures(page: Page, address: str) -> None:
    open_page(page, address)
    page.get_by_role("radio", name="Pictures").check(force=True)
    file = page.locator("#picture-file")
    file.set_input_files([picture((200, 30, 30), n) for n in range(3)])
    teach(page, "Red")
    file.set_input_files([picture((30, 40, 200), n, size=3000) for n in range(2)])  # nine megapixels
    teach(page, "Blue")
    expect(faces(page, "Red")).to_have_count(3)
    file.set_input_files([picture((30, 40, 200), 0, size=3000), picture((200, 30, 30), 1)])
    expect(page.locator(".caption")).to_have_text(["Blue", "Red"])
    sides = page.evaluate("[...document.querySelectorAll('#classes img')].map((image) => image.naturalWidth)")
    assert max(sides) == 1024  # what was large is sent smaller
    drop_on(page, "Red", picture((200, 30, 30), 5))
    expect(faces(page, "Red")).to_have_count(4)
    expect(page.locator(".caption")).to_have_text(["Blue", "Red"])  # what was asked about is still there
    file.set_input_files({"name": "broken.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.locator("#notices")).to_contain_text("picture")  # the service's own sentence
    expected_to_complain(page, "the server responded with a status of 4")


def test_sounds(page: Page, address: str) -> None:
    open_page(page, address)
    page.get_by_role("radio", name="Sounds").check(force=True)
    page.get_by_role("button", name="Record").click()
    expect(page.get_by_role("meter", name="Loudness")).not_to_have_js_property("value", 0)
    page.wait_for_timeout(1100)  # the microphone of a browser without one beeps once a second
    page.get_by_role("button", name="Stop").click()
    page.locator(".tray li").first.wait_for()
    teach(page, "Beep")
    expect(page.get_by_role("button", name="Play a sound of Beep")).to_be_visible()
    task = page.url.partition("task=")[2]
    example = asked(address, f"tasks/{task}/examples")["examples"][0]
    kept = page.request.get(f"{address}v1/tasks/{task}/examples/{example['id']}/content").body()
    with wave.open(io.BytesIO(kept)) as sound:
        assert (sound.getnchannels(), sound.getframerate(), sound.getsampwidth()) == (1, 16000, 2)
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
    assert 1000 < len(samples) < 4 * 16000 and abs(samples).max() > 300
    page.locator("#sound-file").set_input_files({"name": "hum.wav", "mimeType": "audio/wav", "buffer": hum(440)})
    teach(page, "Hum")
    page.locator("#sound-file").set_input_files({"name": "hum.wav", "mimeType": "audio/wav", "buffer": hum(450)})
    expect(page.locator(".caption")).to_have_text("Hum")


def test_a_microphone_that_may_not_be_used_is_a_sentence(page: Page, address: str) -> None:
    open_page(page, address)
    denied = "async () => { throw new DOMException('', 'NotAllowedError'); }"
    page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = {denied}; }}")
    page.get_by_role("radio", name="Sounds").check(force=True)
    page.get_by_role("button", name="Record").click()
    expect(page.get_by_role("alert").first).to_contain_text("The microphone may not be used")


# --- keys, listeners, eyes ------------------------------------------------------------------------------


def test_keys_are_enough(page: Page, address: str) -> None:
    open_page(page, address)
    press = page.keyboard.press
    for name, turns in (("Square", ("Right", "Down", "Left", "Up")), ("Stroke", ("Down",))):
        tab_to(page, "#paper")
        press("Space")
        for turn in turns:
            for _ in range(8):
                press(f"Arrow{turn}")
        press("Space")
        tab_to(page, "#new-label")
        page.keyboard.type(name)
        press("Enter")
        expect(faces(page, name)).to_have_count(1)
    press("Escape")
    page.locator("#paper").focus()
    press("Space")
    for _ in range(6):
        press("ArrowUp")
    press("Space")
    expect(answer(page)).to_have_text("Stroke")
    expect(page.locator("#status")).to_have_text(re.compile("^Stroke, "))
    press("2")  # the number of a class adds the drawing to it
    expect(faces(page, "Stroke")).to_have_count(2)
    press("Control+z")
    expect(faces(page, "Stroke")).to_have_count(1)
    tab_to(page, "#classes .remove")
    press("Enter")
    expect(faces(page, "Square")).to_have_count(0)
    assert page.evaluate("document.activeElement !== document.body")  # focus is not lost with what was removed
    press("Shift+Tab")
    page.locator("#open-tasks").focus()
    press("Enter")
    expect(page.get_by_role("dialog", name="Tasks")).to_be_visible()
    press("Escape")
    expect(page.locator("#open-tasks")).to_be_focused()


def test_controls_have_names_text_is_clear_and_a_small_screen_is_wide_enough(page: Page, address: str) -> None:
    open_page(page, seed(address, [("Circle", circle()), ("Star", star()), ("Bolt", bolt())]))
    draw(page, star(0.25))
    expect(answer(page)).to_have_text("Star")
    page.locator("#map .point").nth(3).wait_for()
    page.evaluate("for (const node of document.querySelectorAll('details')) node.open = true")
    page.emulate_media(reduced_motion="reduce")  # nothing is caught halfway between two colours
    page.emulate_media(color_scheme="dark")
    expect(page.get_by_role("button", name="Light colours")).to_be_visible()
    backgrounds = [page.evaluate("getComputedStyle(document.body).backgroundColor")]  # as the system has it
    page.emulate_media(color_scheme="light")
    for scheme in ("Dark", "Light"):
        page.get_by_role("button", name=f"{scheme} colours").click()
        backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        for size in (DESK, PHONE):
            page.set_viewport_size(size)
            assert page.evaluate(NAMELESS) == []
            assert page.evaluate(FAINT) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert backgrounds == ["rgb(20, 22, 26)", "rgb(20, 22, 26)", "rgb(250, 249, 246)"]
    expect(page.locator("#peek")).to_contain_text("Star")
    headings = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((node) => Number(node.tagName[1]))")
    assert headings[0] == 1 and all(later - earlier <= 1 for earlier, later in itertools.pairwise(headings))


# --- what goes wrong ------------------------------------------------------------------------------------


def test_what_was_drawn_while_the_service_was_away_is_sent_when_it_is_back(taught: Page) -> None:
    page = taught
    page.context.set_offline(True)
    draw(page, circle(0.2))
    page.locator("#chips").get_by_role("button", name="Circle").click()
    expect(page.locator("#notices")).to_contain_text("The service cannot be reached. What you made is kept here")
    expect(page.locator("#classes .pending")).to_have_count(1)
    page.context.set_offline(False)
    expect(page.locator("#classes .pending")).to_have_count(0)
    expect(faces(page, "Circle")).to_have_count(2)
    expect(page.locator("#notices")).to_be_empty()
    expected_to_complain(page, "ERR_INTERNET_DISCONNECTED")


@pytest.mark.e2e
def test_a_service_that_is_started_anew_gets_what_was_drawn_meanwhile(browser: Browser, tmp_path: Path) -> None:
    port = free_port()
    page = browser.new_page(viewport=DESK)
    with serving(tmp_path / "tasks", port) as address:
        open_page(page, seed(address, [("Circle", circle()), ("Star", star())]))
    draw(page, circle(0.2))
    page.locator("#chips").get_by_role("button", name="Circle").click()
    expect(page.locator("#notices")).to_contain_text("The service cannot be reached. What you made is kept here")
    with serving(tmp_path / "tasks", port):
        expect(page.locator("#classes .pending")).to_have_count(0, timeout=20_000)
        expect(faces(page, "Circle")).to_have_count(2)
        draw(page, star(0.25))
        expect(answer(page)).to_have_text("Star")
    page.close()


def test_a_refused_drawing_is_on_the_sheet_again(taught: Page) -> None:
    page = taught
    said = "A task holds at most 3 examples, and this one has them. Remove some first."
    refusal = {"error": {"code": "too_many", "message": said}}
    page.route("**/examples", lambda route: route.fulfill(status=422, json=refusal))
    draw(page, circle(0.2))
    page.locator("#chips").get_by_role("button", name="Circle").click()
    expect(page.locator("#notices")).to_contain_text(said)
    expect(faces(page, "Circle")).to_have_count(1)
    expect(answer(page)).to_have_text("Circle")
    expected_to_complain(page, "422")


def test_a_task_that_was_deleted_elsewhere(taught: Page, address: str) -> None:
    page = taught
    id_ = page.url.partition("#task=")[2]
    with urllib.request.urlopen(urllib.request.Request(f"{address}v1/tasks/{id_}", method="DELETE")):
        pass
    draw(page, circle(0.25))
    page.locator("#chips li button").first.click()
    expect(page.locator("#notices")).to_contain_text("This task is gone: it was deleted elsewhere.")
    page.goto("about:blank")  # it asks no more
    expected_to_complain(page, "404")


def test_a_key_is_asked_for_and_kept_for_the_tab(page: Page, address: str) -> None:
    def guard(route: Route) -> None:
        headers = dict(route.request.headers)
        if headers.pop("authorization", None) == "Bearer secret":
            route.continue_(headers=headers)  # the service behind has no keys
        else:
            route.fulfill(status=401, json={"error": {"code": "no_key", "message": "This service wants a key."}})

    page.route("**/v1/**", guard)
    page.goto(seed(address, [("Circle", circle()), ("Star", star())]))
    dialog = page.get_by_role("dialog", name="A key, please")
    expect(dialog).to_contain_text("This service wants a key.")
    dialog.get_by_label("Key").fill("secret")
    page.keyboard.press("Enter")
    page.wait_for_selector("body[data-ready]")
    expect(faces(page, "Star")).to_have_count(1)
    assert page.evaluate(
        "Object.values(sessionStorage).includes('secret') && !JSON.stringify(localStorage).includes('secret')"
    )
    expected_to_complain(page, "401")
