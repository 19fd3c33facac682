"""The built site, opened from disk as a reader does; `mkdocs build` makes it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from browser import address, complaints, open_browser, requests

SITE = Path(__file__).parents[1] / "out" / "site"


def found(browser: Any, query: str, seconds: float = 30) -> list[str]:
    """Pages that the search box offers."""
    box = browser.find_element("css selector", "input[data-md-component=search-query]")
    box.click()
    box.send_keys(query)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        links = browser.find_elements("css selector", ".md-search-result__link")
        if links:
            return [link.get_attribute("href") for link in links]
        time.sleep(0.2)
    return []


@pytest.mark.slow  # a browser, for some 10 seconds
def test_the_site_from_disk() -> None:
    """Search finds a page, tutorials lead to the next one, nobody else is asked, and the console is silent."""
    if not (SITE / "index.html").is_file():
        pytest.skip("the site is not built: mkdocs build")
    with open_browser() as browser:
        browser.get(address(SITE / "index.html"))
        assert any(link.startswith(address(SITE / "rules.html")) for link in found(browser, "moments"))
        browser.get(address(SITE / "tutorials" / "01_shared_features.html"))
        following = browser.find_element("css selector", "a.md-footer__link--next").get_attribute("href")
        assert following == address(SITE / "tutorials" / "02_against_saliency_and_gradcam.html")
        assert len(browser.find_elements("css selector", "article img")) >= 3
        assert requests(browser) == []
        assert complaints(browser) == []
