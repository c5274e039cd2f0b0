"""A PostgreSQL of the test run's own: a cluster in a folder of its own, on a free port of the loopback interface.

The server refuses to run as root; root starts it as the user that Debian's package makes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import trustme

from tests.system.live_services import free_port
from tests.system.needs import postgres_programs

USER = "postgres"
PASSWORD = "s3cr3t-0f-the-test"
_START_S = 120.0
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
shared_buffers = 16MB
max_connections = 40
"""


@dataclass
class PostgresServer:
    """One cluster; it can be stopped, killed and started again."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def address(self, database: str = "twinsplit", password: str = PASSWORD, options: str = "") -> str:
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}{options}"

    def start(self) -> None:
        command = [*_unprivileged(), str(postgres_programs() / "postgres"), "-D", str(self.data)]
        with (self.folder / "postgres.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        until_s = time.monotonic() + _START_S
        while not self._answers():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < until_s, self.log()
            time.sleep(0.05)

    def stop(self) -> None:
        """At once, ending all sessions, as a crash does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(60)
            self.process = None

    def run(self, statement: str, *values: object, database: str = "twinsplit") -> list[tuple[Any, ...]]:
        """One statement in a session of its own."""
        with psycopg.connect(self.address(database), autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def new_database(self, name: str, options: str = "") -> str:
        """Address of an empty database of that name."""
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", database="postgres")
        self.run(f"CREATE DATABASE {name} {options}", database="postgres")
        return self.address(name)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def log(self) -> str:
        return (self.folder / "postgres.log").read_text()

    def _answers(self) -> bool:
        try:
            self.run("SELECT 1", database="postgres")
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def postgres(settings: Sequence[str] = ()) -> Iterator[PostgresServer]:
    """A running server with an empty database ``twinsplit``; every session needs the password."""
    # Not pytest's folder, which other users than its own cannot enter.
    folder = Path(tempfile.mkdtemp(prefix="twinsplit-postgres-"))
    server = PostgresServer(folder)
    try:
        password_file = folder / "password"
        password_file.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (folder, password_file):
                shutil.chown(path, USER, USER)
        command = [
            *_unprivileged(), str(postgres_programs() / "initdb"), "-D", str(server.data), "--username", USER,
            "--encoding", "UTF8", "--locale", "C", "--auth", "scram-sha-256",
            "--pwfile", str(password_file), "--no-sync",
        ]  # fmt: skip
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        with (server.data / "postgresql.conf").open("a") as file:
            file.write("\n".join([_SETTINGS, f"port = {server.port}", *settings, ""]))
        server.start()
        server.new_database("twinsplit")
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def use_tls(server: PostgresServer, folder: Path, host: str) -> Path:
    """Start a server again as one that takes TLS alone, under the name ``host``; its authority's certificate."""
    authority = trustme.CA()
    certificate = authority.issue_cert(host)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    server.stop()
    for name, pem in (("server.crt", certificate.cert_chain_pems[0]), ("server.key", certificate.private_key_pem)):
        pem.write_to_path(str(server.data / name))
        (server.data / name).chmod(0o600)
    subprocess.run(["chown", "--reference", str(server.data), *map(str, server.data.glob("server.*"))], check=True)
    with (server.data / "postgresql.conf").open("a") as file:
        file.write("ssl = on\n")
    (server.data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    server.start()
    return folder / "ca.pem"


def _unprivileged() -> list[str]:
    """A prefix for commands. Not Popen's ``user``: that forks, and a fork of a process that speaks gRPC can crash."""
    return ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"] if os.geteuid() == 0 else []
