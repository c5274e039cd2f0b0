"""The doctor before real edges and twins: what is in order, and every way in which it is not."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import trustme

from benchmarks.testbed.process import free_ports
from device.doctor.collector import collector_finding
from device.doctor.finding import Check, Finding, Verdict
from device.doctor.machine import HeldModel, read_model
from device.doctor.peers import peer_findings
from device.doctor.settings import DoctorSettings
from tests.fuzz.served import served
from tests.fuzz.test_live_uplink import RawEdge
from tests.integration.device_bench import PATIENCE_S, running_device, running_edge, until, write_network
from tests.integration.otlp_receiver import receiving
from tests.integration.stopping import stopped_after
from tests.integration.test_twin_streams import running as running_twin
from tests.unit.edge.tiny_model import write_tiny_model
from twinsplit.certificates.authority import Authority
from twinsplit.certificates.folder import CA, CERT, KEY, keep_issued
from twinsplit.certificates.subject import Role, Subject
from twinsplit.errors import StoppingError
from twinsplit.rpc.v1 import edge_pb2, edge_pb2_grpc, twin_pb2, twin_pb2_grpc
from twinsplit.transport.server import start_server

pytestmark = pytest.mark.slow

COMMAND = str(Path(sys.executable).with_name("twinsplit"))
ANY_PORT = "127.0.0.1:0"
HOUR_NS = 3_600_000_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("model") / "1")


@pytest.fixture(scope="module")
def model(folder: Path) -> HeldModel:
    held, _ = read_model(folder)
    assert held is not None
    return held


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("other") / "1", name="other", seed=1)


async def _findings(model: HeldModel | None, timeout_s: float = PATIENCE_S, **settings: Any) -> dict[Check, Finding]:
    found = await peer_findings(DoctorSettings(**settings), model, timeout_s=timeout_s)
    return {finding.check: finding for finding in found}


def _bad(findings: dict[Check, Finding]) -> dict[str, str]:
    return {
        finding.check.value: f"{finding.text}; {finding.cure}"
        for finding in findings.values()
        if finding.verdict is Verdict.BAD
    }


def _tls(folder: Path, authority: trustme.CA, *hosts: str, **issue: Any) -> dict[str, Path]:
    folder.mkdir()
    issued = authority.issue_cert(*(hosts or ("127.0.0.1",)), **issue)
    files = {"tls_ca": folder / "ca.pem", "tls_cert": folder / "cert.pem", "tls_key": folder / "key.pem"}
    authority.cert_pem.write_to_path(str(files["tls_ca"]))
    issued.cert_chain_pems[0].write_to_path(str(files["tls_cert"]))
    issued.private_key_pem.write_to_path(str(files["tls_key"]))
    files["tls_key"].chmod(0o600)
    return files


async def test_everything_in_order_is_said_by_the_command_and_it_disturbs_no_device(
    folder: Path, tmp_path: Path
) -> None:
    authority = Authority.made()
    tls = {}
    for subject in (Subject(Role.TWIN, "twin"), Subject(Role.EDGE, "hall"), Subject(Role.DEVICE, "cam")):
        keep_issued(authority.issue(subject), authority, tmp_path / subject.name)
        files = (tmp_path / subject.name / name for name in (CA, CERT, KEY))
        tls[subject.role.value] = dict(zip(("tls_ca", "tls_cert", "tls_key"), files, strict=True))
    async with (
        running_twin(tmp_path / "state", **tls["twin"]) as twin,
        running_edge(folder, id="hall", twin=twin.address, **tls["edge"]) as edge,
        running_device(folder, id="cam", twin=twin.address, **tls["device"]) as bench,
    ):
        await until(lambda: bool(bench.device.shell.link and bench.device.shell.link.is_attached))
        await until(lambda: any(each.is_attached for each in twin.exchange.core.edges.values()))
        attached_times = bench.device.shell.link.attached_times
        flags = [f"--{name.replace('_', '-')}={path}" for name, path in tls["device"].items()]
        flags += [f"--source=video:{folder / 'manifest.json'}", f"--sink={tmp_path / 'tasks.jsonl'}"]
        flags += [f"--profile={tmp_path / 'profile.json'}"]
        command = [COMMAND, "doctor", "--json", "--timeout-s=60", f"--model={folder}", f"--twin={twin.address}"]
        done = await asyncio.to_thread(
            subprocess.run, [*command, "--id=cam", *flags], capture_output=True, text=True, check=False
        )
        assert bench.device.shell.link.attached_times == attached_times
        assert bench.device.shell.link.is_attached
    found = json.loads(done.stdout)
    assert [each for each in found["findings"] if each["verdict"] == "bad"] == []
    assert done.returncode == 0
    text = {each["check"]: each["text"] for each in found["findings"] if each["verdict"] == "ok"}
    assert set(text) >= {check.value for check in Check} - {"energy-meter", "collector", "twin-replicas"}, (
        "each line is green here"
    )
    assert "cam is attached" in text["twin"]
    assert f"{edge.address}: hall" in text["edge"], "the twin told of the edge"
    assert "held by hall" in text["twin-model"]


async def test_the_command_ends_with_1_where_something_is_bad(folder: Path) -> None:
    command = [COMMAND, "doctor", f"--model={folder}", "--edge=127.0.0.1:9"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("BAD"))
    assert line.split(maxsplit=2)[1:] == [
        "edge",
        "127.0.0.1:9: nobody listens there; start the edge there, or correct the port in --edge",
    ]
    assert done.stderr == ""


async def test_an_edge_without_a_twin(folder: Path, model: HeldModel) -> None:
    async with running_edge(folder, id="hall") as edge:
        findings = await _findings(model, edge=edge.address)
    assert _bad(findings) == {}
    assert findings[Check.TWIN].verdict is Verdict.SKIPPED
    assert "hall holds tiny 1" in findings[Check.EDGE_MODEL].text
    assert "round trip" in findings[Check.EDGE].text


# Addresses.


async def test_nobody_listens(model: HeldModel) -> None:
    bad = _bad(await _findings(model, twin="127.0.0.1:9", edge="127.0.0.1:9"))
    assert set(bad) == {"twin", "edge"}
    assert bad["twin"].endswith("nobody listens there; start the twin there, or correct the port in --twin")


async def test_a_host_that_is_unknown(model: HeldModel) -> None:
    bad = _bad(await _findings(model, edge="nowhere.invalid:7100"))
    assert bad["edge"].startswith("nowhere.invalid:7100: the host nowhere.invalid is unknown")


async def test_an_address_that_is_none(model: HeldModel) -> None:
    assert "write HOST:PORT" in _bad(await _findings(model, edge="hall"))["edge"]


async def test_a_list_of_twins_that_cannot_be_read_or_holds_none(model: HeldModel, tmp_path: Path) -> None:
    told = _bad(await _findings(model, twin=f"@{tmp_path / 'twins'}"))["twin"]
    assert str(tmp_path / "twins") in told
    (tmp_path / "twins").write_text("hall\n")
    assert "write HOST:PORT" in _bad(await _findings(model, twin=f"@{tmp_path / 'twins'}"))["twin"]


@pytest.fixture
def deaf() -> Iterator[str]:
    """Something that takes connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


