"""The page of the web example in a real browser: Debian's chromium, driven by playwright."""

import re
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from async_comfy.testing import SimulatedServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

playwright = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")

QUIET = [
    "--no-sandbox",  # as root, in a container, there is none to be had
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",  # and of loopback only the app is spoken to
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def page(web: str) -> Iterator["Page"]:
    """The page, open in a fresh browser. What its console complains of fails the test."""
    complaints: list[str] = []
    with playwright.sync_playwright() as drivers:
        browser = drivers.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page: Page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.goto(web)
        yield page
        browser.close()
    assert [said for said in complaints if "Failed to load resource" not in said] == []


def bar(page: "Page") -> float:
    value: float = page.locator("#bar").evaluate("bar => bar.value")
    return value


def picture(page: "Page") -> str:
    return page.locator("#picture").get_attribute("src") or ""


def test_generate_moves_the_bar_shows_previews_and_the_picture(comfy: SimulatedServer, page: "Page") -> None:
    """Step by step: with each the bar is further and the preview another one; then the whole picture."""
    comfy.hold("step")
    page.fill("#steps", "4")
    page.click("#generate")
    expect = playwright.expect
    places, previews = [0.0], [""]
    for step in (1, 2, 3):
        comfy.advance()
        expect(page.locator("#status")).to_have_text(f"KSampler, step {step} of 4")
        expect(page.locator("#stage")).to_have_attribute("data-state", "preview")
        expect(page.locator("#picture")).not_to_have_attribute("src", previews[-1])
        places.append(bar(page))
        previews.append(picture(page))
    assert places == sorted(set(places))
    assert all(source.startswith("data:image/jpeg") for source in previews[1:])
    comfy.release()
    expect(page.locator("#stage")).to_have_attribute("data-state", "final")
    expect(page.locator("#status")).to_have_text(re.compile(r"^Done in .* s\. Seed \d+$"))
    expect(page.locator("#picture")).to_have_js_property("naturalWidth", 1024)
    assert bar(page) == 1
    expect(page.locator("#generate")).to_be_enabled()
    expect(page.locator("#trouble")).to_be_hidden()


def test_closing_the_page_cancels_the_job(comfy: SimulatedServer, page: "Page") -> None:
    """The server stops working for somebody who left."""
    comfy.hold("node")
    page.click("#generate")
    playwright.expect(page.locator("#cancel")).to_be_visible()
    comfy.wait(lambda: len(comfy.running) == 1)
    (prompt_id,) = comfy.running
    page.close()
    comfy.wait(lambda: comfy.history(prompt_id) is not None)
    entry = comfy.history(prompt_id)
    assert entry is not None
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"


def test_cancel_stops_the_job_and_says_so(comfy: SimulatedServer, page: "Page") -> None:
    """The button; afterwards another picture can be had."""
    comfy.hold("node")
    page.click("#generate")
    page.click("#cancel")
    playwright.expect(page.locator("#status")).to_have_text("Cancelled.")
    playwright.expect(page.locator("#generate")).to_be_focused()
    assert comfy.queue_remaining == 0
    comfy.release()
    page.click("#generate")
    playwright.expect(page.locator("#stage")).to_have_attribute("data-state", "final")


def test_trouble_is_shown_in_a_sentence(comfy: SimulatedServer, page: "Page") -> None:
    """The server is away: the page says so and can be used again."""
    comfy.call(comfy.crash())
    page.click("#generate")
    playwright.expect(page.locator("#trouble")).to_have_text(
        "The picture server went away. Ask again in a minute."
    )
    playwright.expect(page.locator("#generate")).to_be_enabled()


def test_a_prompt_is_text_and_never_html(comfy: SimulatedServer, page: "Page") -> None:
    """It comes back as the picture's description, and nothing in it runs or becomes an element."""
    prompt = '"><img src=x onerror="document.title=1"><script>document.title=2</script>'
    page.fill("#prompt", prompt)
    page.click("#generate")
    playwright.expect(page.locator("#stage")).to_have_attribute("data-state", "final")
    assert page.locator("#picture").get_attribute("alt") == prompt
    assert page.title() == "Studio"
    assert page.locator("img").count() == 1


def test_what_is_spoken_is_the_state_and_not_each_step(comfy: SimulatedServer, page: "Page") -> None:
    """Twenty steps are five sentences, and the button that was pressed keeps the focus."""
    spoken = page.locator("#spoken")
    spoken.evaluate(
        "region => { window.heard = []; new MutationObserver(() => window.heard.push(region.textContent))"
        ".observe(region, { childList: true }) }"
    )
    page.click("#generate")
    playwright.expect(page.locator("#stage")).to_have_attribute("data-state", "final")
    heard = page.evaluate("window.heard")
    assert heard[0] == "Sending …"
    assert heard[-1].startswith("Done")
    assert len(heard) <= 8
    playwright.expect(page.locator("#generate")).to_be_focused()


def test_on_a_phone_nothing_sticks_out(page: "Page") -> None:
    """At 320 pixels, the narrowest there is, the page scrolls in one direction only."""
    page.set_viewport_size({"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") == 320
