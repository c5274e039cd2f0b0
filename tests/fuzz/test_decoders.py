"""Whatever the bytes, every decoder gives a value or its own named error, in little time.

Bytes are made of good examples: cut, joined, turned and replaced in a few places, with checksums made right again where
there are any, so that what lies behind them is reached. Some are made of nothing. That little memory is taken is shown
by tests/integration/test_hostile_peers.py, message by message.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import NamedTuple

import pytest
import zstandard
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.datastructures import QueryParams
from starlette.requests import Request

from benchmarks.scenario import read_scenario
from device.energy.places import number_in, text_in
from device.plan_keeping import PlanKeeper
from device.settings import DeviceSettings
from device.sources.mjpeg import MjpegSplitter
from device.vcgencmd import clock_hertz, is_throttled, pmic_watts
from edge.engine.server_metrics import reading_of
from edge.load_pattern import read_trace
from edge.settings import EdgeSettings
from tests.fuzz import bad_frames
from tests.fuzz.bad_inferences import FLOATS
from tests.fuzz.bad_inferences import good as good_inference
from tests.unit.device.made_up_device import manifest_of
from tests.unit.edge.tiny_model import SHAPES, write_tiny_model
from tests.unit.twin_service.made_up_twins import MANIFEST_BYTES
from tests.unit.workload.made_up_replay import made_up_replayed
from twin_service.console import app
from twin_service.console.request_errors import RequestError
from twin_service.console.what_if import Changes
from twin_service.decision.value_net import ValueNet
from twin_service.settings import TwinSettings
from twin_service.workload.replayed import Replayed
from twin_service.workload.trace_files import TraceFiles
from twin_service.workload.traces import unpacked
from twinsplit.certificates.subject import subject_of_uri
from twinsplit.errors import (
    BadMessageError,
    FrameError,
    ManifestError,
    ModelFileError,
    OversizeError,
    ReplayError,
    SettingsError,
    StorageError,
    TensorError,
    WeightsError,
    WrongDigestError,
)
from twinsplit.model.manifest import TensorSpec, parse_manifest, read_manifest
from twinsplit.model.payload import decode_payload
from twinsplit.model.preprocessing import prepare
from twinsplit.model.profile import load_profile
from twinsplit.model.split_options import preprocessing_of
from twinsplit.oip.messages import (
    InferenceResponse,
    NamedTensor,
    request_from_bytes,
    response_from_bytes,
    response_to_bytes,
)
from twinsplit.rpc.v1 import twin_pb2
from twinsplit.settings import load_settings
from twinsplit.tensor import TensorHeader
from twinsplit.tracing.context import parse_traceparent
from twinsplit.transport.address import Address
from twinsplit.transport.convert import plan_from_wire

MODEL = manifest_of(3, (1,))
MOST_S = 30.0
"""Of a processor: what takes so long is a bomb. The slowest seen on a busy machine took 2.9 s."""
SCENARIOS = Path(__file__).resolve().parents[2] / "benchmarks" / "scenarios"


DEEP = 20_000
"""Brackets that no stack holds."""


class Decoder(NamedTuple):
    """One of ours."""

    decode: Callable[[bytes], object]
    examples: tuple[bytes, ...]
    errors: tuple[type[Exception], ...] = ()
    """What it may raise; nothing: it says ``None`` or leaves out what it cannot read."""
    repair: Callable[[bytes], bytes] = bytes
    """Make a checksum right."""


def of_text(decode: Callable[[str], object]) -> Callable[[bytes], object]:
    """A decoder of text that has been taken for text."""
    return lambda data: decode(data.decode("utf-8", "surrogateescape"))


def of_file(read: Callable[[Path], object], place: Path) -> Callable[[bytes], object]:
    """A decoder of files."""

    def decode(data: bytes) -> object:
        place.write_bytes(data)
        return read(place)

    return decode


def _summed(data: bytes) -> bytes:
    return data[:-4] + struct.pack("<I", zlib.crc32(data[:-4]))


def _plan(data: bytes) -> object:
    """A plan as a device takes it, from the wire to the look-up."""
    message = twin_pb2.Plan()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return None
    plan = plan_from_wire(message)
    keeper = PlanKeeper(MODEL, plan.model_digest)
    return keeper.plan_received(plan, None, 0.0)


def _query(data: bytes) -> object:
    return Changes.parse(QueryParams(data.decode("latin-1")))


def _selection(data: bytes) -> object:
    return app._selection(Request({"type": "http", "headers": [], "query_string": data}))


def _wish(data: bytes) -> object:
    """A write as the console takes it, from the body to the weights."""

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": data}

    headers = [(b"content-type", b"application/json")]
    return app._desired(asyncio.run(app._body(Request({"type": "http", "headers": headers}, receive))))


def _page(data: bytes) -> object:
    reading = reading_of(data.decode("utf-8", "replace"), {"net"})
    if reading is not None:
        assert all(number is None or 0.0 <= number < math.inf for number in astuple(reading))
    return reading


def _exported(folder: Path) -> Callable[[bytes], object]:
    def decode(data: bytes) -> object:
        with TraceFiles(folder) as files:
            files.add(unpacked(data))
            return files.finish()

    return decode


def _records() -> bytes:
    header = {"kind": "header", "format": "twinsplit-trace", "version": 1}
    task = {"kind": "task", "device_id": "cam", "model_digest": "ab", "arrived_unix_s": 1.0, "goodput_bytes_per_s": 1e6}
    arrival = {"kind": "arrival", "edge_id": "edge", "at_unix_s": 1.0, "work_s": 0.1, "device_id": "cam"}
    return "".join(json.dumps(record) + "\n" for record in (header, task, arrival)).encode()


def _inferences() -> tuple[bytes, bytes]:
    """One with raw elements, one with typed ones."""
    typed = good_inference()
    del typed.raw_input_contents[:]
    typed.inputs[0].contents.fp32_contents.extend([1.0] * FLOATS)
    return good_inference().SerializeToString(), typed.SerializeToString()


_INPUT = TensorSpec(name="x", shape=(1, 3, 8, 8), dtype="float32")
_PREPROCESSING = {
    "json": b'{"fit": "crop", "resize_to": 9, "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "scale": 0.01}',
    "toml": b'fit = "crop"\nresize_to = 9\nmean = [0.5, 0.5, 0.5]\nscale = 0.01\n',
}
_PAGES = tuple(
    f'# TYPE {name} {kind}\n{name}{{model="net"}} 12\n{name}{{model="other"}} {value}\n'.encode()
    for value in ("1.5e3", "9" * 400, "NaN", "-1", "+Inf")
    for name, kind in (("nv_inference_pending_request_count", "gauge"), ("nv_inference_queue_duration_us", "counter"))
)


def _profile() -> bytes:
    times = {"segment_s": [0.1, 0.2], "exit_s": [0.01], "encode_s": [[0, 1, 0.001]]}
    machine = {"model_digest": "ab", "provider": "CPU", "threads": 1, "machine": "made up", "repeats": 3}
    powers = {"source": "given", "idle_watts": 2.0, "busy_watts": 5.0, "busy_cores": 1.0}
    return json.dumps({"format": 2, **machine, **times, "speed_share": 1.0, "powers": powers}).encode()


@pytest.fixture(scope="module")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Decoder]:
    place = tmp_path_factory.mktemp("fuzz")
    manifest, data = read_manifest(write_tiny_model(place / "model"))
    png, jpeg = bad_frames.picture(side=16), bad_frames.picture("JPEG", side=16)
    tensor = TensorHeader(SHAPES[1], "float32", "uint8", "zstd", 1.0, 3)
    header = {kind: TensorHeader(SHAPES[0], "float32", kind) for kind in ("png", "jpeg")}
    plan = bad_frames.plan("ab" * 32, 1).SerializeToString()
    refusals = (TensorError, OversizeError)
    scenario = (SCENARIOS / "demo.yaml").read_bytes()
    return {
        "manifest": Decoder(parse_manifest, (MANIFEST_BYTES, data), (ManifestError,)),
        "plan": Decoder(_plan, (plan,), (BadMessageError, WrongDigestError)),
        "tensor payload": Decoder(
            lambda d: decode_payload(manifest, 1, tensor, d), (zstandard.compress(bytes(256)),), refusals
        ),
        "PNG payload": Decoder(lambda d: decode_payload(manifest, 0, header["png"], d), (png,), refusals),
        "JPEG payload": Decoder(lambda d: decode_payload(manifest, 0, header["jpeg"], d), (jpeg,), refusals),
        "frame": Decoder(lambda d: prepare(d, manifest), (png, jpeg), (FrameError,)),
        "profile": Decoder(of_file(load_profile, place / "profile.json"), (_profile(),), (ModelFileError,)),
        "scenario": Decoder(of_file(read_scenario, place / "scenario.yaml"), (scenario,), (SettingsError,)),
        "arrivals": Decoder(of_file(read_trace, place / "trace.txt"), (b"# s\n0.1\n0.2,7\n1e3\n",), (SettingsError,)),
        **{
            f"settings of the {service.service}": Decoder(
                of_file(lambda path, service=service: load_settings(service, path), place / "settings.toml"),
                (b'listen = "127.0.0.1:0"\nlog_level = "info"\ntls_ca = "ca.pem"\ninsecure = true\n' + needed,),
                (SettingsError,),
            )
            for service, needed in (
                (DeviceSettings, b'model = "m"\nseed = 7\n'),
                (EdgeSettings, b'models = "m"\nqueue_capacity = 8\n'),
                (TwinSettings, b'state = "s"\nlease_s = 9.5\n'),
            )
        },
        "weights": Decoder(ValueNet.from_bytes, (ValueNet.zero().to_bytes(),), (WeightsError,), _summed),
        "replayed task": Decoder(Replayed.from_bytes, (made_up_replayed().to_bytes(),), (ReplayError,), _summed),
        "export": Decoder(_exported(place / "export"), (zstandard.compress(_records()),), (StorageError,)),
        "records of an export": Decoder(
            lambda d: _exported(place / "export")(zstandard.compress(d)), (_records(),), (StorageError,)
        ),
        "console query": Decoder(_query, (b"alpha_s=1&beta_s_per_joule=0.1&goodput_bytes_per_s=1e6",), (RequestError,)),
        "console selection": Decoder(_selection, (b"device=cam&offset=100",), (RequestError,)),
        "console body": Decoder(_wish, (b'{"version": 3, "alpha_s": 1.5, "deadline_s": 2}',), (RequestError,)),
        "page of an engine": Decoder(_page, _PAGES),
        **{
            f"preprocessing in {kind}": Decoder(
                of_file(lambda path: preprocessing_of(str(path), _INPUT), place / f"preprocessing.{kind}"),
                (data,),
                (SettingsError,),
            )
            for kind, data in _PREPROCESSING.items()
        },
        "address": Decoder(of_text(Address.parse), (b"127.0.0.1:7000", b"[::1]:7000"), (SettingsError,)),
        "traceparent": Decoder(
            of_text(parse_traceparent), (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",)
        ),
        "certificate's name": Decoder(of_text(subject_of_uri), (b"twinsplit://device/camera-1",)),
        "power of vcgencmd": Decoder(of_text(pmic_watts), (b" 3V3_A current(1)=0.1A\n 3V3_V volt(9)=3.3V\n",)),
        "throttling of vcgencmd": Decoder(of_text(is_throttled), (b"throttled=0x50005\n",)),
        "clock of vcgencmd": Decoder(of_text(clock_hertz), (b"frequency(0)=2400033792\n",)),
        "number of a sensor": Decoder(of_file(number_in, place / "energy_uj"), (b"262143328850\n", b"-1.5\n")),
        "text of a sensor": Decoder(of_file(text_in, place / "name"), (b"package-0\n",)),
        "MJPEG": Decoder(lambda d: MjpegSplitter().feed(d), (jpeg + jpeg,)),
        "inference request": Decoder(request_from_bytes, _inferences(), (DecodeError,)),
        "inference answer": Decoder(
            response_from_bytes,
            (
                response_to_bytes(
                    InferenceResponse("m", "1", "id", {"a": 0.5}, (NamedTensor("y", "FP32", (1,), b"abcd"),))
                ),
            ),
        ),
    }


NAMES = (
    "manifest", "plan", "tensor payload", "PNG payload", "JPEG payload", "frame", "profile", "scenario", "arrivals",
    "settings of the device", "settings of the edge", "settings of the twin", "weights", "replayed task", "export",
    "records of an export", "console query", "address", "traceparent", "certificate's name", "power of vcgencmd",
    "throttling of vcgencmd", "clock of vcgencmd", "number of a sensor", "text of a sensor", "MJPEG",
    "inference request", "inference answer", "console selection", "console body", "page of an engine",
    "preprocessing in json", "preprocessing in toml",
)  # fmt: skip

_ODD = (
    *(b"\x00", b"\x00" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\xed\xa0\x80"),
    *(b"9" * 5000, b"0x" + b"f" * 5000, b"-1", b"nan", b"inf", b"1e999", b"null"),
    *(b"[" * 2000, b"{" * 2000, b"&a *a", b"\n", b'"', b"=", b":", b"../"),
)
PIECES = st.one_of(st.binary(max_size=8), st.sampled_from(_ODD))


@st.composite
def changes(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Up to three places of an example, each replaced by something else."""
    cuts = [
        (draw(st.floats(0.0, 1.0)), draw(st.sampled_from([0, 0, 1, 2, 8, 1 << 20])), draw(PIECES))
        for _ in range(draw(st.integers(0, 3)))
    ]

    def changed(data: bytes) -> bytes:
        for share, size, piece in cuts:
            at = int(share * len(data))
            data = data[:at] + piece + data[at + size :]
        return data

    return changed


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_whatever_the_bytes_it_is_a_value_or_the_named_error(name: str, decoders: dict[str, Decoder]) -> None:
    decoder = decoders[name]
    decoder.decode(decoder.examples[0])  # what it imports is not its own time
    slowest = [0.0]

    @settings(max_examples=80, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(decoder.examples), changes(), st.one_of(st.none(), st.binary(max_size=64)))
    @example(decoder.examples[0], lambda data: data, b"")
    @example(decoder.examples[0], lambda data: b"[" * DEEP, b'{"a":' * DEEP)
    def tried(data: bytes, change: Callable[[bytes], bytes], other: bytes | None) -> None:
        began_s = time.process_time()
        for each in (decoder.repair(change(data)) if len(data) > 4 else change(data), other or b""):
            with contextlib.suppress(*decoder.errors):
                decoder.decode(each)
        slowest[0] = max(slowest[0], time.process_time() - began_s)

    tried()
    assert slowest[0] < MOST_S


def test_good_examples_are_read(decoders: dict[str, Decoder]) -> None:
    assert set(decoders) == set(NAMES)
    for name, decoder in decoders.items():
        for data in decoder.examples:
            assert decoder.decode(data) is not None, name
