"""Firefox for selenium without geckodriver, which Debian does not package: commands go to Marionette, its own server."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from selenium.webdriver import FirefoxOptions, Remote
from selenium.webdriver.remote.command import Command

NAMES = {
    Command.NEW_SESSION: "WebDriver:NewSession",
    Command.GET: "WebDriver:Navigate",
    Command.GET_CURRENT_URL: "WebDriver:GetCurrentURL",
    Command.W3C_EXECUTE_SCRIPT: "WebDriver:ExecuteScript",
    Command.W3C_EXECUTE_SCRIPT_ASYNC: "WebDriver:ExecuteAsyncScript",
    Command.FIND_ELEMENT: "WebDriver:FindElement",
    Command.FIND_ELEMENTS: "WebDriver:FindElements",
    Command.FIND_CHILD_ELEMENT: "WebDriver:FindElement",
    Command.FIND_CHILD_ELEMENTS: "WebDriver:FindElements",
    Command.CLICK_ELEMENT: "WebDriver:ElementClick",
    Command.CLEAR_ELEMENT: "WebDriver:ElementClear",
    Command.SEND_KEYS_TO_ELEMENT: "WebDriver:ElementSendKeys",
    Command.GET_ELEMENT_TEXT: "WebDriver:GetElementText",
    Command.GET_ELEMENT_RECT: "WebDriver:GetElementRect",
    Command.GET_ELEMENT_TAG_NAME: "WebDriver:GetElementTagName",
    Command.IS_ELEMENT_ENABLED: "WebDriver:IsElementEnabled",
    Command.IS_ELEMENT_SELECTED: "WebDriver:IsElementSelected",
    Command.GET_ELEMENT_ATTRIBUTE: "WebDriver:GetElementAttribute",
    Command.GET_ELEMENT_PROPERTY: "WebDriver:GetElementProperty",
    Command.GET_ELEMENT_VALUE_OF_CSS_PROPERTY: "WebDriver:GetElementCSSValue",
    Command.W3C_ACTIONS: "WebDriver:PerformActions",
    Command.W3C_CLEAR_ACTIONS: "WebDriver:ReleaseActions",
    Command.SCREENSHOT: "WebDriver:TakeScreenshot",
    Command.SET_TIMEOUTS: "WebDriver:SetTimeouts",
    "SET_CONTEXT": "Marionette:SetContext",
}  # fmt: skip
PREFERENCES = {
    "marionette.port": 0,  # any that is free; it is written into the profile
    "app.update.disabledForTesting": True,
    "datareporting.policy.dataSubmissionEnabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "toolkit.cosmeticAnimations.enabled": False,
    "general.smoothScroll": False,
}


class Marionette:
    """Selenium's command executor: starts Firefox, and takes each command to it.

    Parameters
    ----------
    program : str
    profile : path
        An empty folder.
    width, height : int
        Of the window.
    """

    def __init__(self, program: str, profile: Path, width: int, height: int) -> None:
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items()]
        (profile / "user.js").write_text("".join(lines))
        switches = ("--headless", "--marionette", "--remote-allow-system-access", "--no-remote")
        size = ("--width", str(width), "--height", str(height))
        self.process = subprocess.Popen(
            [program, *switches, *size, "--profile", str(profile)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.socket = socket.create_connection(("127.0.0.1", self._port(profile / "MarionetteActivePort")))
        self.answers = self.socket.makefile("rb")
        self._read()  # its greeting

    def _port(self, file: Path) -> int:
        for _ in range(600):
            if file.exists() and (text := file.read_text()):
                return int(text)
            time.sleep(0.05)
        self.process.kill()
        raise TimeoutError("Firefox has not opened its port in 30 s")

    def _read(self) -> Any:
        """A message: its length, a colon, JSON."""
        length = b""
        while (byte := self.answers.read(1)) != b":":
            length += byte
        return json.loads(self.answers.read(int(length)))

    def execute(self, command: str, params: dict[str, Any]) -> dict[str, Any]:
        """Carry out a command of selenium's; the answer as its own executor gives it."""
        if command == Command.QUIT:
            return self.quit()
        if command in (Command.FIND_CHILD_ELEMENT, Command.FIND_CHILD_ELEMENTS):
            params = {**params, "element": params["id"]}
        message = json.dumps([0, 1, NAMES[command], params]).encode()
        self.socket.sendall(b"%d:%b" % (len(message), message))
        _, _, error, value = self._read()
        if error:
            return {"status": 500, "value": json.dumps({"value": error})}
        single = isinstance(value, dict) and value.keys() == {"value"}
        return {"status": 0, "value": value["value"] if single else value}

    def quit(self) -> dict[str, Any]:
        self.socket.close()
        self.process.terminate()
        self.process.wait(30)
        return {"status": 0, "value": None}

    def close(self) -> None:
        """Selenium calls it after `quit`."""


def open_firefox(program: str, profile: Path, width: int, height: int) -> Remote:
    return Remote(Marionette(program, profile, width, height), options=FirefoxOptions())


def in_chrome(browser: Remote, script: str, *arguments: Any) -> Any:
    """Run a script with the browser's own rights, in its window rather than in the page."""
    browser.execute("SET_CONTEXT", {"value": "chrome"})
    try:
        return browser.execute_script(script, *arguments)
    finally:
        browser.execute("SET_CONTEXT", {"value": "content"})
