"""Takes the pictures of the console that the documents show, from the running services: minutes, and a calm machine.

python -m tests.system.console_pictures
"""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path

from PIL import Image

from tests.system.browser import Browser, chromium
from tests.system.live_services import ROOT, live_services

DESK = (1440, 1000)
PHONE = (360, 1040)
FILLED_S = 110.0
"""Until the chart of an edge is full."""

_MARKER = 'document.querySelector(".strip-large .strip-predicted")'
_UNDER_WAY = f"""!{_MARKER}.hidden && 0.25 < Number({_MARKER}.style.getPropertyValue("--share")) &&
    Number({_MARKER}.style.getPropertyValue("--share")) < 0.7"""
_IS_COLOURFUL = """[...document.querySelectorAll("#feed canvas")].slice(0, 6).filter((canvas) =>
    canvas.getContext("2d").getImageData(48, 48, 1, 1).data[3] > 0).length > 1 &&
    new Set([...document.querySelectorAll("#feed .task")].slice(0, 6).map((task) => task.dataset.outcome)).size > 1 &&
    document.querySelectorAll(".plan .band").length > 3"""


def _take(page: Browser, name: str) -> None:
    """A picture at an instant at which a task is under way and pictures came in, in few enough colours to be small."""
    page.wait_for(f"{_UNDER_WAY} && {_IS_COLOURFUL}", timeout_s=120)
    image = Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB")
    path = ROOT / "docs" / name
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Both pictures."""
    with tempfile.TemporaryDirectory() as folder, live_services(Path(folder)) as services, chromium() as page:
        for device_id in ("gate-3", "hall-2"):
            services.start_device(device_id, "--thumbnails")
        page.size(*DESK)
        page.open(f"{services.console}#device=camera-1")
        time.sleep(FILLED_S)
        _take(page, "console-desk.png")
        page.size(*PHONE)
        page.wait_for("innerWidth === args[0]", PHONE[0])
        page.run('document.getElementById("device").scrollIntoView();')
        _take(page, "console-phone.png")


if __name__ == "__main__":
    main()
