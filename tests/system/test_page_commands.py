"""Every command in a block of docs is typed as it stands there, or excused here by name.

The machines of a page are this one, under several loopback addresses; what a page takes as given (certificates, a
collector, a database, frames, a camera's program) is there. Pages that another test follows are in ``ELSEWHERE``.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.integration.otlp_receiver import receiving
from tests.store.contract import row
from tests.system.needs import postgres_programs
from tests.system.page_commands import DOCS, Desk, Typed, commands_of, named
from tests.system.postgres_server import PASSWORD, USER, postgres, use_tls
from twin_service.decision.value_net import ValueNet
from twin_service.store.postgres import PostgresStore

pytestmark = [pytest.mark.needs("curl", "promtool", "postgresql"), pytest.mark.timeout(300)]

ROOT = DOCS.parent
README = "../README.md"
PAGES = [README, *sorted(str(page.relative_to(DOCS)) for page in [*DOCS.glob("*.md"), *DOCS.glob("how-to/*.md")])]
ELSEWHERE = {
    "guide.md": "tests/system/test_guide.py",
    "how-to/own-model.md": "tests/system/test_own_network_pages.py",
}
BY_HAND = "test_readme_by_hand.py types it"
OWN_NETWORK = "test_own_network_pages.py types it"
EXCUSED = {
    README: {
        "make demo": "installs; test_fresh_machine.py runs it with --seconds 2",
        "make test": "these are its tests",
        "make up": "a Docker engine: test_compose.py runs it",
        "make down": "a Docker engine: test_compose.py runs it",
        "make report": "five minutes; test_report_page.py draws one of small results",
        "python -m": BY_HAND,
        "twinsplit edge load": BY_HAND,
        "twinsplit device status": BY_HAND,
        "twinsplit twin show": BY_HAND,
        "twinsplit top": BY_HAND,
        "tail": BY_HAND,
        "curl": BY_HAND,
        "twinsplit twin weights": BY_HAND,
        "twinsplit twin tune": BY_HAND,
        "twinsplit twin export": BY_HAND,
        "twinsplit model split": OWN_NETWORK,
        "twinsplit model add-exits": OWN_NETWORK,
        "twinsplit model check": OWN_NETWORK,
        "twinsplit model inspect": OWN_NETWORK,
        "twinsplit model profile": OWN_NETWORK,
        "twinsplit device install-service": "a file that is not below /tmp; test_installation.py makes units of such",
        "pip": "a fresh machine; test_role_installs.py installs extras",
    },
    "how-to/compose.md": {
        "make up": "a Docker engine: test_compose.py runs it with LAN=",
        "make issue": "a Docker engine: test_compose.py runs it",
        "make test-system": "test_arm64_images.py is what it runs",
        "docker compose exec twin twinsplit twin list": "a Docker engine: test_compose.py types it",
        "docker compose exec twin twinsplit twin show": "a Docker engine: test_compose.py types it",
        "docker compose exec device-slow": "a Docker engine: test_compose.py types it",
        "docker compose -f": "a Docker engine: test_compose.py runs it for three services",
        "docker build": "a Docker engine: test_arm64_images.py builds each target so, test_compose.py by compose",
        "docker run": "it changes what the machine's kernel starts; test_arm64_images.py needs it done",
        "docker pull": "a registry; test_arm64_images.py needs it done",
        "scp": "another machine",
        "twinsplit device run": "a device that joins make up LAN=...: test_compose.py runs it as make issue prints it",
    },
    "how-to/energy.md": {"echo": "a sensor on an I2C bus"},
    "how-to/engines.md": {"tritonserver": "hundreds of MB; make test-engines starts it on such a folder"},
    "how-to/own-rule.md": {
        "twinsplit bench testbed": "half a minute; tests/integration/test_own_rule.py runs it shorter, from this page",
    },
    "how-to/postgresql.md": {
        "sudo apt": "root on a fresh machine; CI installs this package before it runs these tests",
        "pip": "a fresh machine; test_role_installs.py installs extras",
    },
    "how-to/traces-otlp.md": {"pip": "a fresh machine; test_role_installs.py installs extras"},
    "open-inference-protocol.md": {"grpcurl": "not in Debian; tests/integration/test_open_inference.py sends the same"},
}
"""Beginnings of commands by page, and what typing them would need, or which test does."""

MODEL = "models/alexnet-fashion/1"
FRAMES = f"{MODEL}/frames"
BESIDE = "TWINSPLIT_DEVICE_LISTEN=127.0.0.1:0 TWINSPLIT_DEVICE_HTTP_LISTEN=127.0.0.1:0"
FOUR = f"{BESIDE} TWINSPLIT_DEVICE_COUNT=4 TWINSPLIT_DEVICE_ARRIVALS=periodic:25"
RECORDS = "wc -l < results.jsonl; rm results.jsonl"
DOCTOR = re.findall(r"^(?:ok|-|BAD) +(\S+)", (DOCS / "how-to/doctor.md").read_text(encoding="utf-8"), re.MULTILINE)
CAMERA_1 = (
    "TWINSPLIT_DEVICE_ID=camera-1 TWINSPLIT_DEVICE_TWIN=127.0.0.1:7000 "
    f"TWINSPLIT_DEVICE_SOURCE=frames:{FRAMES} TWINSPLIT_DEVICE_ARRIVALS=periodic:25"
)
AT_THE_TWIN = "TWINSPLIT_EDGE_TWIN=127.0.0.1:7000"
service = partial(Typed, stays=True)
SERVICES = [
    service("console.md", "python -m twin_service", "twin-serving"),
    service("how-to/traces-otlp.md", "twinsplit edge serve", "twin-attached", settings=AT_THE_TWIN),
    service("how-to/traces-otlp.md", "twinsplit device run", "edge-connected", settings=CAMERA_1),
    service(
        "how-to/dashboards.md",
        "twinsplit device run",
        r"\ntwinsplit_twin_attached(\{.*\})? 1",
        settings="TWINSPLIT_DEVICE_ID=pi-gate TWINSPLIT_DEVICE_LISTEN=127.0.0.1:0",
        stands_for={"0.0.0.0:7201": "0.0.0.0:7211"},
        look="curl -s http://127.0.0.1:7211/metrics",
    ),
    service(
        "how-to/engines.md",
        "twinsplit edge serve",
        "(?s)(back-end-ready.*){2}",
        settings="TWINSPLIT_EDGE_ID=front TWINSPLIT_EDGE_LISTEN=127.0.0.1:0 TWINSPLIT_EDGE_HTTP_LISTEN=127.0.0.1:0",
    ),
]
SNAPSHOT = "curl -s 'http://127.0.0.1:8080/api/snapshot?device=camera-1'"
VERSION = f"""'$({SNAPSHOT} | grep -o '"version": *[0-9][0-9]*' | grep -o '[0-9]*$')'"""
LOOKS = [
    Typed("how-to/doctor.md", "twinsplit doctor --config", r"ok +edge +127\.0\.0\.1:7100"),
    Typed(README, "twinsplit doctor --config", r"ok +edge +127\.0\.0\.1:7100"),
    Typed("how-to/doctor.md", "twinsplit doctor --model", "(?s)" + ".*\n".join(rf"(ok|-) +{name} " for name in DOCTOR)),
    Typed("how-to/frames.md", "twinsplit device submit", '(?s)("task_id".*){2}'),
    Typed("how-to/frames.md", "twinsplit device run", r"^4$", settings=FOUR, look=RECORDS),
    Typed("how-to/frames.md", "rpicam-vid", r"^4$", settings=FOUR, look=RECORDS),
    Typed("how-to/frames.md", "gst-launch-1.0", '(?s)("task_id".*){4}', settings=FOUR),
    Typed(
        "how-to/energy.md",
        "twinsplit device calibrate",
        r'"format": 2\b',
        more="--seconds 0.5",
        look="cat device-profile.json",
    ),
    Typed(
        README,
        "twinsplit device calibrate",
        "(?s)goodput.*--profile device-profile.json",
        more="--seconds 0.5",
        stands_for={"models/resnet50/1": MODEL, "192.0.2.7:7100": "127.0.0.1:7100"},
    ),
    Typed(
        "how-to/energy.md",
        "twinsplit device run",
        r'"entered": 4\b',
        settings=f"{FOUR} TWINSPLIT_DEVICE_SOURCE=frames:{FRAMES}",
    ),
    Typed("console.md", "twinsplit top", "camera-1"),
    Typed("console.md", "twinsplit top --once", "camera-1"),
    Typed("console.md", "curl -X POST", r'\{"version":\d+\}', stands_for={"3,": f"{VERSION},"}),
    Typed("how-to/engines.md", "twinsplit model export", r"alexnet-fashion\.from_cut_4", look="ls repository"),
    *(
        Typed("how-to/tune.md", f"twinsplit twin tune --{wish}", "present weights", more="--tasks 150", codes=(0, 1))
        for wish in ("latency-p95", "energy-joules", "accuracy")
    ),
    Typed("how-to/tune.md", "twinsplit twin desire camera-1", r"0\.441"),
    Typed("traces.md", "twinsplit twin export", "camera-1", look="ls exported"),
]

TWINS = {f"twin-{number}": f"127.0.0.2{number}" for number in range(3)}
EDGES = {"hall-1": "127.0.0.31", "hall-2": "127.0.0.32"}


def certified(service: str, name: str) -> str:
    """Settings with the certificate of that name, as the pages ask for."""
    files = {"CA": "ca.pem", "CERT": "cert.pem", "KEY": "key.pem"}
    return " ".join(f"TWINSPLIT_{service}TLS_{key}=certs/{name}/{file}" for key, file in files.items())


def twin(name: str, settings: str = "") -> Typed:
    return service(
        "how-to/replicas.md",
        "twinsplit twin serve",
        "twin-serving",
        settings=f"{certified('TWIN_', name)} TWINSPLIT_TWIN_HTTP_LISTEN={TWINS[name]}:7001 {settings}",
        stands_for={"0.0.0.0": TWINS[name], "/var/lib/twinsplit": f"state/{name}"},
    )


def edge(page: str, name: str) -> Typed:
    return service(
        page,
        f"twinsplit edge serve --id {name}",
        "twin-attached",
        settings=f"{certified('EDGE_', name)} TWINSPLIT_EDGE_HTTP_LISTEN={EDGES[name]}:7101",
        stands_for={"0.0.0.0": EDGES[name]},
    )


def device(page: str) -> Typed:
    return service(page, "twinsplit device run --id cam-7", "edge-connected", settings=certified("DEVICE_", "cam-7"))


STATUS = "twinsplit device status 127.0.0.1:7200"
REPLICAS = [
    *map(twin, TWINS),
    edge("how-to/replicas.md", "hall-1"),
    device("how-to/replicas.md"),
    Typed("how-to/replicas.md", STATUS, r"twin: \S+:7000, attached: the preferred of 3 replicas, has moved 0 times"),
    Typed(
        "how-to/replicas.md",
        "twinsplit twin list",
        r"rule multi-step; devices attached:(?=.* 1 at)( \d at 127\.0\.0\.2\d:7000,?){3}\n",
    ),
]
SEVERAL_EDGES = [
    twin("twin-0", "TWINSPLIT_TWIN_CONSOLE_LISTEN=0.0.0.0:8443"),
    *(edge("how-to/several-edges.md", name) for name in EDGES),
    device("how-to/several-edges.md"),
    Typed(
        "how-to/several-edges.md",
        STATUS,
        r"\nedge: .*, breaker closed(?=(?s:.*)\n  hall-\d .*: used now, )(?=(?s:.*)\n  hall-\d .*: stands by, )",
    ),
    Typed("console.md", "twinsplit top https://10.0.0.5:8080", "cam-7"),
]
DEMO = "benchmarks/scenarios/demo.yaml"
SMALL = "--set tasks=60 --set warm_up_tasks=10"
ONCE = "--quick --seeds 1"
BESIDE_IT = (
    "TWINSPLIT_TWIN_LISTEN=127.0.0.1:0 TWINSPLIT_TWIN_HTTP_LISTEN=127.0.0.1:0 "
    "TWINSPLIT_TWIN_CONSOLE_LISTEN= TWINSPLIT_TWIN_STATE=state"
)
STEP = "--set tasks=200 --set warm_up_tasks=20 --set step_at_s=40 --seeds 1"
sim = partial(Typed, "how-to/simulator.md")
SIMULATED = [
    sim(
        f"twinsplit sim run {DEMO} --rules all",
        r'(?s)\n.*"open-loop": \{',
        more=f"{SMALL} --seeds 1",
        look="head -n 2 tasks.csv; cat out.json",
    ),
    sim(f"twinsplit sim run {DEMO} --rules one-time", "static-best", more=f"{SMALL} --seeds 1"),
    sim(f"twinsplit sim signalling {DEMO}", "polled", more=f"{SMALL} --seeds 1"),
    sim(
        "twinsplit sim signalling benchmarks/scenarios/fleet.yaml",
        "polled",
        more=f"--set devices=50 --set edges=2 {SMALL}",
    ),
    sim(
        "twinsplit sim signalling benchmarks/scenarios/fleet-slow-links.yaml",
        "polled",
        more=f"--set devices=50 --set edges=2 {SMALL}",
    ),
    sim("twinsplit sim foresight", "blind-to-load", more=ONCE),
    sim("twinsplit sim learning", '"tasks_needed"', more=ONCE, look="cat benchmarks/results/*"),
    sim("twinsplit sim pruning", "C0 is lowered", more=ONCE),
    sim("twinsplit sim regime --seeds", "clairvoyant", more=STEP),
    sim("twinsplit sim regime benchmarks/scenarios/heavy-tailed.yaml", "clairvoyant", more=STEP),
    sim("twinsplit sim regime benchmarks/scenarios/regime-kind.yaml", "clairvoyant", more=STEP),
    Typed(README, "twinsplit sim run", r"\nopen-loop ", more=f"--rules open-loop {SMALL} --seeds 1"),
    Typed("how-to/own-rule.md", "twinsplit sim run", "hurried", more="--rules hurried.py:Hurried"),
    service("how-to/own-rule.md", "twinsplit twin serve", "twin-serving"),
    service(README, "twinsplit twin serve --deadline-s", "twin-serving", settings=f"{BESIDE_IT}/late"),
    service(
        README,
        "twinsplit twin serve --rule",
        "twin-serving",
        settings=f"{BESIDE_IT}/own",
        stands_for={"my_file.py:MyRule": "hurried.py:Hurried"},
    ),
]
REAL = [
    Typed(README, "twinsplit bench testbed", r"multi-step", more="--rules multi-step --seeds 1 --seconds 2"),
    Typed(
        "how-to/testbed.md",
        "twinsplit bench testbed",
        r'"testbed": \{',
        more="--rules hurried.py:Hurried --seeds 1 --seconds 2",
        look="cat found.json; rm found.json",
    ),
    Typed(
        "how-to/testbed.md",
        "twinsplit bench fidelity",
        r'"is_within": ',
        more="--rules multi-step --seeds 1 --seconds 2",
        look="cat found.json",
    ),
]
DASHBOARDS = [
    Typed("how-to/dashboards.md", "promtool check config", "SUCCESS"),
    Typed("how-to/dashboards.md", "promtool test rules", "SUCCESS"),
    Typed("how-to/dashboards.md", "python -m deploy.grafana.boards", "title", look="cat deploy/grafana/dashboards/*"),
    Typed("how-to/dashboards.md", "python -m deploy.grafana.boards --check", "^$"),
]
DATABASE = [
    Typed("how-to/postgresql.md", "sudo -u postgres createuser", "", given="PASSWORD\nPASSWORD"),
    Typed("how-to/postgresql.md", "sudo -u postgres createdb", "^$"),
    Typed("how-to/postgresql.md", "export TWINSPLIT_TWIN_STORE", "^$"),
    service("how-to/postgresql.md", "twinsplit twin serve", "twin-serving"),
]
WEIGHTS = [
    Typed("how-to/postgresql.md", 'twinsplit twin weights --store "$TWINSPLIT_TWIN_STORE"', r" 3 +replaced"),
    Typed("how-to/postgresql.md", 'twinsplit twin weights --store "$TWINSPLIT_TWIN_STORE" --serve 3', r" 3 +serving"),
]
ALL = [*SERVICES, *LOOKS, *REPLICAS, *SEVERAL_EDGES, *SIMULATED, *REAL, *DASHBOARDS, *DATABASE, *WEIGHTS]


MADE_UP = """
```sh
twinsplit a   # remark
twinsplit b \\
    --c
```

    curl x |
      d

