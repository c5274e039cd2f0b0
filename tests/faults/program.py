"""A local program that submits frames to a device and keeps its own books of what became of each."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc

from twinsplit.rpc.v1 import device_pb2, device_pb2_grpc


@dataclass(slots=True)
class Submission:
    """One frame; what was said about it, each answer once."""

    request_id: int
    answers: list[dict[str, Any]] = field(default_factory=list)
    has_broken: bool = False
    """The stream ended before an answer."""
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def ended_at(self) -> str | None:
        """The outcome; ``None``: there is none, or the stream broke."""
        return self.answers[0]["outcome"] if self.answers else None


class Program:
    """One stream to a device; connects again, for the next frame, when the device has gone."""

    def __init__(self, address: str) -> None:
        self.submissions: list[Submission] = []
        self._address = address
        self._lock = threading.Lock()
        self._open: dict[int, Submission] = {}
        self._requests: queue.Queue[device_pb2.SubmitRequest | None] | None = None
        self._channel: grpc.Channel | None = None
        self._reader: threading.Thread | None = None

    def submit(self, frame: bytes) -> Submission:
        """Send a frame; does not wait."""
        with self._lock:
            submission = Submission(len(self.submissions) + 1)
            self.submissions.append(submission)
            self._open[submission.request_id] = submission
            if self._requests is None:
                self._connect()
            assert self._requests is not None
            self._requests.put(device_pb2.SubmitRequest(request_id=submission.request_id, data=frame))
        return submission

    def close(self) -> None:
        """End the stream."""
        with self._lock:
            channel, reader = self._channel, self._reader
            if self._requests is not None:
                self._requests.put(None)
        if channel is not None:
            channel.close()
        if reader is not None:
            reader.join(5.0)

    def _connect(self) -> None:
        requests: queue.Queue[device_pb2.SubmitRequest | None] = queue.Queue()
        # A new channel each time: an old one may be in its pause between two tries.
        channel = grpc.insecure_channel(self._address, options=[("grpc.use_local_subchannel_pool", 1)])
        self._requests, self._channel = requests, channel
        self._reader = threading.Thread(target=self._read, args=(channel, requests), name="program", daemon=True)
        self._reader.start()

    def _read(self, channel: grpc.Channel, requests: queue.Queue[device_pb2.SubmitRequest | None]) -> None:
        def outgoing() -> Iterator[device_pb2.SubmitRequest]:
            while (request := requests.get()) is not None:
                yield request

        with contextlib.suppress(grpc.RpcError, ValueError):
            for response in device_pb2_grpc.DeviceServiceStub(channel).Submit(outgoing()):
                self._take(response)
        with self._lock:
            if self._requests is requests:
                self._requests = None
            broken, self._open = list(self._open.values()), {}
        requests.put(None)
        channel.close()
        for submission in broken:
            submission.has_broken = True
            submission.over.set()

    def _take(self, response: device_pb2.SubmitResponse) -> None:
        with self._lock:
            submission = self.submissions[response.request_id - 1]
            self._open.pop(response.request_id, None)
        submission.answers.append(json.loads(response.task_json))
        submission.over.set()
