"""The images for 64-bit ARM: built from the same file as all others, and run by an emulated processor.

The emulation is QEMU's, of user space, which the kernel calls for files of that architecture. It says that every
instruction, wheel and file of the images is right for ARM; it says nothing about speed, and nothing about a board.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.testbed.scenarios import SHIPPED_MODEL
from tests.system.needs import ARM64_PYTHON_IMAGE
from twinsplit.model.payload import decode_payload, encode_as
from twinsplit.model.preprocessing import prepare
from twinsplit.model.runtime import SegmentRuntime

pytestmark = [pytest.mark.needs("docker", "arm64-emulation"), pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
PREFIX = f"twinsplit-{os.getpid()}-arm64-"
ROLES = ("twin", "edge", "device")
MODEL = "/models/alexnet-fashion/1"
TASKS = 20
PATIENCE_S = 180.0
"""An emulated processor takes seconds for a frame."""


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(words)}:\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def images() -> Iterator[None]:
    for role in ROLES:
        arguments = (f"PYTHON_IMAGE={ARM64_PYTHON_IMAGE}", "LEARN=0")
        given = [word for argument in arguments for word in ("--build-arg", argument)]
        target = ("--platform=linux/arm64", "--target", role, "--tag", f"{PREFIX}{role}")
        docker("build", "--quiet", "--file", str(ROOT / "deploy/docker/Dockerfile"), *target, *given, str(ROOT))
    yield
    docker("image", "rm", "--force", *(f"{PREFIX}{role}" for role in ROLES))


@pytest.fixture
def containers(images: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """Twin with the rule that the test asks for, edge and device, which find each other by names of their roles."""
    commands = {
        "twin": ("twin", "serve", "--listen=0.0.0.0:7000", "--insecure", f"--rule={request.param}", "--state=/tmp"),
        "edge": (
            *("edge", "serve", "--listen=0.0.0.0:7100", "--insecure", "--models=/models"),
            *("--twin=twin:7000", "--advertise=edge:7100"),
        ),
        "device": (
            *("device", "run", "--id=pi", f"--model={MODEL}", "--twin=twin:7000", "--edge=edge:7100", "--sink=-"),
            *(f"--source=frames:{MODEL}/frames", "--arrivals=periodic:1", f"--answer-timeout-s={PATIENCE_S:g}"),
        ),
    }
    docker("network", "create", f"{PREFIX}network")
    try:
        for role in ROLES:
            place = ("--platform=linux/arm64", f"--network={PREFIX}network", f"--network-alias={role}")
            kept = ("--read-only", "--tmpfs=/tmp", "--name", PREFIX + role)
            docker("run", "--detach", *place, *kept, PREFIX + role, *commands[role])
        yield
    finally:
        docker("rm", "--force", *(PREFIX + role for role in ROLES))
        docker("network", "rm", f"{PREFIX}network")


def said(role: str) -> str:
    done = subprocess.run(["docker", "logs", PREFIX + role], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def tasks_ended(outcome: str) -> list[dict[str, Any]]:
    """The first tasks with that outcome."""
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        lines = [line for line in said("device").splitlines() if line.startswith('{"task_id"')]
        found = [task for task in map(json.loads, lines) if task["outcome"] == outcome]
        if len(found) >= TASKS:
            return found[:TASKS]
        time.sleep(1.0)
    raise AssertionError("\n".join(said(role)[-3000:] for role in ROLES))


def label_here(runtime: SegmentRuntime, task: Mapping[str, Any]) -> str | None:
    """What this machine answers to the frame of a task that goes the same way, there and back."""
    manifest, cut = runtime.manifest, task["stop_epoch"] if task["payload"] else 0
    prepared = prepare((SHIPPED_MODEL / "frames" / task["frame"]).read_bytes(), manifest)
    tensor = prepared.tensor
    for index in range(cut):
        tensor = runtime.run_segment(index, tensor)
    if task["payload"]:
        (entry,) = (each for each in manifest.cuts[cut].representations if each.name == task["representation"])
        sent = encode_as(manifest, cut, entry, tensor, prepared.picture)
        tensor = decode_payload(manifest, cut, sent.header, sent.data)
    output = runtime.run_tail(cut, tensor)
    assert output is not None
    return runtime.answer(output).label


@pytest.mark.parametrize(
    ("containers", "outcome", "payload"),
    [("static:2", "edge", "tensor"), ("edge-only", "edge", "input"), ("device-only", "device", None)],
    indirect=["containers"],
)
def test_answers_of_arm_are_those_of_this_machine(containers: None, outcome: str, payload: str | None) -> None:
    machines = {docker("exec", PREFIX + role, "python", "-c", "import os; print(os.uname().machine)") for role in ROLES}
    assert machines == {"aarch64"}
    runtime = SegmentRuntime.load(SHIPPED_MODEL)
    for task in tasks_ended(outcome):
        assert task["payload"] == payload
        assert task["label"] == label_here(runtime, task), task
