"""The plug-in meter of docs/how-to/energy.md, as it stands there, against a made-up socket."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from device.energy import choice
from device.energy.choice import chosen_meter
from device.energy.places import Places
from twinsplit.energy import MeterReading
from twinsplit.errors import SettingsError

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/energy.md"


class Socket(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert self.path == "/rpc/Switch.GetStatus?id=0"
        body = json.dumps({"id": 0, "output": True, "apower": 7.4, "aenergy": {"total": 512.3}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Socket)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module of the page, registered as the page says."""
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (group, name, target) = re.findall(r'\[project\.entry-points\."(.+?)"\]\n(\w+) = "(.+?)"', text)[0]
    assert group == choice.PLUG_IN_GROUP
    module = ModuleType(target.partition(":")[0])
    exec(compile(code, str(PAGE), "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(choice, "entry_points", lambda group: [EntryPoint(name, target, group)])


def test_the_meter_of_the_page_is_asked_for_by_name_and_tells_its_power(plug_in: None, address: str) -> None:
    meter = chosen_meter(f"socket:{address}", Places(vcgencmd=lambda *words: None))
    assert meter is not None
    assert (meter.source, meter.read()) == ("socket", MeterReading(watts=7.4))
    meter.close()


def test_nobody_there_is_said_at_the_start(plug_in: None) -> None:
    with pytest.raises(SettingsError, match=r"--energy socket:127\.0\.0\.1:9: the plug-in .* fails: URLError"):
        chosen_meter("socket:127.0.0.1:9", Places(vcgencmd=lambda *words: None))
