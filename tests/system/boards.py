"""Machines for the guides: containers of Debian 12 with systemd as their first process, and a workstation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.guides import Block

IMAGE = "twinsplit-guide-board"
START_S = 120.0
_ROOT = Path(__file__).resolve().parents[2]
# Shared, as on a real machine: what systemd mounts for a service (its credentials) reaches that service.
_DOCKERFILE = """\
FROM debian:bookworm-slim
RUN apt-get -o Acquire::Retries=5 update -qq && apt-get -o Acquire::Retries=5 install -y -qq --no-install-recommends \
    systemd systemd-sysv dbus sudo python3 ca-certificates curl procps >/dev/null
RUN for name in pi nvidia admin; do useradd --create-home --shell /bin/bash $name; done \
    && echo 'ALL ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/all
CMD ["sh", "-c", "mount --make-rshared / && exec /sbin/init"]
"""
_SCP = """\
#!/bin/bash
# scp FILE... USER@HOST:PATH, carried by the container engine.
set -e
files=()
for word in "$@"; do [[ $word == -r ]] || files+=("$word"); done
target=${files[-1]}; unset 'files[-1]'
account=${target%%@*}; place=${target#*@}; host=${place%%:*}; path=/home/$account/${place#*:}
for file in "${files[@]}"; do docker cp -q "$file" "PREFIX${host%%.*}:$path"; done
docker exec "PREFIX${host%%.*}" chown -R "$account:" "/home/$account"
"""
_MAKE = """\
#!/bin/bash
# make wheel, with the hatchling that is here already.
[[ $* == wheel ]] || { echo "not of the guides: make $*" >&2; exit 2; }
rm -rf dist && exec PYTHON -m hatchling build --target wheel --directory dist
"""


@dataclass
class Transcript:
    """What a machine was made to do."""

    outputs: list[tuple[Block, str]] = field(default_factory=list)

    def of(self, heading: str) -> str:
        """Standard output of all blocks under a heading."""
        return "".join(output for block, output in self.outputs if block.heading == heading)


@dataclass
class Workstation:
    """A copy of the checkout, with ``make wheel`` and ``scp`` that need neither a network nor an hour."""

    folder: Path
    prefix: str
    """Of the names of all containers, before the host's first label."""

    def prepare(self) -> None:
        tracked = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=_ROOT, capture_output=True, text=True, check=True,
        ).stdout.split("\0")  # fmt: skip
        for name in filter(None, tracked):
            if (_ROOT / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(_ROOT / name, self.folder / name)
        # As for every image of this checkout: then layers that are built once serve all tests.
        for wheel in (_ROOT / "wheelhouse").glob("*.whl"):
            shutil.copy(wheel, self.folder / "wheelhouse")
        programs = self.folder / ".venv/bin"
        programs.mkdir(parents=True)
        (programs / "activate").write_text(f"export PATH={programs}:$PATH\n")
        for name, text in (
            ("scp", _SCP.replace("PREFIX", self.prefix)),
            ("make", _MAKE.replace("PYTHON", sys.executable)),
        ):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        (programs / "twinsplit").symlink_to(Path(sys.executable).with_name("twinsplit"))

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("TWINSPLIT_", "MAKE"))}
        environment["PATH"] = f"{self.folder}/.venv/bin:{environment['PATH']}"
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip


@dataclass
class Board:
    """A container in which an ordinary user types."""

    container: str
    user: str

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "exec", "--interactive", "--user", self.user, "--workdir", f"/home/{self.user}", self.container,
             "bash", "-euo", "pipefail", "-c", script],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def output(self, script: str) -> str:
        """Standard output of what must succeed."""
        done = self.run(script)
        assert done.returncode == 0, f"{self.container}: {script}\n{done.stdout}{done.stderr}"
        return done.stdout

    @property
    def address(self) -> str:
        template = "{{.NetworkSettings.IPAddress}}"
        command = ["docker", "inspect", "--format", template, self.container]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def build_image() -> None:
    """Make the image that all boards start from; the engine keeps it."""
    done = subprocess.run(
        ["docker", "build", "--tag", IMAGE, "-"], input=_DOCKERFILE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@contextmanager
def started_board(container: str, user: str, downloads: Path, hosts: dict[str, str]) -> Iterator[Board]:
    """A board that has started up; ``downloads`` is what pip keeps from board to board, ``hosts`` names addresses."""
    # systemd wants a control group tree of its own to write in, hence privileged.
    command = ["docker", "run", "--detach", "--name", container, "--hostname", container.rsplit("-guide-", 1)[-1]]
    command += ["--privileged", "--cgroupns=private", "--tmpfs", "/run", "--tmpfs", "/run/lock"]
    command += ["--volume", f"{downloads}:/root/.cache/pip"]
    command += [word for name, address in hosts.items() for word in ("--add-host", f"{name}:{address}")]
    try:
        subprocess.run([*command, IMAGE], capture_output=True, check=True)
        board = Board(container, user)
        deadline_s = time.monotonic() + START_S
        while board.run("systemctl is-system-running").stdout.strip() not in ("running", "degraded"):
            assert time.monotonic() < deadline_s, "systemd does not come up"
            time.sleep(0.2)
        yield board
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", container], capture_output=True, check=False)


def follow(blocks: list[Block], machines: dict[str, Board | Workstation]) -> Transcript:
    """Do what the blocks say, in order; the first that fails ends it, and shows what it said."""
    transcript = Transcript()
    for block in blocks:
        if not block.script.strip():
            continue
        began_s = time.monotonic()
        done = machines[block.machine].run(block.script)
        print(f"{time.monotonic() - began_s:5.1f} s  {block.machine}: {block.heading}")
        assert done.returncode == 0, f"{block.heading}, on the {block.machine}:\n{done.stdout}{done.stderr}"
        transcript.outputs.append((block, done.stdout))
    return transcript
