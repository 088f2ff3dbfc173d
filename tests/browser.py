"""A headless Chromium for tests that look at pages as people do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
SERIOUS = ("serious", "critical")
NO_PLAYWRIGHT = "playwright or axe is not installed: pip install -e '.[dev]'"


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium; skips the test where there is none, or no playwright."""
    sync_api = pytest.importorskip("playwright.sync_api", reason=NO_PLAYWRIGHT)
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"there is no {NAMES[0]} on this machine: apt-get install {NAMES[0]}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def serious_findings(page: Page) -> list[str]:
    """What axe-core says is seriously wrong with a page, for those who see or move otherwise."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=NO_PLAYWRIGHT)
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{v['id']}: {v['help']}: {[node['html'][:120] for node in v['nodes'][:3]]}"
        for v in found
        if v["impact"] in SERIOUS
    ]
