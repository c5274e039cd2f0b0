"""``twinsplit device run``, ``calibrate``, ``status``, ``submit`` and ``install-service``."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device.settings import DeviceSettings
from twinsplit.numbers import FiniteRange
from twinsplit.settings import Loaded
from twinsplit.settings_options import settings_options
from twinsplit.systemd.installation import ONE_LINE, Place, Request, install, install_options
from twinsplit.tls_options import tls_options

if TYPE_CHECKING:
    import grpc.aio

    from twinsplit.rpc.v1 import device_pb2
    from twinsplit.transport.tls import TlsFiles

REACH_TIMEOUT_S = 5.0
_REQUEST_BYTES = 64
"""Of a submission beside its name and its frame."""


@click.group()
def device() -> None:
    """Run a device, submit frames to it, ask how it stands."""


@device.command()
@settings_options(DeviceSettings)
def run(loaded: Loaded[DeviceSettings]) -> None:
    """Classify frames until the source ends, SIGTERM or Ctrl-C.

    \b
    twinsplit device run --model models/alexnet-fashion/1 --source frames:DIR --arrivals poisson:5 --sink -
    rpicam-vid -t 0 --codec mjpeg -o - | twinsplit device run --model DIR --source - --sink results.jsonl
    """
    from device.service import run as run_device
    from twinsplit.telemetry.logs import configure_logging
    from twinsplit.transport.allocation import keep_freed_memory
    from twinsplit.turns import take_short_turns

    settings = loaded.values
    configure_logging(settings.log_level, settings.log_format)
    keep_freed_memory()
    take_short_turns()
    asyncio.run(run_device(settings))


@device.command()
@settings_options(DeviceSettings)
@click.option("--repeats", type=click.IntRange(min=3), default=20, show_default=True, help="Runs whose median counts.")
@click.option(
    "--seconds",
    type=FiniteRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Time of idling, computing and sending over which powers and rates are averaged.",
)
@click.option("--idle-watts", type=FiniteRange(min=0), help="Idle power as you measured it, in place of a meter.")
@click.option("--busy-watts", type=FiniteRange(min=0), help="Power while computing as you measured it.")
def calibrate(
    loaded: Loaded[DeviceSettings], repeats: int, seconds: float, idle_watts: float | None, busy_watts: float | None
) -> None:
    """Measure this device into the file that `device run --profile` reads.

    Times of segments, exits and encoders; idle and busy power where a meter is found; goodput to the edge of --edge.
    Leave the machine alone meanwhile. Without --profile the file is device-profile.json.

    \b
    twinsplit device calibrate --model DIR --edge HOST:PORT --profile device-profile.json
    """
    from device.calibration import Wishes
    from device.calibration_command import calibrate_and_tell
    from twinsplit.telemetry.logs import configure_logging

    if (idle_watts is None) != (busy_watts is None):
        raise click.UsageError("--idle-watts and --busy-watts go together: the device draws one idling, one computing")
    if idle_watts is not None and busy_watts is not None and idle_watts > busy_watts:
        raise click.UsageError("--idle-watts is more than --busy-watts; a device that computes draws no less than idle")
    configure_logging("warning", loaded.values.log_format)
    given = None if idle_watts is None or busy_watts is None else (idle_watts, busy_watts)
    calibrate_and_tell(loaded, Wishes(repeats, seconds, given))


@device.command()
@click.argument("address", metavar="HOST:PORT")
@click.option("--json", "is_json", is_flag=True, help="The whole JSON object.")
@click.option("--timeout-s", default=5.0, show_default=True, help="Longest wait for the device, seconds.")
@tls_options("device")
def status(
    address: str,
    is_json: bool,
    timeout_s: float,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> None:
    """Say which plan stands at the device at HOST:PORT and why tasks end where they do."""
    from device.status_text import status_text
    from twinsplit.transport.tls import TlsFiles

    document = asyncio.run(_status(address, TlsFiles(tls_ca, tls_cert, tls_key), timeout_s))
    click.echo(json.dumps(document, indent=2) if is_json else status_text(document))


@device.command()
@click.argument("address", metavar="HOST:PORT")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@tls_options("device")
def submit(
    address: str, files: tuple[Path, ...], tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None
) -> None:
    """Submit pictures to the device at HOST:PORT; one JSON object per line comes back as each one ends.

    Where one is refused, the others are answered all the same; the exit code then says why.
    """
    from twinsplit.transport.tls import TlsFiles

    sys.exit(asyncio.run(_submit(address, files, TlsFiles(tls_ca, tls_cert, tls_key))))


@device.command("install-service")
@install_options("device")
@click.option(
    "--frames-from",
    callback=ONE_LINE,
    metavar="COMMAND",
    help="Frames are what this command writes, such as 'rpicam-vid -t 0 --codec mjpeg -o -'.",
)
def install_service(request: Request, place: Place, frames_from: str | None) -> None:
    """Print or write a systemd unit that runs a device with the settings of a file.

    \b
    twinsplit device install-service --config /etc/twinsplit/device.toml
    sudo /opt/twinsplit/venv/bin/twinsplit device install-service --write
    """
    from device.unit import device_needs

    install(request, place, DeviceSettings, lambda settings: device_needs(settings, frames_from))


async def _status(address: str, tls: TlsFiles, timeout_s: float) -> dict[str, Any]:
    import grpc.aio

    from twinsplit.rpc.v1 import device_pb2, device_pb2_grpc
    from twinsplit.transport.status import error_from_rpc

    async with await _reach(address, tls, timeout_s) as channel:
        stub = device_pb2_grpc.DeviceServiceStub(channel)
        try:
            response = await stub.GetStatus(device_pb2.GetStatusRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError as failure:
            raise error_from_rpc(failure, address) from None
    document: dict[str, Any] = json.loads(response.status_json)
    return document


async def _submit(address: str, files: tuple[Path, ...], tls: TlsFiles) -> int:
    """Exit code: 0, or that of the first refusal."""
    import grpc.aio

    from twinsplit.errors import OversizeError, SourceError
    from twinsplit.rpc.v1 import device_pb2, device_pb2_grpc
    from twinsplit.transport.status import error_from_rpc, error_from_wire

    async def requests() -> AsyncIterator[device_pb2.SubmitRequest]:
        for request_id, path in enumerate(files, start=1):
            if path not in too_large:
                yield device_pb2.SubmitRequest(request_id=request_id, name=path.name, data=frames[path])

    try:
        frames = {path: path.read_bytes() for path in files}
    except OSError as error:
        raise SourceError(f"{error.filename}: {error.strerror}; name files that this user can read") from None
    exit_code = 0
    limit = (await _status(address, tls, REACH_TIMEOUT_S))["max_message_bytes"]
    # Larger ones would end the stream, and with it every answer that is still to come.
    too_large = {path for path, data in frames.items() if len(data) + len(path.name) + _REQUEST_BYTES > limit}
    for path in too_large:
        text = f"{len(frames[path])} bytes are more than the {limit} that the device takes in a message"
        exit_code = OversizeError.exit_code
        click.echo(f"{path}: {text}; send a smaller picture", err=True)
    async with await _reach(address, tls, max_message_bytes=limit) as channel:
        stub = device_pb2_grpc.DeviceServiceStub(channel)
        try:
            async for response in stub.Submit(requests()):
                if response.HasField("error"):
                    refusal = error_from_wire(response.error)
                    exit_code = exit_code or refusal.exit_code
                    click.echo(f"{files[response.request_id - 1]}: {refusal}", err=True)
                if response.task_json:
                    click.echo(response.task_json)
        except grpc.aio.AioRpcError as failure:
            raise error_from_rpc(failure, address) from None
    return exit_code


async def _reach(
    address: str, tls: TlsFiles, timeout_s: float = REACH_TIMEOUT_S, max_message_bytes: int | None = None
) -> grpc.aio.Channel:
    from twinsplit.transport.channel import await_reachable, open_channel
    from twinsplit.transport.limits import CONTROL_MESSAGE_BYTES

    channel = open_channel(address, tls, max_message_bytes=max_message_bytes or CONTROL_MESSAGE_BYTES)
    try:
        await await_reachable(channel, address, timeout_s=timeout_s)
    except Exception:
        await channel.close(None)
        raise
    return channel