async def test_something_else_listens(model: HeldModel, deaf: str) -> None:
    bad = _bad(await _findings(model, 2.0, edge=deaf))
    assert "no twinsplit service" in bad["edge"]
    assert "the port of gRPC" in bad["edge"]


async def test_the_port_of_another_service(folder: Path, model: HeldModel, tmp_path: Path) -> None:
    async with running_twin(tmp_path) as twin, running_edge(folder) as edge:
        bad = _bad(await _findings(model, twin=edge.address, edge=twin.address))
    assert "is another service or an older version" in bad["twin"]
    assert "see that --edge names the edge's port of gRPC" in bad["edge"]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TimeoutError(), "no answer within 2 s; see that the machine is on and no firewall is in between"),
        (
            OSError(101, "Network is unreachable"),
            "network is unreachable; see that this machine is on the right network",
        ),
    ],
)
async def test_a_network_that_leads_nowhere(
    error: OSError, says: str, model: HeldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_more: object) -> None:
        raise error

    monkeypatch.setattr("device.doctor.silence.socket.create_connection", fail)
    assert says in _bad(await _findings(model, 2.0, edge="127.0.0.1:9"))["edge"]


# TLS.


async def test_tls_on_one_side_only(folder: Path, model: HeldModel, tmp_path: Path) -> None:
    files = _tls(tmp_path / "files", trustme.CA())
    async with running_edge(folder, **files) as secured, running_edge(folder) as plain:
        without = _bad(await _findings(model, edge=secured.address))
        with_ = _bad(await _findings(model, edge=plain.address, **files))
    assert "it speaks TLS only; give --tls-ca" in without["edge"]
    assert "it does not speak TLS; leave out --tls-ca" in with_["edge"]


