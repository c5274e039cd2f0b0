"""Bad frames of programs beside a device, and bad plans of its twin; the model is the tiny one with an exit."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import zstandard
from PIL import Image

from tests.fuzz.mutations import Bad, Tolerated, impossible_numbers
from twinsplit.errors import ErrorCode
from twinsplit.rpc.v1 import device_pb2, edge_pb2, twin_pb2

BAD_FRAME, BAD_MESSAGE = ErrorCode.BAD_FRAME, ErrorCode.BAD_MESSAGE
EPOCHS, EVIDENCE, QUEUES, BANDS = SHAPE = (4, 4, 4, 2)
TOLERATED: Tolerated = {
    "ClockEcho.sent_s": "echoed as it came",
    "ClockEcho.echo_sent_s": "not read by a device",
    "ClockEcho.echo_received_s": "not read by a device",
}
BELOW_ZERO = frozenset(
    f"{edges}[0] = -1" for edges in ("plan.band_edges_s", "plan.age_edges_s", "plan.busy_uplink.band_edges_s")
)
"""A break point below 0 parts nothing, as one beyond every backlog does."""
ENDLESS = frozenset(f"plan.contingency.exit_thresholds[0] = {value}" for value in ("inf", "1e39"))
"""A threshold that no confidence reaches: the exit is never taken."""
PLAIN_WORDS = {
    "band_edges_s": "points of backlog",
    "age_edges_s": "points of age",
    "exit_thresholds": "threshold",
    "lease_s": "lease",
    "from_s": "a time above 0",
}
"""What refusals of plans call fields."""


def picture(kind: str = "PNG", side: int = 24, mode: str = "RGB") -> bytes:
    """A whole one."""
    pixels = np.kron(np.arange(16).reshape(4, 4) * 16, np.ones((side // 4, side // 4))).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def bad_submissions() -> Iterator[Bad]:
    """All frames that are none, and requests that are none."""
    for name, data in _frames().items():
        yield Bad(f"frame: {name}", submission(2, data), BAD_FRAME)
    yield Bad("no id", submission(0, picture()), BAD_MESSAGE)
    yield Bad("nothing", b"", BAD_MESSAGE)
    yield Bad("no message", b"\x0f", BAD_MESSAGE)
    yield Bad("text", b"GET / HTTP/1.1\r\n\r\n", BAD_MESSAGE)
    yield Bad("cut off", submission(2, picture())[:-1], BAD_MESSAGE)
    yield Bad("a name that is not UTF-8", submission(2, picture(), "xxxx").replace(b"xxxx", b"\xff" * 4), BAD_MESSAGE)


def submission(request_id: int, data: bytes, name: str = "") -> bytes:
    """One frame as it is sent."""
    return device_pb2.SubmitRequest(request_id=request_id, name=name, data=data).SerializeToString()


def _frames() -> dict[str, bytes]:
    png, jpeg = picture(), picture("JPEG")
    gif = picture("GIF", mode="P")
    flipped = bytearray(png)
    flipped[40] ^= 0xFF
    return {
        "nothing": b"",
        "a byte": b"\x00",
        "text": b"hello, this is text",
        "markup": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "a path": b"/etc/passwd",
        "zeros": bytes(1000),
        "a pickle": b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
        "a tensor where pictures are read": _npy(),
        "a PCX": picture("PCX"),
        "half a GIF": gif[: len(gif) // 2],
        "half a TIFF": picture("TIFF")[:100],
        "half a BMP": picture("BMP")[:100],
        "a PNG's head": png[:8],
        "half a PNG": png[: len(png) // 2],
        "a PNG without end of data": png[:60],
        "a PNG with a flipped byte": bytes(flipped),
        "a PNG of 0 by 0": _png(0, 0),
        "a PNG of 1 by 0": _png(1, 0),
        "a PNG without rows": _png(24, 24, b""),
        "a PNG too large": _png(60_000, 60_000),
        "a PNG beyond all": _png((1 << 31) - 1, (1 << 31) - 1),
        "a PNG of 16 colours of a kind that there is not": _png(24, 24, depth=7),
        "a PNG of a colour type that there is not": _png(24, 24, colour=5),
        "a PNG whose data are none": _png(24, 24, b"no zlib", is_packed=False),
        "a JPEG's head": jpeg[:4],
        "half a JPEG": jpeg[: len(jpeg) // 2],
        "a JPEG without tables": jpeg[:2] + jpeg[-40:],
    }


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((1, 3, 16, 16), np.float32))
    return buffer.getvalue()


def _png(
    width: int, height: int, rows: bytes = bytes(73), *, depth: int = 8, colour: int = 2, is_packed: bool = True
) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = zlib.compress(rows) if is_packed else rows
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def plan(digest: str, plan_id: int) -> twin_pb2.Plan:
    """A plan that goes on everywhere, with every field."""
    return twin_pb2.Plan(
        plan_id=plan_id,
        model_digest=bytes.fromhex(digest),
        rule="made-up",
        edge_id="edge",
        edge_address="127.0.0.1:1",
        exits_run=[True],
        band_edges_s=[0.1],
        table_shape=(*SHAPE, 2),
        table_zstd=zstandard.compress(bytes(2 * math.prod(SHAPE))),
        tensor_representations=[-1] * EPOCHS,
        input_representations=[-1] * EPOCHS,
        lease_s=60.0,
        contingency=twin_pb2.Contingency(exit_thresholds=[0.9], cut=2),
        observation=twin_pb2.OBSERVATION_EACH_EPOCH,
        backlog=edge_pb2.Backlog(backlog_s=0.1, age_s=0.01, mean_s=0.1, time_constant_s=1.0),
        age_edges_s=[1.0],
    )


def plan_by_uplink(digest: str, plan_id: int) -> twin_pb2.Plan:
    """The same, with a part for a busy uplink in place of a deadline."""
    found = plan(digest, plan_id)
    del found.age_edges_s[:], found.table_shape[4:]
    found.table_zstd = zstandard.compress(bytes(math.prod(SHAPE)))
    found.busy_uplink.from_s = 0.1
    found.busy_uplink.band_edges_s.append(0.1)
    found.busy_uplink.table_shape.extend(SHAPE)
    found.busy_uplink.table_zstd = found.table_zstd
    return found


def twin_says(**kind: Any) -> twin_pb2.AttachDeviceResponse:
    """One message of the twin."""
    return twin_pb2.AttachDeviceResponse(lease_s=60.0, **kind)


def welcome() -> twin_pb2.AttachDeviceResponse:
    """A welcome with every number."""
    return twin_says(welcome=twin_pb2.Welcome(heartbeat_s=5.0))


def bad_twin_messages(digest: str) -> Iterator[Bad]:
    """All that a device must not take from its twin; plans have the highest id that there is."""
    newest = (1 << 64) - 1
    whole = twin_says(plan=plan(digest, newest))
    by_uplink = twin_says(plan=plan_by_uplink(digest, newest))
    for name, message in (("plan", whole), ("plan by uplink", by_uplink)):
        for bad in impossible_numbers(name, message, TOLERATED):
            if not any(bad.name.endswith(odd) for odd in BELOW_ZERO | ENDLESS):
                yield bad._replace(word=PLAIN_WORDS.get(bad.word, bad.word))
    listed = twin_pb2.ListedEdge(edge_id="edge", address="127.0.0.1:1", tail_s=[0.1], backlog=whole.plan.backlog)
    yield from impossible_numbers("edges", twin_says(edges=twin_pb2.EdgeList(edges=[listed])), TOLERATED)
    yield from impossible_numbers(
        "backlog", twin_says(backlog=twin_pb2.BacklogUpdate(backlog=listed.backlog)), TOLERATED
    )
    for name, (code, changes) in _plans().items():
        message = plan(digest, newest)
        for field in changes:
            message.ClearField(field)
        message.MergeFrom(twin_pb2.Plan(**changes))
        yield Bad(f"plan: {name}", twin_says(plan=message).SerializeToString(), code)
    for name, changes in _busy_uplinks().items():
        message = plan_by_uplink(digest, newest)
        for field, value in changes.items():
            message.busy_uplink.ClearField(field)
            message.busy_uplink.MergeFrom(twin_pb2.BusyUplink(**{field: value}))
        yield Bad(f"plan: {name}", twin_says(plan=message).SerializeToString(), BAD_MESSAGE)
    both = plan(digest, newest)
    both.busy_uplink.CopyFrom(plan_by_uplink(digest, newest).busy_uplink)
    yield Bad("plan: a busy uplink and a deadline", twin_says(plan=both).SerializeToString(), BAD_MESSAGE)
    for name, edges in _lists().items():
        message = twin_says(edges=twin_pb2.EdgeList(edges=[twin_pb2.ListedEdge(**edge) for edge in edges]))
        yield Bad(f"edges: {name}", message.SerializeToString(), BAD_MESSAGE)
    yield from impossible_numbers("welcome", welcome(), TOLERATED)
    unheard = twin_pb2.Welcome(heartbeat_s=5.0, attachment_epoch=(1 << 64) - 1)
    yield Bad("welcome: an attachment too far", twin_says(welcome=unheard).SerializeToString(), BAD_MESSAGE)
    decision = twin_pb2.PollResponse(task_id=1, decision=99)
    yield Bad("poll: an unknown decision", twin_says(poll=decision).SerializeToString(), BAD_MESSAGE)


def _plans() -> dict[str, tuple[ErrorCode, dict[str, Any]]]:
    cells = 2 * math.prod(SHAPE)
    packed = zstandard.compress
    return {
        "no id": (BAD_MESSAGE, {"plan_id": 0}),
        "no digest": (BAD_MESSAGE, {"model_digest": b""}),
        "a long name of its edge": (BAD_MESSAGE, {"edge_id": "e" * 64}),
        "an edge without port": (BAD_MESSAGE, {"edge_address": "edge"}),
        "an edge with a long host": (BAD_MESSAGE, {"edge_address": "e" * 256 + ":7100"}),
        "for another model": (ErrorCode.WRONG_DIGEST, {"model_digest": bytes(32)}),
        "no observation": (BAD_MESSAGE, {"observation": 0}),
        "an unknown observation": (BAD_MESSAGE, {"observation": 9}),
        "no shape": (BAD_MESSAGE, {"table_shape": []}),
        "an axis of 0": (BAD_MESSAGE, {"table_shape": (0, *SHAPE[1:], 2)}),
        "another number of epochs": (BAD_MESSAGE, {"table_shape": (8, 2, *SHAPE[2:], 2)}),
        "another number of queue levels": (BAD_MESSAGE, {"table_shape": (4, 4, 2, 4, 2)}),
        "an axis too few": (BAD_MESSAGE, {"table_shape": SHAPE}),
        "a table beyond all": (BAD_MESSAGE, {"table_shape": ((1 << 32) - 1,) * 2 + (4, 2, 2)}),
        "no table": (BAD_MESSAGE, {"table_zstd": b""}),
        "a table that is not packed": (BAD_MESSAGE, {"table_zstd": bytes(cells)}),
        "a table cut off": (BAD_MESSAGE, {"table_zstd": packed(bytes(cells))[:-2]}),
        "a table too small": (BAD_MESSAGE, {"table_zstd": packed(bytes(cells - 1))}),
        "a table that grows": (BAD_MESSAGE, {"table_zstd": packed(bytes(64 << 20))}),
        "an unknown decision": (BAD_MESSAGE, {"table_zstd": packed(b"\x63" * cells)}),
        "exits without evidence": (BAD_MESSAGE, {"table_zstd": packed(b"\x01" * cells)}),
        "an offload that has no form": (BAD_MESSAGE, {"table_zstd": packed(b"\x02" * cells)}),
        "an exit too many": (BAD_MESSAGE, {"exits_run": [True, True]}),
        "no exit": (BAD_MESSAGE, {"exits_run": []}),
        "a threshold too few": (BAD_MESSAGE, {"contingency": twin_pb2.Contingency()}),
        "a cut beyond": (BAD_MESSAGE, {"contingency": twin_pb2.Contingency(exit_thresholds=[0.9], cut=9)}),
        "bands that go back": (BAD_MESSAGE, {"band_edges_s": [0.2, 0.1]}),
        "too many bands": (BAD_MESSAGE, {"band_edges_s": [0.1] * 5000}),
        "too many ages": (BAD_MESSAGE, {"age_edges_s": [0.1] * 5000}),
        "a representation too few": (BAD_MESSAGE, {"tensor_representations": [-1]}),
        "a representation that there is not": (BAD_MESSAGE, {"tensor_representations": [99] * EPOCHS}),
        "an input representation below none": (BAD_MESSAGE, {"input_representations": [-2] * EPOCHS}),
        "no lease": (BAD_MESSAGE, {"lease_s": 0.0}),
        "a backlog without time constant": (BAD_MESSAGE, {"backlog": edge_pb2.Backlog(backlog_s=1.0)}),
    }


def _busy_uplinks() -> dict[str, dict[str, Any]]:
    cells = math.prod(SHAPE)
    packed = zstandard.compress
    return {
        "a busy uplink from 0 on": {"from_s": 0.0},
        "no table for a busy uplink": {"table_zstd": b""},
        "a table for a busy uplink that grows": {"table_zstd": packed(bytes(64 << 20))},
        "ages for a busy uplink": {"table_shape": (*SHAPE, 2)},
        "an unknown decision for a busy uplink": {"table_zstd": packed(b"\x63" * cells)},
        "an offload that has no form for a busy uplink": {"table_zstd": packed(b"\x02" * cells)},
        "too many bands for a busy uplink": {"band_edges_s": [0.1] * 5000},
    }


def _lists() -> dict[str, list[dict[str, Any]]]:
    backlog = edge_pb2.Backlog(time_constant_s=1.0)
    one = {"edge_id": "e", "address": "127.0.0.1:1", "backlog": backlog}
    return {
        "no name": [one | {"edge_id": ""}],
        "a long name": [one | {"edge_id": "e" * 64}],
        "no address": [one | {"address": ""}],
        "no port": [one | {"address": "edge"}],
        "one twice": [one, one],
        "too many": [one | {"edge_id": f"e{n}", "address": f"127.0.0.1:{n}"} for n in range(1, 6)],
        "too many times": [one | {"tail_s": [0.1] * 5000}],
        "no backlog": [{"edge_id": "e", "address": "127.0.0.1:1"}],
    }