```
$ pip y
said
```

    said
"""


def unaccounted(commands: Iterable[str], typed: Iterable[str], excuses: Iterable[str]) -> list[str]:
    """Commands that are neither typed nor excused, or are both."""
    by_type, by_excuse = set(typed), list(excuses)
    return [each for each in commands if (each in by_type) is any(named(begins, [each]) for begins in by_excuse)]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_typed_or_excused(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    if page in ELSEWHERE:
        assert f"docs/{page}" in (ROOT / ELSEWHERE[page]).read_text(encoding="utf-8")
        return
    typed = [each for each in ALL if each.page == page]
    excuses = EXCUSED.get(page, {})
    assert unaccounted(commands_of(text), [each.command for each in typed], excuses) == []
    assert [begins for begins in excuses if not named(begins, commands_of(text))] == []
    options = {word for each in typed for word in each.more.split() if word.startswith("--")}
    assert [option for option in options if option not in text] == []
    tests = {name for reason in excuses.values() for name in re.findall(r"\btest_\w+\.py", reason)}
    assert [name for name in tests if not list((ROOT / "tests").rglob(name))] == []


def test_a_command_that_nobody_types_is_found() -> None:
    assert commands_of(MADE_UP) == ["twinsplit a", "twinsplit b --c", "curl x | d", "pip y"]
    assert unaccounted(["twinsplit a", "curl x", "pip y"], ["twinsplit a"], ["curl"]) == ["pip y"]
    assert unaccounted(["curl x"], ["curl x"], ["curl"]) == ["curl x"]


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@contextmanager
def desk_in(folder: Path, stands_for: Mapping[str, str], **variables: str) -> Iterator[Desk]:
    """A checkout without results, with programs of the test's own in ``bin``."""
    (folder / "bin").mkdir()
    (folder / "models").symlink_to(ROOT / "models")
    shutil.copytree(ROOT / "benchmarks/scenarios", folder / "benchmarks/scenarios")
    (folder / "benchmarks/results").mkdir()
    (folder / "hurried.py").write_text(blocks("how-to/own-rule.md", "python")[0])
    path = f"{folder}/bin:{Path(sys.executable).parent}:{postgres_programs()}:{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if "TWINSPLIT" not in name}
    desk = Desk(folder, environment | {"PATH": path} | variables, stands_for)
    try:
        yield desk
    finally:
        desk.shell.close()


