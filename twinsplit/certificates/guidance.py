"""What a person is told after a certificate was made: what to copy, and what starts the holder there."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote

from twinsplit.certificates.folder import CA, CERT, KEY
from twinsplit.certificates.subject import Role, Subject

TWIN_PORT = 7000
EDGE_PORT = 7100


def start_line(subject: Subject, folder: str, twin: str | None) -> str:
    """The command that starts the holder, where ``folder`` lies in its working directory.

    Args:
        subject: who starts.
        folder: the copied folder.
        twin: HOST:PORT of the twin service; ``None``: a word stands for it.
    """
    tls = " ".join(
        f"--tls-{name} {quote(f'{folder}/{file}')}" for name, file in (("ca", CA), ("cert", CERT), ("key", KEY))
    )
    twin = twin or f"TWIN_HOST:{TWIN_PORT}"
    if subject.role is Role.DEVICE:
        return f"twinsplit device run --id {subject.name} --model MODEL_FOLDER --twin {twin} {tls}"
    if subject.role is Role.EDGE:
        reached = f"--listen 0.0.0.0:{EDGE_PORT} --advertise {_dialled(subject)}:{EDGE_PORT}"
        return f"twinsplit edge serve --id {subject.name} --models MODEL_FOLDER {reached} --twin {twin} {tls}"
    if subject.role is Role.TWIN:
        return f"twinsplit twin serve --listen 0.0.0.0:{TWIN_PORT} {tls}"
    return f"twinsplit twin list --twin {twin} {tls}"


def instructions(subject: Subject, folder: str, ends: str, twin: str | None, copied_from: str) -> Sequence[str]:
    """Lines for the person who made the certificate.

    Args:
        subject: whom it is for.
        folder: name of its folder on the other machine.
        ends: its last day.
        twin: see :func:`start_line`.
        copied_from: where the folder lies here.
    """
    hosts = ", ".join(subject.all_hosts)
    serves = f", serves as {hosts}" if hosts else ""
    lines = [
        f"{copied_from}: certificate of the {subject.role.value} {subject.name}, valid until {ends}{serves}.",
        f"{KEY} in it is secret. Copy the folder to the other machine:",
        f"    scp -r {quote(copied_from)} OTHER_MACHINE:{quote(folder)}",
        "and look around from there:" if subject.role is Role.OPERATOR else "and start it there:",
        f"    {start_line(subject, folder, twin)}",
    ]
    if subject.role in (Role.EDGE, Role.TWIN) and not subject.hosts:
        lines.append("Others reach it only under the names above; give --host for every other name or address.")
    return lines


def _dialled(subject: Subject) -> str:
    host = subject.hosts[0] if subject.hosts else subject.name
    return f"[{host}]" if ":" in host else host
