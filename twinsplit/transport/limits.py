"""Message limits and keepalive of every channel and server, in one place.

A Python server answers pings that come faster than every 300 s with ``too_many_pings`` unless it is told otherwise,
and gRPC refuses messages above 4 MiB: both ends are set from here (design section 10).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from twinsplit.model.manifest import Manifest
from twinsplit.tensor.header import wire_dtype

KEEPALIVE_TIME_S = 10.0
"""A silent connection is probed after this long."""
KEEPALIVE_TIMEOUT_S = 10.0
"""A probe without an answer for this long ends the connection. An answer may wait behind a payload on a slow uplink."""
HANDSHAKE_TIMEOUT_S = 10.0
"""A connection that has not shown within this long that it speaks HTTP/2 (and TLS) is closed."""
IDLE_CONNECTION_S = 300.0
"""A connection without a call is closed after this long; a channel makes another when it needs one."""
METADATA_BYTES = 16 << 10
"""Largest set of headers of a call; a traceparent and a name need far less."""
CONNECT_S = 2.0
"""A try to connect has so long: for the round trips of TCP, TLS and HTTP/2 on a slow uplink, or to a busy peer."""
RECONNECT_FIRST_S = 0.1
RECONNECT_LAST_S = 2.0
"""Longest pause between two tries: a peer that is back is found within so long, however long it was gone."""

CONTROL_MESSAGE_BYTES = 16 << 20
"""Limit of messages without tensors; a manifest with many exits is the largest."""
THUMBNAIL_BYTES = 4096
"""Largest picture of a frame in a task report."""
ENVELOPE_BYTES = 64 << 10
"""Allowance for everything in a tensor message but its payload."""

ChannelOptions = Sequence[tuple[str, int | str]]


def tensor_message_bytes(manifests: Iterable[Manifest]) -> int:
    """Largest message that carries a tensor of one of ``manifests``, whatever its representation."""
    largest = max(
        (
            math.prod(cut.tensor.shape) * wire_dtype(cut.tensor.dtype).itemsize
            for manifest in manifests
            for cut in manifest.cuts
        ),
        default=0,
    )
    # Incompressible data grow in a codec by less than an eighth.
    return largest + largest // 8 + ENVELOPE_BYTES


def model_message_bytes(manifests: Iterable[Manifest]) -> int:
    """Limit of both ends of a connection that carries tensors of ``manifests``.

    Twice what any of them needs: what is too large for its cut is then refused by name and not by a broken stream.
    """
    return max(2 * tensor_message_bytes(manifests), CONTROL_MESSAGE_BYTES)


def channel_options(max_message_bytes: int, connect_s: float | None = None) -> ChannelOptions:
    """Options of every channel; ``connect_s`` stands for :data:`CONNECT_S`."""
    connect_s = CONNECT_S if connect_s is None else connect_s
    return [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", int(KEEPALIVE_TIME_S * 1000)),
        ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
        # Without this a probe without an answer ends the connection after a minute, whatever the line above says.
        ("grpc.http2.ping_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", int(RECONNECT_FIRST_S * 1000)),
        # By its name a pause between tries; gRPC takes it for the time that one try has.
        ("grpc.min_reconnect_backoff_ms", int(connect_s * 1000)),
        ("grpc.max_reconnect_backoff_ms", int(RECONNECT_LAST_S * 1000)),
        # Devices and edges are neighbours: a proxy of the environment would only be in the way.
        ("grpc.enable_http_proxy", 0),
        # One connection per channel: two channels of a process must not queue behind each other.
        ("grpc.use_local_subchannel_pool", 1),
    ]


def server_options(max_message_bytes: int) -> ChannelOptions:
    """Options of every server."""
    return [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", int(KEEPALIVE_TIME_S * 1000)),
        ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
        # Without this a probe without an answer ends the connection after a minute, whatever the line above says.
        ("grpc.http2.ping_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", int(KEEPALIVE_TIME_S * 500)),
        ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_TIMEOUT_S * 1000)),
        ("grpc.http2.settings_timeout", int(HANDSHAKE_TIMEOUT_S * 1000)),
        ("grpc.max_connection_idle_ms", int(IDLE_CONNECTION_S * 1000)),
        ("grpc.max_metadata_size", METADATA_BYTES // 2),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES),
        # Two servers on one port would share its connections in silence; a port in use must be an error.
        ("grpc.so_reuseport", 0),
    ]