async def test_a_device_that_shows_no_certificate_or_one_of_another_authority(
    folder: Path, model: HeldModel, tmp_path: Path
) -> None:
    authority = trustme.CA()
    edge_files, strange = _tls(tmp_path / "edge", authority), _tls(tmp_path / "strange", trustme.CA())
    async with running_edge(folder, **edge_files) as edge:
        none = _bad(await _findings(model, edge=edge.address, tls_ca=edge_files["tls_ca"]))
        other = _bad(await _findings(model, edge=edge.address, **strange | {"tls_ca": edge_files["tls_ca"]}))
    assert "it wants a certificate of this device; give --tls-cert and --tls-key" in none["edge"]
    assert "it does not accept this device's certificate" in other["edge"]


async def test_an_edge_whose_certificate_this_device_cannot_trust(
    folder: Path, model: HeldModel, tmp_path: Path
) -> None:
    authority = trustme.CA()
    now = datetime.now(timezone.utc)
    own = _tls(tmp_path / "own", authority)
    of_others = _tls(tmp_path / "others", trustme.CA()) | {"tls_ca": own["tls_ca"]}
    elsewhere = _tls(tmp_path / "elsewhere", authority, "hall.local")
    ended = _tls(tmp_path / "ended", authority, not_before=now - timedelta(9), not_after=now - timedelta(1))
    early = _tls(tmp_path / "early", authority, not_before=now + timedelta(1), not_after=now + timedelta(9))
    said = {}
    for name, files in {"others": of_others, "elsewhere": elsewhere, "ended": ended, "early": early}.items():
        async with running_edge(folder, **files) as edge:
            said[name] = _bad(await _findings(model, edge=edge.address, **own))["edge"]
    assert "not signed by the authority in --tls-ca" in said["others"]
    assert "not made out to 127.0.0.1; reach it under a name of its certificate" in said["elsewhere"]
    assert "its certificate has ended" in said["ended"]
    assert "its certificate is not valid yet; set this machine's clock" in said["early"]


async def test_a_service_that_greets_by_tls_and_then_does_not_answer(model: HeldModel, tmp_path: Path) -> None:
    files = _tls(tmp_path / "files", trustme.CA())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files["tls_cert"], files["tls_key"])
    context.set_alpn_protocols(["h2"])

    connections = []

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())
        with suppress(OSError):
            await reader.read()
            writer.close()
            await writer.wait_closed()

    async with await asyncio.start_server(hang, "127.0.0.1", 0, ssl=context) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        found = await peer_findings(DoctorSettings(edge=address, **files), model, timeout_s=2.0)
        await asyncio.gather(*connections)
    assert "TLS works, but gRPC does not answer in time" in _bad({each.check: each for each in found})["edge"]


async def test_half_a_tls_configuration(model: HeldModel, tmp_path: Path) -> None:
    bad = _bad(await _findings(model, edge="127.0.0.1:9", tls_cert=tmp_path / "cert.pem"))
    assert "without --tls-key" in bad["edge"]


# Models, clocks, limits.


