"""Both ends are set from the same constants."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from grpc._cython import cygrpc

from twinsplit.transport.limits import (
    CONNECT_S,
    ENVELOPE_BYTES,
    KEEPALIVE_TIME_S,
    KEEPALIVE_TIMEOUT_S,
    channel_options,
    server_options,
    tensor_message_bytes,
)


def _manifest(*tensors: tuple[tuple[int, ...], str]) -> SimpleNamespace:
    cuts = [SimpleNamespace(tensor=SimpleNamespace(shape=shape, dtype=dtype)) for shape, dtype in tensors]
    return SimpleNamespace(cuts=cuts)


@pytest.mark.parametrize("options", [channel_options, server_options])
def test_messages_are_limited_in_both_directions(options: object) -> None:
    found = dict(options(12345))
    assert found["grpc.max_send_message_length"] == found["grpc.max_receive_message_length"] == 12345


def test_a_server_allows_pings_more_often_than_channels_send_them() -> None:
    channel, server = dict(channel_options(1)), dict(server_options(1))
    assert server["grpc.http2.min_ping_interval_without_data_ms"] < channel["grpc.keepalive_time_ms"]
    assert channel["grpc.keepalive_time_ms"] == KEEPALIVE_TIME_S * 1000
    assert server["grpc.keepalive_permit_without_calls"] == channel["grpc.keepalive_permit_without_calls"] == 1


@pytest.mark.parametrize("options", [channel_options, server_options])
def test_every_option_is_one_that_grpc_knows(options: object) -> None:
    """An unknown one is passed over in silence."""
    library = Path(cygrpc.__file__).read_bytes()
    assert [name for name, _ in options(1) if name.encode() + b"\0" not in library] == []


@pytest.mark.parametrize("options", [channel_options, server_options])
def test_an_end_that_does_not_answer_a_probe_is_given_up_by_the_same_time_whoever_asked(options: object) -> None:
    found = dict(options(1))
    assert found["grpc.http2.ping_timeout_ms"] == found["grpc.keepalive_timeout_ms"] == KEEPALIVE_TIMEOUT_S * 1000


def test_a_try_to_connect_has_as_long_as_its_caller_has() -> None:
    assert dict(channel_options(1))["grpc.min_reconnect_backoff_ms"] == CONNECT_S * 1000
    assert dict(channel_options(1, 10.0))["grpc.min_reconnect_backoff_ms"] == 10_000


def test_two_servers_never_share_a_port() -> None:
    assert dict(server_options(1))["grpc.so_reuseport"] == 0


def test_the_largest_tensor_fits_even_if_its_codec_makes_it_longer() -> None:
    small, large = _manifest(((1, 10), "float32")), _manifest(((1, 8), "uint8"), ((1, 100, 100), "float64"))
    assert tensor_message_bytes([small, large]) == 80_000 + 10_000 + ENVELOPE_BYTES
    assert tensor_message_bytes([]) == ENVELOPE_BYTES
