"""What an edge can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from twinsplit.settings import BaseServiceSettings

NAME_PATTERN = r"^[A-Za-z0-9._-]{1,63}$"


class EdgeSettings(BaseServiceSettings):
    """Settings of ``twinsplit edge serve``."""

    service: ClassVar[str] = "edge"

    id: str = Field(
        "edge", pattern=NAME_PATTERN, description="Name of this edge: letters, digits, '.', '_', '-', at most 63."
    )
    listen: str = Field("127.0.0.1:7100", description="HOST:PORT of gRPC for devices; port 0: any free one.")
    http_listen: str = Field(
        "127.0.0.1:7101", description="HOST:PORT of /metrics, /healthz and /readyz; port 0: any free one."
    )
    models: Path = Field(description="A model folder, or a folder of such folders as NAME or NAME/VERSION.")
    twin: str | None = Field(
        None,
        description="HOST:PORT of the twin service, its replicas as HOST:PORT,HOST:PORT, or @FILE with one on each "
        "line (read again while the edge runs); without it no plan offloads to this edge.",
    )
    advertise: str | None = Field(
        None, description="HOST:PORT under which devices reach this edge; not set: the address it listens on."
    )
    also_reached_at: tuple[str, ...] = Field(
        (),
        description="Other HOST:PORT under which devices reach this edge, for those that are told it in their --edge; "
        "may be repeated, at most 8.",
    )
    engine: str = Field(
        "local",
        description="What runs the tails: local (this process), or servers of the Open Inference Protocol, "
        "oip://HOST:PORT[,HOST:PORT...] (oips:// for TLS).",
    )
    engine_in_flight: int = Field(
        4, ge=1, le=256, description="With oip: tails under way at each server at most; further ones wait here."
    )
    engine_metrics: tuple[str, ...] = Field(
        (),
        description="With oip: URLs of the servers' Prometheus pages in the same order, for what others have waiting "
        "there (Triton: http://HOST:8002/metrics); may be repeated.",
    )
    provider: str = Field(
        "cpu", description="Execution provider of ONNX Runtime, such as cpu, cuda, openvino; never replaced by another."
    )
    threads: int = Field(1, ge=1, description="Threads of one inference.")
    computing: Literal["thread", "process"] = Field(
        "thread",
        description="What runs the tails of the engine local: a thread of this process, or a process of its own, which "
        "needs a core beside this one's and some 45 MB more, and keeps its pace however many streams there are.",
    )
    core: int | None = Field(
        None,
        ge=0,
        description="Processor core that this edge has to itself: it keeps to it, and streams give way to tails there "
        "(Linux, one thread); not set: any.",
    )
    profile: Path | None = Field(
        None,
        description="File with measured times (twinsplit model profile): the model, provider and threads that it fits "
        "are not measured at the start.",
    )
    energy: Literal["auto", "nvml", "none"] = Field(
        "auto",
        description="Energy of this edge's GPUs as a metric: nvml, none, or auto: nvml with the providers cuda and "
        "tensorrt where it works.",
    )
    allow_devices: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._*?-]{1,63}$")], ...] = Field(
        ("*",),
        description="With mutual TLS: names of the devices whose tails are finished, such as camera-1 or camera-*; "
        "may be repeated.",
    )
    queue_capacity: int = Field(64, ge=1, description="Tails that may wait; further ones are refused as EDGE_FULL.")
    batch_most: int = Field(
        1,
        ge=1,
        le=64,
        description="Tails of one cut and model that may run at once, where the model's segments take several "
        "(twinsplit model split --batches) and it pays; 1: each by itself.",
    )
    report_threshold_s: float = Field(
        0.1, ge=0, description="Deviation of the backlog from its prediction that is never reported, seconds."
    )
    report_patience_s: float = Field(
        0.02,
        ge=0,
        description="How long a deviation of just the threshold may stand before it is reported, seconds; one twice as "
        "large may stand half as long.",
    )
    drain_s: float = Field(
        10.0, ge=0, description="Time to finish accepted tails after a signal to stop, seconds; 0: refuse them at once."
    )
    otlp_endpoint: str | None = Field(
        None,
        description="URL of an OpenTelemetry collector that takes traces by OTLP over HTTP, such as "
        "http://127.0.0.1:4318; not set: nothing is traced. Needs twinsplit[tracing].",
    )
    emulate_slowdown: float = Field(
        1.0,
        ge=1,
        allow_inf_nan=False,
        description="Emulation: each segment takes this many times its measured time; 1: off.",
    )
