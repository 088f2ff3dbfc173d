"""A browser clicks through the viewer of a real run; every page is checked for accessibility."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest
from browser import chromium, serious_findings
from small_run import left_alone, start

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

SMALL = ("corpus.tokens=40000", "latents.layers.0=alive:2", "latents.layers.1=3017")
TEXT = "import os\nfor i in range(10):\n    print(i, **kwargs)\n"
PATIENCE = 120_000  # milliseconds; models are loaded, and other tests may run beside this one
WIDTHS = {"desk": (1280, 900), "phone": (390, 844)}

HEIGHTS = """() => {  // of rows of scores, with their controls and without
  const rows = [...document.querySelectorAll("tr:has(td.row)")];
  const heights = () => rows.map((row) => row.clientHeight);
  const before = heights();
  rows.forEach((row) => (row.querySelector("td.row").textContent = "–"));
  return [before, heights()];
}"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    first = left_alone(folder / "a", SMALL)
    return [first, Path(shutil.copytree(first, folder / "b" / "other"))]


@pytest.fixture(scope="module")
def address(runs: list[Path]) -> Iterator[str]:
    """A viewer of two runs, in a process of its own."""
    process = start(["view", *map(str, runs), "--port", "0"])
    assert process.stdout is not None
    yield process.stdout.readline().split()[-1].rstrip("/")
    process.terminate()
    assert process.wait(timeout=60) == 0


@pytest.fixture(scope="module")
def browser(address: str) -> Iterator[Browser]:
    """After the runs, which have event loops of their own: playwright's keeps running."""
    with chromium() as opened:
        yield opened


@pytest.fixture(params=[(w, s) for w in WIDTHS for s in ("light", "dark")], ids="-".join)
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """A page that fails the test if anything is blocked or complains."""
    (width, height), scheme = WIDTHS[request.param[0]], request.param[1]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    yield opened
    context.close()
    assert complaints == []


def check(page: Page) -> None:
    """No serious finding of axe, and nothing wider than the window; with all details open."""
    for summary in page.locator("details:not([open]) > summary").all():
        summary.click()
    assert serious_findings(page) == [], page.url
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), page.url


def test_clicking_through_everything(page: Page, address: str) -> None:
    page.goto(address)
    check(page)
    page.select_option("#coder", "layers.0")
    page.select_option("#sort", "density")
    page.click("text=search")
    assert page.locator("[data-rows] > li").count() == 2
    check(page)
    page.locator("[data-rows] h2 a").first.click()
    assert page.locator("h1").inner_text().startswith("layers.0/")
    check(page)
    before, without = page.evaluate(HEIGHTS)
    assert before == without, "controls make rows high where they are out of sight"
    page.click("text=find them")
    assert page.locator(".neighbours .n").count() >= 5
    check(page)
    page.click("nav[aria-label=Latents] a >> nth=0")
    assert page.locator("h1").inner_text().startswith("layers.")
    page.click("nav[aria-label=Pages] >> text=side by side")
    check(page)
    page.locator("[data-rows] h2 a").first.click()
    assert "side by side" in page.locator("h1").inner_text()
    check(page)
    page.click("nav[aria-label=Pages] >> text=about")
    check(page)


def test_which_latents_fire_on_a_text(page: Page, address: str) -> None:
    page.goto(f"{address}/live")
    check(page)
    page.fill("#text", TEXT)
    page.click("text=read it")
    page.wait_for_selector("#found")
    assert page.locator("#text").input_value() == TEXT
    fired = page.locator("[data-rows] > li", has_text="layers.1/3017")
    assert fired.locator("mark.peak").inner_text().strip() == "**"
    check(page)


def test_the_keyboard_is_enough(page: Page, address: str) -> None:
    page.goto(address)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type("layers.0/j")
    assert page.locator("#q").input_value() == "layers.0/j"
    page.locator("h1").click()
    page.keyboard.press("j")
    page.keyboard.press("j")
    name = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"h1 >> text={name}")


def test_it_ends_on_the_first_signal(runs: list[Path]) -> None:
    process = start(["view", str(runs[0]), "--port", "0"])
    assert process.stdout is not None
    address = process.stdout.readline().removeprefix("look at ").strip()
    assert address.startswith("http://127.0.0.1:")
    with urlopen(address) as page:
        assert page.status == 200
    process.send_signal(2)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in errors) == (0, False)
    assert "stopped" in out
