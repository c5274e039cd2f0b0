"""The guide to Kubernetes, followed as far as it goes without a cluster: its pods run by Docker, a device outside."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.system.boards import Workstation, follow
from tests.system.guides import GUIDES, blocks_of
from tests.system.pods import Cluster

pytestmark = [pytest.mark.needs("root", "docker"), pytest.mark.timeout(900)]

PREFIX = f"twinsplit-{os.getpid()}-pods-"
_BEFORE = (
    "Images",
    "Certificates",
    "Settings",
    "Many devices: `overlays/company`",
    "Tails under KServe: `overlays/kserve`",
)
_GUIDE = blocks_of(GUIDES / "kubernetes.md")


@pytest.fixture(scope="module")
def workstation(tmp_path_factory: pytest.TempPathFactory) -> Workstation:
    workstation = Workstation(tmp_path_factory.mktemp("workstation"), PREFIX)
    workstation.prepare()
    machines = {"workstation": workstation}
    follow(blocks_of(GUIDES / "index.md"), machines)
    chosen = [block for block in _GUIDE if block.heading in _BEFORE]
    assert {block.heading for block in chosen} == set(_BEFORE)
    follow(chosen, machines)
    return workstation


@pytest.fixture(scope="module")
def cluster(workstation: Workstation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(
        workstation.folder / "deploy/kubernetes/overlays/site",
        {
            "twinsplit-twin-tls": workstation.folder / "certs/twin",
            "twinsplit-edge-tls": workstation.folder / "certs/edges",
        },
        tmp_path_factory.mktemp("volumes"),
        PREFIX,
    )
    try:
        cluster.apply()
        for name in cluster.pods:
            cluster.await_start(name)
        yield cluster
    finally:
        cluster.delete()


def test_a_device_outside_attaches_by_node_ports_and_is_answered_by_the_edge(
    workstation: Workstation, cluster: Cluster
) -> None:
    log = follow([block for block in _GUIDE if block.heading == "The first answer"], {"workstation": workstation})
    assert int(log.of("The first answer").splitlines()[-1]) > 0
    records = [json.loads(line) for line in (workstation.folder / "tasks.jsonl").read_text().splitlines()]
    assert len(records) == 60


def test_a_restarted_twin_stops_in_order_and_still_knows_the_device(cluster: Cluster, workstation: Workstation) -> None:
    cluster.restart("twinsplit-twin-0")
    cluster.await_start("twinsplit-twin-0")
    tls = "--tls-ca certs/twin/ca.pem --tls-cert certs/twin/cert.pem --tls-key certs/twin/key.pem"
    listed = workstation.run(f"twinsplit twin list --twin 127.0.0.1:30700 {tls}")
    assert "camera-2" in listed.stdout, listed.stdout + listed.stderr + cluster.log("twinsplit-twin-0")