def program(file: Path, text: str) -> None:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def test_one_machine(tmp_path: Path) -> None:
    here = {
        "--model DIR": f"--model {MODEL}",
        "--models DIR": f"--models {MODEL}",
        "HOST:PORT": "127.0.0.1:7100",
        "SOURCE": f"frames:{FRAMES}",
        "export FOLDER": "export exported",
        "192.168.1.10:7000": "127.0.0.1:7000",
        "10.0.0.1:7000": "127.0.0.1:7000",
        "twin.plant:7000": "127.0.0.1:7000",
        "/etc/twinsplit/device.toml": "device.toml",
        "gpu-1:8001,gpu-2:8001": "127.0.0.1:7100,127.0.0.1:7102",
    }
    with receiving(tmp_path) as collector, desk_in(tmp_path, here) as desk:
        desk.stands_for["http://127.0.0.1:4318"] = collector.endpoint
        frames = sorted((ROOT / FRAMES).iterdir())[:4]
        for name, frame in zip(("a.jpg", "b.jpg"), frames, strict=False):
            shutil.copy(frame, tmp_path / name)
        program(tmp_path / "bin/rpicam-vid", f"cat {' '.join(map(str, frames))}")
        program(tmp_path / "bin/gst-launch-1.0", f"head -c {4 * 640 * 480 * 3} /dev/urandom")
        places = {"model": MODEL, "twin": "127.0.0.1:7000", "edge": "127.0.0.1:7100"}
        (tmp_path / "device.toml").write_text("".join(f'{key} = "{value}"\n' for key, value in places.items()))

        second = "twinsplit edge serve --id gpu-2 --models models --listen 127.0.0.1:7102 --http-listen 127.0.0.1:0"
        desk.shell.run(f"{second} > gpu-2.log 2>&1 &")
        for typed in SERVICES + LOOKS:
            desk.type(typed)
        collector.traces(lambda found: any(span["name"] == "task" for trace in found.values() for span in trace))


