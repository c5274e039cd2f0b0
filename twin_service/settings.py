"""What the twin service can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from twinsplit.settings import BaseServiceSettings


class TwinSettings(BaseServiceSettings):
    """Settings of ``twinsplit twin serve``."""

    service: ClassVar[str] = "twin"

    listen: str = Field(
        "127.0.0.1:7000", description="HOST:PORT of gRPC for devices, edges and readers; port 0: any free one."
    )
    http_listen: str = Field(
        "127.0.0.1:7001", description="HOST:PORT of /metrics, /healthz and /readyz; port 0: any free one."
    )
    console_listen: str | None = Field(
        None,
        description="HOST:PORT of the live console, a web page and its API; not set: no console; port 0: any free one.",
    )
    console_token_file: Path | None = Field(
        None,
        description="File with the token that changes at the console need, one line, made with mode 0600 if it is "
        "missing; not set: console-token in the state folder.",
    )
    console_insecure: bool = Field(
        False,
        description="Let the console listen beyond loopback in plain HTTP: for a container whose port is published on "
        "127.0.0.1 only.",
    )
    console_anonymous_reads: bool = Field(
        False, description="Let the console be read without the token beyond loopback; changes always need it."
    )
    console_hosts: tuple[str, ...] = Field(
        (),
        description="Further names, without port, under which the console may be asked for in plain HTTP (the Host "
        "header), beside this machine's own; may be repeated.",
    )
    front_ends: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+=\S+$")], ...] = Field(
        (),
        description="What stands beside this service, as NAME=URL: named in the log once it serves; may be repeated.",
    )
    state: Path = Field(
        Path("twin-state"),
        description="Folder of the embedded database and of the console's token; it is made if it is missing.",
    )
    store: str = Field(
        "sqlite",
        description="Where the state is kept: sqlite, in the state folder; or in a database that several replicas "
        "share, postgresql://USER:PASSWORD@HOST:PORT/DATABASE.",
    )
    rule: str = Field(
        "multi-step",
        description="Rule that decides: multi-step, open-loop, one-time, load-only, device-only, edge-only, static:K, "
        "one-time-threshold:T, ...; or one's own as FILE.py:CLASS.",
    )
    alpha_s: float = Field(2.5, ge=0, allow_inf_nan=False, description="What a right answer is worth, seconds.")
    beta_s_per_joule: float = Field(
        0.05, ge=0, allow_inf_nan=False, description="What a joule of a device costs, seconds."
    )
    compute_watts: float = Field(
        3.0, ge=0, allow_inf_nan=False, description="Power of a computing device that does not say its own."
    )
    transmit_watts: float = Field(
        1.2, ge=0, allow_inf_nan=False, description="Power that sending adds on a device that does not say its own."
    )
    penalty_s: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Added cost of a task dropped or failed, seconds; not set: alpha-s.",
    )
    deadline_s: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Age from which an answer counts as wrong in decisions, seconds; not set: every answer counts.",
    )
    price_waiting_up: bool = Field(
        True, description="Count the waiting a task causes also for those who come later in the same busy period."
    )
    reduction: bool = Field(
        False,
        description="Let the necessary conditions R1 and R2 rule decisions out; it changes none that is taken, "
        "and costs more time than it saves.",
    )
    plan_threshold_s: float = Field(
        0.001,
        ge=0,
        allow_inf_nan=False,
        description="Expected utility per task that keeping an old plan must cost before a new one is sent, seconds.",
    )
    edge_threshold_s: float = Field(
        0.005,
        ge=0,
        allow_inf_nan=False,
        description="Expected utility per task that an edge must cost before a plan names a better one, seconds.",
    )
    noticeable_share: float = Field(
        0.2,
        gt=0,
        allow_inf_nan=False,
        description="Relative move of a measured number from which a plan is weighed again.",
    )
    update_threshold_s: float = Field(
        0.001,
        ge=0,
        allow_inf_nan=False,
        description="Expected utility that a device's next decisions must lose by its older backlog before a newer one "
        "is sent, seconds.",
    )
    lease_s: float = Field(
        10.0, gt=0, allow_inf_nan=False, description="How long a plan holds after the newest message to its device."
    )
    heartbeat_s: float = Field(
        5.0,
        gt=0,
        allow_inf_nan=False,
        description="Silence after which devices and edges give a sign of life, seconds.",
    )
    replay_share: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="Share of one core that replaying ended tasks may take; beyond it tasks are sampled. 0: no replay.",
    )
    learning_share: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="Share of one core that learning may take (rules multi-step and learned). 0: nothing is learnt.",
    )
    learning_tasks: int = Field(
        5000, ge=100, le=20_000, description="Newest replayed tasks of a model that are learnt from."
    )
    record: bool = Field(
        True, description="Keep ended tasks and arrivals at edges as traces, for `twinsplit twin export`."
    )
    state_days: float = Field(
        30.0, gt=0, allow_inf_nan=False, description="Age at which replayed tasks and traces are forgotten, days."
    )
    state_mb: float = Field(
        500.0,
        ge=1,
        allow_inf_nan=False,
        description="Size of the state from which the oldest of them are forgotten earlier, megabytes.",
    )
    save_s: float = Field(5.0, gt=0, allow_inf_nan=False, description="Time between two savings of changed documents.")
    max_devices: int = Field(20_000, ge=1, description="Twins kept; beyond it the first detached one is forgotten.")
