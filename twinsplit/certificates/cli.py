"""``twinsplit certs init``, ``issue`` and ``ensure``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from twinsplit.certificates.authority import Authority

DEFAULT_FOLDER = Path("certs")
AUTHORITY_FOLDER = "authority"
"""Where `ensure` keeps the authority within its folder."""
ROLES = ("device", "edge", "twin", "operator")
STANDARD_OUTPUT = "-"
_DAYS = click.IntRange(min=1, max=36_500)


@click.group()
def certs() -> None:
    """Make the certificates with which twin, edges and devices know one another."""


@certs.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), default=DEFAULT_FOLDER)
@click.option("--days", type=_DAYS, help="Validity, days; not set: ten years.")
def init(folder: Path, days: int | None) -> None:
    """Make a new authority in DIR (certs). Whoever holds its key can make certificates: keep DIR on one machine."""
    from twinsplit.certificates.authority import AUTHORITY_DAYS, Authority
    from twinsplit.certificates.folder import CA_KEY, keep_authority

    authority = Authority.made(days or AUTHORITY_DAYS)
    keep_authority(authority, folder)
    click.echo(f"{folder}: a new authority, valid until {authority.ends:%Y-%m-%d}. {CA_KEY} stays on this machine.")
    click.echo(f"    twinsplit certs issue device NAME{_authority_option(folder)}")


@certs.command()
@click.argument("role", type=click.Choice(ROLES))
@click.argument("name")
@click.option("--host", "hosts", multiple=True, help="Name or address under which others reach it; may be repeated.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="DIR",
    help="Folder to write; not set: NAME beside the authority; -: a tar archive on standard output.",
)
@click.option(
    "--authority",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_FOLDER,
    show_default=True,
    metavar="DIR",
    help="Folder that `init` made.",
)
@click.option("--twin", metavar="HOST:PORT", help="Twin service as the other machine reaches it, for the line printed.")
@click.option("--days", type=_DAYS, help="Validity, days; not set: 825.")
def issue(
    role: str, name: str, hosts: tuple[str, ...], out: Path | None, folder: Path, twin: str | None, days: int | None
) -> None:
    """Make a certificate for ROLE (device, edge, twin or operator) NAME, and say what to do with it.

    \b
    twinsplit certs issue device camera-1
    twinsplit certs issue edge edge-1 --host 192.168.1.10
    """
    from twinsplit.certificates.authority import CERTIFICATE_DAYS, end_of
    from twinsplit.certificates.folder import archive, holder_in, keep_issued, read_authority
    from twinsplit.certificates.guidance import instructions
    from twinsplit.certificates.subject import Role, Subject, hosts_named
    from twinsplit.errors import SettingsError
    from twinsplit.transport.address import Address

    if twin is not None:
        Address.parse(twin)
    if not all(host.strip() for host in hosts):
        raise SettingsError("--host is empty; name a host such as edge.local or 192.168.1.10, or leave it out")
    subject = Subject(Role(role), name, hosts_named(hosts))
    authority = read_authority(folder)
    issued = authority.issue(subject, days or CERTIFICATE_DAYS)
    is_archive = out == Path(STANDARD_OUTPUT)
    place = Path(name) if is_archive else out or folder / name
    if is_archive:
        sys.stdout.buffer.write(archive(issued, authority, name))
        sys.stdout.buffer.flush()
    else:
        other = holder_in(place)
        if other not in (None, (subject.role, subject.name)):
            raise SettingsError(f"{place} holds the certificate of somebody else; name another folder with --out")
        keep_issued(issued, authority, place)
    for line in instructions(subject, place.name, f"{end_of(issued.certificate):%Y-%m-%d}", twin, str(place)):
        click.echo(line, err=is_archive)


@certs.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.argument("subjects", metavar="ROLE:NAME[@HOST,...]...", nargs=-1, required=True)
def ensure(folder: Path, subjects: tuple[str, ...]) -> None:
    """See that DIR holds an authority and a certificate in DIR/NAME for everyone named; make only what is missing.

    A certificate is made anew when it is about to end, or is for other hosts. For containers that start together:

    \b
    twinsplit certs ensure /certs twin:twin edge:edge@192.168.1.10 device:camera-1
    """
    from twinsplit.certificates.authority import end_of
    from twinsplit.certificates.folder import keep_issued, knows_authority, read_issued
    from twinsplit.certificates.subject import subject_named
    from twinsplit.errors import SettingsError

    wanted = [subject_named(text) for text in subjects]
    names = [subject.name for subject in wanted]
    for name in names:
        if name == AUTHORITY_FOLDER or names.count(name) > 1:
            raise SettingsError(f"{name!r} would be the folder of two; give each its own name")
    authority = _authority_in(folder / AUTHORITY_FOLDER)
    if authority.is_due():
        click.echo(
            f"{folder / AUTHORITY_FOLDER}: the authority ends on {authority.ends:%Y-%m-%d}, and every certificate with "
            "it; move the folder away, so that a new one is made, and renew those of all machines outside",
            err=True,
        )
    for subject in wanted:
        place = folder / subject.name
        held = read_issued(place)
        flaw = "missing" if held is None else authority.flaw_of(held, subject)
        if flaw is None and not knows_authority(place, authority):
            flaw = "signed by another authority"
        if flaw is not None or held is None:
            held = authority.issue(subject)
            keep_issued(held, authority, place)
        state = "kept" if flaw is None else f"made, {flaw}"
        click.echo(f"{place}: {subject.role.value} {subject.name}, until {end_of(held.certificate):%Y-%m-%d} ({state})")


def _authority_in(folder: Path) -> Authority:
    from twinsplit.certificates.authority import Authority
    from twinsplit.certificates.folder import has_authority, keep_authority, read_authority

    if has_authority(folder):
        return read_authority(folder)
    authority = Authority.made()
    keep_authority(authority, folder)
    click.echo(f"{folder}: a new authority, valid until {authority.ends:%Y-%m-%d}")
    return authority


def _authority_option(folder: Path) -> str:
    return "" if folder == DEFAULT_FOLDER else f" --authority {folder}"
