"""What a device can be told."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from twinsplit.settings import BaseServiceSettings
from twinsplit.types import Payloads

NAME_PATTERN = r"^[A-Za-z0-9._-]{1,63}$"


class DeviceSettings(BaseServiceSettings):
    """Settings of ``twinsplit device run``."""

    service: ClassVar[str] = "device"

    id: str = Field(
        "device", pattern=NAME_PATTERN, description="Name of this device: letters, digits, '.', '_', '-', at most 63."
    )
    model: Path = Field(description="Model folder (manifest.json and what it names).")
    twin: str | None = Field(
        None,
        description="HOST:PORT of the twin service, its replicas as HOST:PORT,HOST:PORT, or @FILE with one on each "
        "line (read again while the device runs); without it the manifest's own contingency decides.",
    )
    edge: str | None = Field(None, description="HOST:PORT of the edge to use; not set: the one that the plan names.")
    source: str = Field(
        "submit",
        description="Where frames come from: submit (gRPC from local programs, always possible beside others), "
        "frames:DIR (pictures, or .npy tensors), camera:NUMBER, video:FILE_OR_URL (also rtsp://...), or - (standard "
        "input: MJPEG, or raw frames with --raw-format).",
    )
    arrivals: str = Field(
        "periodic:1",
        description="When frames of frames:DIR arrive: poisson:RATE or periodic:RATE per second, or trace:FILE with "
        "an offset in seconds on each line. Cameras and standard input have their own pace.",
    )
    order: Literal["sorted", "shuffled"] = Field(
        "sorted", description="Order of frames:DIR: by name, or shuffled by the seed."
    )
    repeat: bool = Field(True, description="Start frames:DIR and video files over when they end.")
    seed: int = Field(0, description="The same seed gives the same arrivals and order of frames.")
    raw_format: str | None = Field(
        None,
        description="Raw frames on standard input: rgb24:WxH, bgr24:WxH or gray:WxH; not set: MJPEG.",
    )
    stall_s: float = Field(
        5.0, gt=0, description="A camera, video or standard input without a frame for so long is reported, seconds."
    )
    sink: str | None = Field(None, description="File for JSON lines, one per ended task; - for standard output.")
    duration_s: float | None = Field(None, gt=0, description="Take frames for so long, then finish them and stop.")
    count: int | None = Field(None, gt=0, description="Take so many frames, then finish them and stop.")
    payloads: Payloads = Field(
        Payloads.ANY, description="What may leave the device; with tensors-only no frame ever does, whatever fails."
    )
    thumbnails: bool = Field(
        False,
        description="Send the twin a small picture of a frame for its console: at most one a second, at most 4 kB; not "
        "with payloads tensors-only.",
    )
    provider: str = Field(
        "cpu", description="Execution provider of ONNX Runtime, such as cpu, cuda, openvino; never replaced by another."
    )
    threads: int = Field(1, ge=1, description="Threads of one inference.")
    profile: Path | None = Field(
        None,
        description="File with measured times: read if it fits model, provider and threads, else measured and written.",
    )
    listen: str = Field("127.0.0.1:7200", description="HOST:PORT of gRPC for local programs; port 0: any free one.")
    http_listen: str = Field(
        "127.0.0.1:7201", description="HOST:PORT of /metrics, /healthz and /readyz; port 0: any free one."
    )
    queue_capacity: int = Field(64, ge=1, description="Tasks that may wait on the device.")
    drop_policy: Literal["auto", "newest-wins", "oldest-stays"] = Field(
        "auto",
        description="A full queue: the newest frame takes the place of the one that waited longest, or it is dropped "
        "itself; auto: newest-wins with room for 1 for cameras, video and standard input, else oldest-stays.",
    )
    kept_tensors: int = Field(
        8, ge=1, description="Tensors kept at most until their answer is in; while that many are, nothing is offloaded."
    )
    answer_timeout_s: float = Field(
        2.0, gt=0, description="An offload without an answer for so long resumes on the device, seconds."
    )
    deadline_s: float | None = Field(
        None,
        gt=0,
        description="Age from which an answer is of no use, seconds; an offload then resumes in time for the device.",
    )
    report_threshold_s: float = Field(
        0.01, ge=0, description="The task in service may be so far from where the twin believes it, seconds."
    )
    polled: bool = Field(False, description="Ask the twin at every epoch: the baseline of signalling.")
    poll_timeout_s: float = Field(
        0.1, gt=0, description="Polled mode: longest wait for the twin, seconds; then the standing plan decides."
    )
    energy: str = Field(
        "auto",
        description="Where the energy of tasks comes from: auto (the best meter found, else model), model (powers "
        "times measured times), none (unknown), or a meter by name: jetson, ina, pi5-pmic, rapl, nvml or a plug-in's, "
        "with :RAIL to choose a rail.",
    )
    energy_interval_s: float | None = Field(
        None, gt=0, description="Time between two looks at the meter, seconds; not set: as suits the meter."
    )
    compute_watts: float = Field(
        3.0,
        ge=0,
        allow_inf_nan=False,
        description="Power added while computing, for the model; where it is not given, a calibrated profile's counts.",
    )
    transmit_watts: float = Field(
        1.2, ge=0, allow_inf_nan=False, description="Power added while sending, for the model; likewise."
    )
    health_interval_s: float = Field(
        1.0, gt=0, description="Time between two looks at processor, memory, temperature and throttling, seconds."
    )
    sysfs: Path = Field(
        Path("/sys"), description="Where the kernel shows its sensors; in a container where the host's is mounted."
    )
    drain_s: float = Field(
        10.0, ge=0, description="Time to finish accepted tasks after a signal to stop; 0: give them up at once."
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
        description="Emulation: segments, exits and encoders take so many times their measured time; 1: off.",
    )
    emulate_uplink_bytes_per_s: float | None = Field(
        None, gt=0, description="Emulation: rate of the uplink for payloads; not set: the real one."
    )
    emulate_uplink_delay_s: float = Field(
        0.0, ge=0, description="Emulation: one-way delay added to payloads and answers, seconds."
    )
    emulate_uplink_jitter_s: float = Field(
        0.0, ge=0, description="Emulation: mean of a random delay of payloads on top (exponential), seconds."
    )
    emulate_uplink_outages: tuple[str, ...] = Field(
        (),
        description="Emulation: losses of the connection as START+LENGTH, seconds after the start; may be repeated.",
    )
    emulate_uplink_rates: tuple[str, ...] = Field(
        (),
        description="Emulation: another rate of the uplink from an instant on, as START+BYTES_PER_S, seconds after the "
        "start; may be repeated.",
    )
