"""Real browsers without a window, for what the pages' script does; what their console says and what they ask for."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", pytest.param("firefox", marks=pytest.mark.slow))  # all tests again: over 15 seconds
SWITCHES = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


@contextmanager
def open_browser(name: str = "chromium", width: int = 1366, height: int = 900) -> Iterator[Any]:
    """Chromium or Firefox, driven by selenium; the test is skipped where something is missing.

    A width of less than 500 is that of a phone: the page is as wide, whatever the least width of a window.
    """
    pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    with tempfile.TemporaryDirectory() as profile:
        browser = (_chromium if name == "chromium" else _firefox)(Path(profile), width, height)
        try:
            if width < 500:
                _narrow(browser, width, height)
            yield browser
        finally:
            browser.quit()


def _chromium(profile: Path, width: int, height: int) -> Any:
    from selenium import webdriver

    program, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if program is None or driver is None:
        pytest.skip("there is no chromium with its chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for switch in (*SWITCHES, f"--window-size={width},{height}", f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


def _firefox(profile: Path, width: int, height: int) -> Any:
    from firefox import in_chrome, open_firefox

    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        pytest.skip("there is no firefox on this machine")
    browser = open_firefox(program, profile, width, height)
    in_chrome(browser, LISTEN)
    return browser


def is_chromium(browser: Any) -> bool:
    return bool(browser.capabilities["browserName"] != "firefox")


def _narrow(browser: Any, width: int, height: int) -> None:
    if is_chromium(browser):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    else:
        from firefox import in_chrome

        in_chrome(browser, NARROW, width, height)


# As WebDriver's setViewport does.
NARROW = """
for (const [side, value] of [["width", arguments[0]], ["height", arguments[1]]])
  for (const name of [side, `min-${side}`, `max-${side}`]) gBrowser.selectedBrowser.style.setProperty(name, `${value}px`);
"""
LISTEN = """
window.asked = [];
Services.obs.addObserver((channel) => {
  channel.QueryInterface(Ci.nsIChannel);
  if (channel.loadInfo.browsingContext) window.asked.push(channel.URI.spec);
}, "http-on-modify-request");
Services.console.reset();
"""
HEARD = """
const said = Services.console.getMessageArray().filter((m) => m instanceof Ci.nsIScriptError && m.sourceName.startsWith("file:"));
Services.console.reset();
return said.map((m) => `${m.sourceName}:${m.lineNumber} ${m.errorMessage}`);
"""


def complaints(browser: Any) -> list[str]:
    """What the console has said since the last call."""
    if is_chromium(browser):
        return [entry["message"] for entry in browser.get_log("browser")]
    from firefox import in_chrome

    return list(in_chrome(browser, HEARD))


def requests(browser: Any) -> list[str]:
    """Addresses asked for since the last call, other than files and what is in the page."""
    if not is_chromium(browser):
        from firefox import in_chrome

        return list(in_chrome(browser, "return window.asked.splice(0);"))
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [url for url in asked if not url.startswith(("file:", "data:", "blob:", "chrome:"))]


def address(path: Path, fragment: str = "") -> str:
    return path.resolve().as_uri() + fragment