@pytest.mark.parametrize("session", [REPLICAS, SEVERAL_EDGES], ids=["replicas", "several edges"])
def test_several_machines(tmp_path: Path, session: list[Typed]) -> None:
    here = {f"{name}:": f"{address}:" for name, address in TWINS.items()}
    for name, address in EDGES.items():
        here |= {f"{name}:": f"{address}:", f"{name}.plant:": f"{address}:"}
    here |= {
        "twin.plant:": f"{TWINS['twin-0']}:",
        "https://10.0.0.5:8080": f"https://{TWINS['twin-0']}:8443",
        "console-token": "state/twin-0/console-token",
        "ca.pem": "certs/twin-0/ca.pem",
        "camera-1": "cam-7",
    }
    with desk_in(tmp_path, here) as desk:
        roles = {"operator anna": "", "device cam-7": "127.0.0.1"}
        roles |= {f"twin {name}": address for name, address in TWINS.items()}
        roles |= {f"edge {name}": address for name, address in EDGES.items()}
        issued = [f"twinsplit certs issue {who}" + f" --host {host}" * bool(host) for who, host in roles.items()]
        for command in ("twinsplit certs init certs", *issued, f"export {certified('', 'anna')}"):
            code, printed = desk.shell.run(command)
            assert code == 0, printed
        for typed in session:
            desk.type(typed)


