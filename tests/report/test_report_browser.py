"""The report in a browser: readable in light and dark, on a phone, and without eyes or mouse."""

from __future__ import annotations

import pytest
from browser import chromium, serious_findings
from planted_coders import Planted
from small_run import left_alone, settings

from autointerp.cli import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report that has everything."""
    asked = ["explainer={kind: agent}", "scorers=[{kind: detection}, {kind: fuzzing}]"]
    folder = tmp_path_factory.mktemp("report")
    run = left_alone(folder, [*settings(planted, "alive:3", "alive:2"), *asked])
    assert main(["report", str(run)]) == 0
    return (run / "report.html").as_uri()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing_serious_and_nothing_overflows(
    address: str, scheme: str, width: int
) -> None:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        asked_for: list[str] = []
        page.on("request", lambda request: asked_for.append(request.url))
        page.goto(address)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert serious_findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert asked_for == [address]


def test_a_table_wider_than_the_page_has_shades_at_its_sides(address: str) -> None:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.goto(address)
        frame = page.get_by_role("region", name="scores", exact=True)
        assert frame.evaluate("e => e.scrollWidth > e.clientWidth")
        drawn = frame.evaluate("e => getComputedStyle(e).backgroundImage")
        assert drawn.count("linear-gradient") == 4


def test_plots_fill_the_width_of_the_page(address: str) -> None:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        for plots in page.locator(".plots").all():
            last = plots.locator("> figure").last
            ends = [e.evaluate("e => e.getBoundingClientRect().right") for e in (plots, last)]
            if plots.locator("> figure").count() <= 2:
                assert ends[0] - ends[1] < 2


def test_details_open_by_keyboard(address: str) -> None:
    with chromium() as browser:
        page = browser.new_page()
        page.goto(address)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
        page.locator("summary").first.focus()
        page.keyboard.press("Enter")
        assert page.locator("details").first.get_attribute("open") is not None
