"""``twinsplit twin serve``, and ``show``, ``list`` and ``watch`` for whoever wants to look into it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from twin_service.settings import TwinSettings
from twinsplit.numbers import FiniteRange
from twinsplit.plausible import LARGEST_WEIGHT
from twinsplit.settings import Loaded
from twinsplit.settings_options import settings_options
from twinsplit.systemd.installation import Place, Request, install, install_options
from twinsplit.tls_options import tls_options

if TYPE_CHECKING:
    from twin_service.memory import WeightsRow
    from twin_service.views import DeviceView
    from twinsplit.transport.tls import TlsFiles

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_ADDRESS = "127.0.0.1:7000"


@click.group()
def twin() -> None:
    """Serve the twin service, or look into its twins."""


@twin.command()
@settings_options(TwinSettings)
def serve(loaded: Loaded[TwinSettings]) -> None:
    """Mirror devices and edges and keep plans standing until SIGTERM or Ctrl-C."""
    from twin_service.service import serve as serve_twin
    from twinsplit.garbage import collect_rarely
    from twinsplit.telemetry.logs import configure_logging
    from twinsplit.transport.allocation import keep_freed_memory

    configure_logging(loaded.values.log_level, loaded.values.log_format)
    keep_freed_memory()
    collect_rarely()
    asyncio.run(serve_twin(loaded.values))


@twin.command("install-service")
@install_options("twin")
def install_service(request: Request, place: Place) -> None:
    """Print or write a systemd unit that serves the twin with the settings of a file.

    \b
    twinsplit twin install-service --config /etc/twinsplit/twin.toml
    sudo /opt/twinsplit/venv/bin/twinsplit twin install-service --write
    """
    from twin_service.unit import twin_needs

    install(request, place, TwinSettings, twin_needs)


def _reading_options(function: F) -> F:
    """How a command reaches the twin service."""
    address = click.option(
        "--twin", "address", default=DEFAULT_ADDRESS, show_default=True, metavar="HOST:PORT", help="Twin service."
    )
    return address(tls_options("twin")(function))


def _fleet_options(function: F) -> F:
    """How a command reaches all replicas of the twin service."""
    addresses = click.option(
        "--twin",
        "address",
        default=DEFAULT_ADDRESS,
        show_default=True,
        metavar="HOST:PORT,...",
        help="Twin service, or its replicas with commas, or @FILE with one on each line.",
    )
    return addresses(tls_options("twin")(function))


@twin.command()
@click.argument("name")
@click.option(
    "--live",
    "older_than_s",
    type=FiniteRange(min=0),
    metavar="SECONDS",
    help="Ask the device if its report is older.",
)
@_fleet_options
def show(name: str, older_than_s: float | None, **reach: Any) -> None:
    """Which plan stands at device NAME, what is mirrored of it, and why its tasks end where they do."""
    from twin_service.fleet import read_device
    from twin_service.tables import device_text
    from twinsplit.replicas.listing import ReplicaSource

    address, tls = _reach(**reach)
    replicas = ReplicaSource(address).read()
    replica, view, is_live = asyncio.run(read_device(replicas, tls, name, older_than_s))
    if len(replicas) > 1:
        click.echo(f"replica {replica}")
    click.echo(device_text(view, is_live=is_live))


@twin.command()
@click.argument("name")
@click.option("--alpha-s", type=FiniteRange(0, LARGEST_WEIGHT), help="What a right answer is worth, seconds.")
@click.option("--beta-s-per-joule", type=FiniteRange(0, LARGEST_WEIGHT), help="What a joule costs, seconds.")
@click.option(
    "--deadline-s",
    type=FiniteRange(0, LARGEST_WEIGHT),
    help="Age from which an answer counts as wrong in decisions, seconds; 0: none.",
)
@_reading_options
def desire(
    name: str, alpha_s: float | None, beta_s_per_joule: float | None, deadline_s: float | None, **reach: Any
) -> None:
    """Give device NAME weights or a deadline of its own, from now on; what is left out stays as it is.

    \b
    twinsplit twin desire camera-1 --alpha-s 0.44 --beta-s-per-joule 0.012
    twinsplit twin desire camera-1 --deadline-s 0.2
    """
    from twin_service.documents import Desired
    from twin_service.reader import reading
    from twin_service.tables import device_text

    desired = Desired(alpha_s, beta_s_per_joule, deadline_s)
    if not desired.by_field():
        raise click.UsageError("give --alpha-s, --beta-s-per-joule or --deadline-s")

    async def write() -> DeviceView:
        address, tls = _reach(**reach)
        async with reading(address, tls) as reader:
            await reader.desire(name, desired)
            view, _ = await reader.device(name)
        return view

    click.echo(device_text(asyncio.run(write()), is_live=False))


@twin.command("list")
@_fleet_options
def list_twins(**reach: Any) -> None:
    """All devices and edges, a line each."""
    from twin_service.fleet import read_fleet
    from twin_service.tables import fleet_table, listing_table
    from twinsplit.replicas.listing import ReplicaSource

    address, tls = _reach(**reach)
    replicas = ReplicaSource(address).read()
    fleet = asyncio.run(read_fleet(replicas, tls))
    if len(replicas) > 1 and fleet.listings:
        click.echo(fleet_table(fleet))
    elif fleet.listings:
        click.echo(listing_table(next(iter(fleet.listings.values()))))
    for failure in fleet.failures.values():
        raise failure  # after what the others know


@twin.command()
@click.option(
    "--interval",
    type=FiniteRange(min=0.05),
    default=0.5,
    show_default=True,
    help="Shortest time between two looks, s.",
)
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many looks; not set: until Ctrl-C.")
@_reading_options
def watch(interval: float, count: int | None, **reach: Any) -> None:
    """All devices and edges, again whenever something changes."""
    from twin_service.reader import reading
    from twin_service.tables import listing_table

    async def follow() -> None:
        address, tls = _reach(**reach)
        seen = 0
        async with reading(address, tls) as reader:
            async for listing in reader.watch(interval):
                if sys.stdout.isatty():
                    click.clear()
                click.echo(listing_table(listing) + "\n")
                seen += 1
                if seen == count:
                    return

    asyncio.run(follow())


@twin.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@_reading_options
def export(folder: Path, **reach: Any) -> None:
    """Write all documents and recorded tasks into FOLDER, with a scenario for every device that `sim run` reads."""
    from twin_service.reader import reading
    from twin_service.workload.trace_files import TraceFiles

    async def write() -> str:
        address, tls = _reach(**reach)
        async with reading(address, tls) as reader:
            with TraceFiles(folder) as files:
                async for lines in reader.traces():
                    files.add(lines)
                found = files.finish()
        return (
            f"{found.folder}: {found.documents} documents, {found.tasks} tasks, {found.arrivals} arrivals at edges, "
            f"{found.devices} scenarios"
        )

    click.echo(asyncio.run(write()))


@twin.command()
@click.option("--json", "as_json", is_flag=True, help="All scores, as JSON.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Look into the state folder of a stopped twin service instead.",
)
@click.option("--store", metavar="URL", help="Look into the database that replicas share, postgresql://..., instead.")
@click.option(
    "--serve",
    "version",
    type=click.IntRange(min=0),
    metavar="VERSION",
    help="With --state or --store: this version serves from the next start on; 0: none, open-loop decides.",
)
@click.option("--model", metavar="DIGEST", default="", help="Only the model whose digest begins so.")
@_reading_options
def weights(
    as_json: bool, state: Path | None, store: str | None, version: int | None, model: str, **reach: Any
) -> None:
    """Versions of learned weights, with how they did on tasks that they were not trained on."""
    from twin_service.learning.choosing import kept_weights, serve_version
    from twin_service.learning.listing import weights_document, weights_table
    from twin_service.reader import reading

    place = state if store is None else store
    if state is not None and store is not None:
        raise click.UsageError("give --state or --store, not both")
    if version is not None and place is None:
        raise click.UsageError("--serve needs --state or --store: stop the twin service and say where its state is")

    async def read() -> list[WeightsRow]:
        address, tls = _reach(**reach)
        async with reading(address, tls) as reader:
            return await reader.weights()

    if place is not None and version is not None:
        serve_version(place, model, version)
    rows = asyncio.run(read()) if place is None else kept_weights(place)
    rows = [row for row in rows if row.model_digest.startswith(model)]
    click.echo(json.dumps(weights_document(rows), indent=1) if as_json else weights_table(rows))


@twin.command()
@click.option("--latency-p95", type=float, metavar="SECONDS", help="Wish: 95 % of answers within so long.")
@click.option("--energy-joules", type=float, metavar="JOULES", help="Wish: so much energy a task, on average.")
@click.option("--accuracy", type=float, metavar="SHARE", help="Wish: so many answers are right, such as 0.9.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Read recorded tasks from the state folder of a stopped twin service instead.",
)
@click.option("--model", metavar="DIGEST", default="", help="Only the model whose digest begins so.")
@click.option("--device", metavar="NAME", help="Only tasks of this device.")
@click.option(
    "--tasks", type=click.IntRange(min=100), default=3000, show_default=True, help="Newest recorded tasks of the model."
)
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.png", help="Draw the frontier.")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write all figures."
)
@_reading_options
def tune(
    latency_p95: float | None,
    energy_joules: float | None,
    accuracy: float | None,
    state: Path | None,
    model: str,
    device: str | None,
    tasks: int,
    plot: Path | None,
    json_path: Path | None,
    **reach: Any,
) -> None:
    """Find the weights alpha and beta that bring a wish, on recorded tasks; exactly one wish is given.

    Recorded tasks are decided again under many weights, and bring what was realised. Of all weights that bring the wish
    those are taken that lose least of the rest. Nothing is changed. Exit code 1: no weights bring the wish.
    """
    from twin_service.reader import reading
    from twin_service.tuning.recorded import recorded_in
    from twin_service.tuning.tuning import tuned
    from twin_service.tuning.wishes import Wish, Wished
    from twin_service.workload.records import ReplayBatch

    given = {Wished.LATENCY_P95: latency_p95, Wished.ENERGY: energy_joules, Wished.ACCURACY: accuracy}
    wishes = [Wish(wished, limit) for wished, limit in given.items() if limit is not None]
    if len(wishes) != 1:
        raise click.UsageError("give exactly one wish: --latency-p95, --energy-joules or --accuracy")

    async def read() -> list[ReplayBatch]:
        address, tls = _reach(**reach)
        async with reading(address, tls) as reader:
            return [batch async for batch in reader.replay(model, tasks)]

    def batches() -> list[ReplayBatch]:
        return asyncio.run(read()) if state is None else recorded_in(state, model, tasks)

    if not tuned(wishes[0], batches, device=device, plot=plot, json_path=json_path):
        sys.exit(1)


def _reach(address: str, tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None) -> tuple[str, TlsFiles]:
    from twinsplit.transport.tls import TlsFiles

    return address, TlsFiles(tls_ca, tls_cert, tls_key)
