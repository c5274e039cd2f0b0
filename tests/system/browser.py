"""A headless Chromium: Debian's, driven by selenium, with everything it logged and asked for."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

_FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
)

_NETWORK_CHANGED = "net::ERR_NETWORK_CHANGED"
_UNANSWERED = """
return performance.getEntriesByType("resource").filter((each) => each.responseStatus === 0).map((each) => each.name);
"""


class Browser:
    """One tab. ``driver`` is selenium's."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self._errors: list[str] = []

    def open(self, url: str) -> None:
        """Load a page, again where an interface that came or went on this machine (a container's, say) broke it off."""
        for attempt in range(5):
            if attempt == 0:
                self.driver.get(url)
            else:
                self.driver.refresh()  # to the same address with a fragment, get() would load nothing
            unanswered = self.run(_UNANSWERED)
            self._errors = self._new_errors()
            if not unanswered and not any(_NETWORK_CHANGED in line for line in self._errors):
                return
        raise AssertionError(f"{url} was not loaded: no answer from {unanswered}; console: {self._errors}")

    def run(self, script: str, *arguments: object) -> Any:
        """What ``script``, the body of an async function, returns."""
        wrapped = f"""
            const args = [...arguments];
            const done = args.pop();
            const work = async () => {{ {script} }};
            work().then((value) => done({{ value }}), (error) => done({{ error: String(error) }}));
        """
        answer = self.driver.execute_async_script(wrapped, *arguments)
        assert "error" not in answer, answer["error"]
        return answer.get("value")

    def wait_for(self, condition: str, *arguments: object, timeout_s: float = 60.0) -> Any:
        """The first value of the expression ``condition`` that is true."""
        until_s = time.monotonic() + timeout_s
        while True:
            if value := self.run(f"return ({condition});", *arguments):
                return value
            assert time.monotonic() < until_s, self._not_yet(condition, timeout_s)
            time.sleep(0.1)

    def _new_errors(self) -> list[str]:
        return [line["message"] for line in self.driver.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]

    def _not_yet(self, condition: str, timeout_s: float) -> str:
        shown = self.run("return `${document.readyState} ${document.visibilityState}\\n${document.body.innerText}`;")
        said = self._errors + self._new_errors()
        return f"still not so after {timeout_s:g} s: {condition}\nshown: {shown[:1500]}\nconsole: {said}"

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(args[0]).textContent;", selector))

    def each(self, selector: str, value: str) -> list[Any]:
        """The expression ``value`` of every element ``it`` that ``selector`` finds."""
        return list(self.run(f"return [...document.querySelectorAll(args[0])].map((it) => {value});", selector))

    def size(self, width: int, height: int) -> None:
        """Viewport in CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, **features: str) -> None:
        """Media features, such as ``prefers_color_scheme="dark"``; none: as they are."""
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": listed})

    def errors(self, *expected: str) -> list[str]:
        """What the console has said of warnings and errors since the last look, but for lines that hold one of
        ``expected``."""
        said, self._errors = self._errors + self._new_errors(), []
        return [line for line in said if not any(part in line for part in (_NETWORK_CHANGED, *expected))]

    def requests(self) -> list[str]:
        """Addresses asked for since the last look, by whatever in the page."""
        events = (json.loads(line["message"])["message"] for line in self.driver.get_log("performance"))
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser of its own, without a profile."""
    options = Options()
    options.binary_location = shutil.which("chromium") or "chromium"
    for flag in _FLAGS:
        options.add_argument(flag)
    if os.geteuid() == 0:  # Chromium's sandbox refuses root
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # Named, so that selenium looks for no driver elsewhere.
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    driver.set_script_timeout(90)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