@pytest.mark.parametrize("session", [SIMULATED, REAL], ids=["simulator", "testbed"])
def test_rules_side_by_side(tmp_path: Path, session: list[Typed]) -> None:
    with desk_in(tmp_path, {"SCENARIO.yaml": "benchmarks/scenarios/demo.yaml"}) as desk:
        for typed in session:
            desk.type(typed)


def test_dashboards(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    for name in ("rules", "file_sd"):
        (tmp_path / name).symlink_to(f"deploy/prometheus/{name}")
    shutil.copy(ROOT / "deploy/prometheus/own-prometheus.yml", tmp_path / "prometheus.yml")
    for board in (tmp_path / "deploy/grafana/dashboards").iterdir():
        board.unlink()
    with desk_in(tmp_path, {}) as desk:
        for typed in DASHBOARDS:
            desk.type(typed)


def test_state_in_postgresql(tmp_path: Path) -> None:
    with postgres() as server:
        server.run("DROP DATABASE twinsplit", database="postgres")
        authority = use_tls(server, tmp_path, "127.0.0.1")
        place = f"127.0.0.1:{server.port}"
        here = {"db.plant:5432": place, "/etc/twinsplit/db-ca.pem": str(authority)}
        as_postgres = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": USER, "PGPASSWORD": PASSWORD}
        with desk_in(tmp_path, here, **as_postgres) as desk:
            program(tmp_path / "bin/sudo", 'shift 2\nexec "$@"')
            for typed in DATABASE:
                desk.type(typed)
            desk.end_services()
            with closing(PostgresStore(f"postgresql://twinsplit:PASSWORD@{place}/twinsplit")) as store:
                for version in (1, 2, 3):
                    store.keep_weights(replace(row(version), data=ValueNet.zero().to_bytes(), scores_json="{}"))
            for typed in WEIGHTS:
                desk.type(typed)
