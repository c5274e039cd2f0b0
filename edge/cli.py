"""``twinsplit edge serve``, ``load`` and ``install-service``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.settings import EdgeSettings
from twinsplit.numbers import FiniteRange
from twinsplit.settings import Loaded
from twinsplit.settings_options import settings_options
from twinsplit.stop_signals import stop_signals
from twinsplit.systemd.installation import Place, Request, install, install_options
from twinsplit.tls_options import tls_options

if TYPE_CHECKING:
    from edge.load import LoadSummary, LoadTails
    from edge.load_pattern import LoadShape
    from twinsplit.transport.tls import TlsFiles


@click.group()
def edge() -> None:
    """Serve an edge, or put load on one."""


@edge.command()
@settings_options(EdgeSettings)
def serve(loaded: Loaded[EdgeSettings]) -> None:
    """Finish tails of devices until SIGTERM or Ctrl-C."""
    from edge.core import keep_to
    from edge.service import serve as serve_edge
    from twinsplit.telemetry.logs import EventLog, configure_logging
    from twinsplit.transport.allocation import keep_freed_memory
    from twinsplit.turns import take_short_turns

    settings = loaded.values
    configure_logging(settings.log_level, settings.log_format)
    keep_freed_memory()
    take_short_turns()
    if settings.core is not None:
        keep_to(settings.core, settings.threads)
    log = EventLog("edge.service")
    asyncio.run(serve_edge(settings, progress=lambda text: log.info("edge-starting", step=text)))


@edge.command()
@click.argument("address", metavar="HOST:PORT")
@click.option(
    "--model", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Model folder of the tails."
)
@click.option(
    "--pattern",
    type=click.Choice(["onoff", "poisson", "heavy", "trace"]),
    default="onoff",
    show_default=True,
    help="Arrivals: bursts, Poisson, bursts with heavy-tailed lengths, or instants from --trace.",
)
@click.option(
    "--load", "offered", type=float, default=0.6, show_default=True, help="Mean work offered, share of the capacity."
)
@click.option("--burst-s", type=float, default=1.0, show_default=True, help="Mean length of a burst, seconds.")
@click.option(
    "--burst-variation",
    type=float,
    default=1.0,
    show_default=True,
    help="Spread of the lengths of bursts and pauses (onoff): 0 all alike, 1 exponential.",
)
@click.option(
    "--peak", type=float, default=1.8, show_default=True, help="Work offered within a burst, share of the capacity."
)
@click.option("--trace", type=click.Path(path_type=Path), help="File with an offset in seconds on each line.")
@click.option("--seconds", type=FiniteRange(min=0, min_open=True), help="Length of the run; not set: until Ctrl-C.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same seed gives the same arrivals."
)
@click.option("--cut", type=int, default=0, show_default=True, help="Cut whose tensor is sent; 0: the input.")
@click.option("--representation", help="Such as uint8+zstd; not set: the one with the fewest bytes.")
@click.option(
    "--frames",
    type=click.Path(path_type=Path),
    help="Folder of pictures, or of .npy tensors for a network that takes those; not set: made-up frames.",
)
@click.option(
    "--budget-s", type=FiniteRange(min=0), help="Time until an answer is of no use, seconds; 0 or not set: no limit."
)
@click.option(
    "--service-s",
    type=FiniteRange(min=0, min_open=True),
    help="Service time of one tail that the rate is made from, seconds; not set: measured first.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write the summary there.")
@click.option("--quiet", is_flag=True, help="No progress.")
@tls_options("edge")
def load(
    address: str,
    model: Path,
    pattern: str,
    offered: float,
    burst_s: float,
    burst_variation: float,
    peak: float,
    trace: Path | None,
    seconds: float | None,
    seed: int,
    cut: int,
    representation: str | None,
    frames: Path | None,
    budget_s: float | None,
    service_s: float | None,
    json_path: Path | None,
    quiet: bool,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> None:
    """Stand for other users of the edge at HOST:PORT: real tails through the same queue."""
    from edge.load_pattern import LoadShape, Pattern, read_trace
    from edge.load_payloads import load_tails
    from twinsplit.errors import SettingsError
    from twinsplit.telemetry.logs import configure_logging
    from twinsplit.transport.allocation import keep_freed_memory
    from twinsplit.transport.tls import TlsFiles

    configure_logging("warning")
    keep_freed_memory()
    if json_path is not None:  # before the run, not after it
        with _writing(json_path):
            json_path.touch()
    if (trace is None) != (pattern != "trace"):
        raise SettingsError("--trace FILE and --pattern trace go together; give both or neither")
    instants_s = () if trace is None else read_trace(trace)
    shape = LoadShape(Pattern(pattern), offered, burst_s, peak, instants_s, burst_variation)
    tails = load_tails(
        model, cut=cut, representation=representation, frames=frames, seed=seed, budget_s=budget_s or None
    )
    tls = TlsFiles(tls_ca, tls_cert, tls_key)
    summary = asyncio.run(_run_load(address, tls, tails, shape, seed, seconds, service_s, is_quiet=quiet))
    click.echo(_sentence(summary))
    if json_path is not None:
        with _writing(json_path):
            json_path.write_text(json.dumps(summary.as_dict(), indent=2) + "\n", encoding="utf-8")


@edge.command("install-service")
@install_options("edge")
def install_service(request: Request, place: Place) -> None:
    """Print or write a systemd unit that serves an edge with the settings of a file.

    \b
    twinsplit edge install-service --config /etc/twinsplit/edge.toml
    sudo /opt/twinsplit/venv/bin/twinsplit edge install-service --write
    """
    from edge.unit import edge_needs

    install(request, place, EdgeSettings, edge_needs)


async def _run_load(
    address: str,
    tls: TlsFiles,
    tails: LoadTails,
    shape: LoadShape,
    seed: int,
    seconds: float | None,
    service_s: float | None,
    *,
    is_quiet: bool,
) -> LoadSummary:
    from edge.load import LoadGenerator
    from twinsplit.transport.channel import await_reachable, open_channel

    async with open_channel(address, tls, max_message_bytes=tails.max_message_bytes) as channel:
        await await_reachable(channel, address, timeout_s=10.0)
        generator = LoadGenerator(channel, address, tails, shape, seed, service_s=service_s)
        run = asyncio.ensure_future(generator.run(seconds, progress=None if is_quiet else _show))
        loop = asyncio.get_running_loop()
        for number in stop_signals():
            loop.add_signal_handler(number, run.cancel)
        try:
            await run
        except asyncio.CancelledError:
            pass
        finally:
            if not is_quiet:
                click.echo(err=True)
        return generator.summary


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    from twinsplit.errors import StorageError

    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}; free some space or name another file") from None


def _show(summary: LoadSummary) -> None:
    end = "" if sys.stderr.isatty() else "\n"
    start = "\r" if sys.stderr.isatty() else ""
    click.echo(
        f"{start}{summary.elapsed_s:7.1f} s  {summary.arrivals} arrivals  offered {summary.offered_load:.2f}  "
        f"answered {summary.answered}  refused {summary.refused_total}  lost {summary.lost + summary.unsent}  "
        f"backlog {summary.latest_backlog_s * 1e3:.0f} ms   {end}",
        err=True,
        nl=False,
    )


def _sentence(summary: LoadSummary) -> str:
    refused = ", ".join(f"{count} as {code}" for code, count in sorted(summary.refused.items())) or "none"
    text = (
        f"In {summary.elapsed_s:.1f} s {summary.arrivals} tails arrived, an offered load of {summary.offered_load:.2f} "
        f"at {summary.assumed_service_s * 1e3:.2f} ms each: {summary.answered} answered, {summary.refused_total} "
        f"refused ({refused}), {summary.lost} lost, {summary.unsent} not sent."
    )
    if summary.mean_queue_wait_s is not None and summary.mean_service_s is not None:
        text += (
            f" Those answered waited {summary.mean_queue_wait_s * 1e3:.1f} ms and took "
            f"{summary.mean_service_s * 1e3:.2f} ms on average."
        )
    return text