async def test_an_edge_with_another_model(folder: Path, other_folder: Path, model: HeldModel, tmp_path: Path) -> None:
    async with running_twin(tmp_path) as twin, running_edge(other_folder, id="hall", twin=twin.address) as edge:
        await until(lambda: any(each.is_attached for each in twin.exchange.core.edges.values()))
        bad = _bad(await _findings(model, twin=twin.address, edge=edge.address))
    assert set(bad) == {"twin-model", "edge-model"}
    assert "no attached edge (hall) holds tiny 1" in bad["twin-model"]
    assert "give hall the same model folder in --models, byte by byte" in bad["edge-model"]


async def test_a_twin_without_edges(model: HeldModel, tmp_path: Path) -> None:
    async with running_twin(tmp_path) as twin:
        findings = await _findings(model, twin=twin.address)
    assert set(_bad(findings)) == {"twin-model"}
    assert "no edge is attached" in findings[Check.TWIN_MODEL].text
    assert findings[Check.EDGE].verdict is Verdict.SKIPPED


async def test_an_edge_that_the_twin_knows_by_another_address(folder: Path, model: HeldModel, tmp_path: Path) -> None:
    async with (
        running_twin(tmp_path) as twin,
        running_edge(folder, twin=twin.address, advertise="edge.local:7100") as edge,
    ):
        await until(lambda: any(each.is_attached for each in twin.exchange.core.edges.values()))
        bad = _bad(await _findings(model, twin=twin.address, edge=edge.address))
    assert set(bad) == {"twin-model"}
    assert f"--also-reached-at {edge.address}" in bad["twin-model"]


async def test_an_edge_that_the_twin_knows_by_this_address_among_others(
    folder: Path, model: HeldModel, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    addresses = {"listen": address, "advertise": "edge.local:7100", "also_reached_at": (address,)}
    async with running_twin(tmp_path) as twin, running_edge(folder, twin=twin.address, **addresses):
        await until(lambda: any(each.is_attached for each in twin.exchange.core.edges.values()))
        assert _bad(await _findings(model, twin=twin.address, edge=address)) == {}


async def test_a_device_that_runs_another_model(
    folder: Path, other_folder: Path, model: HeldModel, tmp_path: Path
) -> None:
    async with running_twin(tmp_path) as twin, running_device(other_folder, id="cam", twin=twin.address) as bench:
        await until(lambda: bool(bench.device.shell.link and bench.device.shell.link.is_attached))
        bad = _bad(await _findings(model, twin=twin.address, id="cam"))
    assert "cam runs model" in bad["twin-model"]
    assert "restart the device with this folder" in bad["twin-model"]


class _OddEdge(edge_pb2_grpc.EdgeServiceServicer):
    def __init__(self, answer: edge_pb2.DescribeResponse) -> None:
        self._answer = answer

    async def Describe(self, _request: Any, _context: Any) -> edge_pb2.DescribeResponse:  # noqa: N802 - gRPC's name
        return self._answer


class _LeavingTwin(twin_pb2_grpc.TwinServiceServicer):
    async def DescribeService(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - gRPC's name
        raise StoppingError("this twin service is stopping; ask again in a moment")


class _OddTwin(twin_pb2_grpc.TwinServiceServicer):
    def __init__(self, answer: twin_pb2.DescribeServiceResponse) -> None:
        self._answer = answer

    async def DescribeService(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - gRPC's name
        return self._answer


@asynccontextmanager
async def _serving(
    edge: edge_pb2.DescribeResponse, twin: twin_pb2.DescribeServiceResponse
) -> AsyncIterator[dict[str, str]]:
    """An edge and a twin that answer just so."""

    def register(server: grpc.aio.Server) -> None:
        edge_pb2_grpc.add_EdgeServiceServicer_to_server(_OddEdge(edge), server)
        twin_pb2_grpc.add_TwinServiceServicer_to_server(_OddTwin(twin), server)

    async with stopped_after(await start_server(register, ANY_PORT)) as server:
        yield {"edge": server.address, "twin": server.address}


async def test_a_service_that_refuses_says_why_itself(model: HeldModel) -> None:
    started = await start_server(
        lambda grpc_server: twin_pb2_grpc.add_TwinServiceServicer_to_server(_LeavingTwin(), grpc_server), ANY_PORT
    )
    async with stopped_after(started) as server:
        bad = _bad(await _findings(model, twin=server.address))
    assert bad["twin"] == (
        f"{server.address} refuses this device: this twin service is stopping; ask again in a moment"
    )


async def test_an_edge_that_answers_what_is_no_message(model: HeldModel) -> None:
    async with served(RawEdge(b"\x0f")) as edge:
        bad = _bad(await _findings(model, edge=edge.address))
    assert "is another service or an older version" in bad["edge"]


async def test_clocks_that_are_an_hour_off(model: HeldModel) -> None:
    began_s = time.monotonic()
    edge = edge_pb2.DescribeResponse(unix_ns=time.time_ns() + HOUR_NS)
    twin = twin_pb2.DescribeServiceResponse(unix_ns=time.time_ns() - HOUR_NS)
    async with _serving(edge, twin) as addresses:
        bad = _bad(await _findings(None, **addresses))
    assert set(bad) == {"edge-clock", "twin-clock"}
    assert "s ahead of this machine's" in bad["edge-clock"]
    assert "s behind this machine's" in bad["twin-clock"]
    told_s = float(bad["edge-clock"].partition(" ")[0])
    # Its answer was made before it was asked for.
    assert 3599.9 - (time.monotonic() - began_s) < told_s < 3600.1
    assert "timedatectl set-ntp true" in bad["twin-clock"]


async def test_messages_that_are_too_large_for_the_other_side(model: HeldModel) -> None:
    edge = edge_pb2.DescribeResponse(max_message_bytes=20_000)
    twin = twin_pb2.DescribeServiceResponse(max_message_bytes=1000)
    async with _serving(edge, twin) as addresses:
        bad = _bad(await _findings(model, **addresses))
    assert "0.0 MB there" in bad["edge-messages"]
    assert "the manifest takes" in bad["twin-messages"]


async def test_services_that_are_older_and_tell_neither_clock_nor_limit(model: HeldModel) -> None:
    async with _serving(edge_pb2.DescribeResponse(), twin_pb2.DescribeServiceResponse()) as addresses:
        findings = await _findings(model, **addresses)
    for check in (Check.EDGE_CLOCK, Check.EDGE_MESSAGES, Check.TWIN_CLOCK, Check.TWIN_MESSAGES):
        assert findings[check].verdict is Verdict.SKIPPED


# The collector of traces.


def test_a_collector_that_takes_traces(tmp_path: Path) -> None:
    with receiving(tmp_path) as received:
        assert collector_finding(received.endpoint, PATIENCE_S).verdict is Verdict.OK
        elsewhere = collector_finding(f"{received.endpoint}/more", PATIENCE_S)
        assert received.spans == []
    assert elsewhere.verdict is Verdict.BAD
    assert "answers 404 to /more/v1/traces" in elsewhere.text
    gone = collector_finding(received.endpoint, PATIENCE_S)
    assert (gone.verdict, gone.cure) == (Verdict.BAD, "start it there, or correct --otlp-endpoint")
    assert "connection refused" in gone.text


def test_a_collector_that_speaks_grpc_or_is_no_url(deaf: str) -> None:
    silent = collector_finding(f"http://{deaf}", 0.2)
    assert silent.verdict is Verdict.BAD
    assert "timeout" in silent.text
    assert "write http://HOST:4318" in str(collector_finding("127.0.0.1:4318", 0.2).cure)


def test_traces_without_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device.doctor.collector.importlib.util.find_spec", lambda name: None)
    assert "twinsplit[tracing]" in str(collector_finding("http://127.0.0.1:4318", 0.2).cure)


def test_no_package_of_other_roles_is_needed() -> None:
    """A small device has neither torch nor onnx, nor the twin service's web server and certificates."""
    code = (
        "import sys\n"
        "missing = ('torch', 'onnx', 'starlette', 'uvicorn', 'rich', 'cryptography', 'opentelemetry', 'onnxruntime')\n"
        "sys.modules.update(dict.fromkeys(missing))\n"
        "import device.doctor.cli, device.doctor.certificates, device.doctor.machine, device.doctor.peers\n"
        "import device.doctor.collector, device.doctor.report, device.doctor.versions, device.energy.places"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
