"""Recorded tasks of the made-up model: a device that takes 310 ms for the network and 110 ms to its exit."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.unit.twin_service.made_up_twins import DIGEST, EXIT_S, MANIFEST, MANIFEST_BYTES, SEGMENT_S
from twin_service.decision.situation import Situation, Weights
from twin_service.documents import Document
from twin_service.messages import ArrivedTail
from twin_service.store.sqlite import SqliteStore
from twin_service.tuning.tape import Tape, tape_of
from twin_service.workload.device_time_line import DeviceTimeLine
from twin_service.workload.edge_time_line import EdgeTimeLine
from twin_service.workload.replay import Origin, replay
from twin_service.workload.replayed import Replayed
from twinsplit.types import Outcome, Payload, Reason, Stages, TaskRecord

WHOLE_S, EXIT_AT_S = 0.31, 0.11
WAY_S = 0.001 + 0.01 + 0.002 + 0.03
"""Of the input on an idle way: encoding, 1000 bytes, round trip, the whole network at the edge."""
SITUATION = Situation(
    manifest=MANIFEST,
    weights=Weights(),
    segment_s=SEGMENT_S,
    exit_s=EXIT_S,
    encode_s={},
    tail_s=(0.03, 0.02, 0.01),
    goodput_bytes_per_s=1e5,
    overhead_s=0.002,
    task_rate_per_s=1.0,
    busy_share=0.3,
)
WITHOUT_EDGE = replace(SITUATION, tail_s=None)


def recorded_tasks(
    count: int,
    gap_s: float,
    *,
    how: Outcome = Outcome.DEVICE,
    situation: Situation = SITUATION,
    exits_run: tuple[bool, ...] = (True,),
    device_id: str = "cam",
    origin_s: float = 1e9,
) -> list[Replayed]:
    """Tasks that come every ``gap_s`` and all end alike: at the end of the network, at the exit, or by sending the
    input at once. Three of five show the exit's lower bin, the others its upper one."""
    edge, device = EdgeTimeLine(), DeviceTimeLine()
    records = []
    free_s = uplink_free_s = 0.0
    for number in range(1, count + 1):
        arrived_s = number * gap_s
        start_s = max(arrived_s, free_s)
        is_sure = number % 5 in (1, 3)
        reached = [0.0, 0.11, 0.21, 0.31] if exits_run[0] else [0.0, 0.1, 0.2, 0.3]
        stop = {Outcome.DEVICE: 3, Outcome.EXIT: 1, Outcome.EDGE: 0}[how]
        task = TaskRecord(
            task_id=number,
            frame="",
            arrived_at_s=arrived_s,
            started_at_s=start_s,
            ended_at_s=start_s + reached[stop],
            outcome=how,
            reason=Reason.NOT_WORTH_IT,
            stop_epoch=stop,
            evidence=(2 if is_sure else 1) if stop and exits_run[0] else 0,
            exit_confidences=((0.9 if is_sure else 0.2) if stop and exits_run[0] else None,),
            exit_index=0 if how is Outcome.EXIT else None,
            epoch_times_s=tuple(start_s + at_s for at_s in reached[: stop + 1]),
        )
        free_s = task.ended_at_s
        if how is Outcome.EDGE:
            free_s = start_s + 0.001
            sent_s = max(free_s, uplink_free_s) + 0.01
            uplink_free_s = sent_s
            edge.add(ArrivedTail(sent_s + 0.001, 0.03, device_id, number))
            task = replace(
                task,
                ended_at_s=sent_s + 0.032,
                payload=Payload.INPUT,
                representation_index=0,
                wire_bytes=1000,
                stages=Stages(encode=0.001, upload=sent_s - free_s + 0.002, edge_queue=0.0, edge_compute=0.03),
            )
        records.append(task)
        device.ended(task, situation.overhead_s)
    rng = np.random.default_rng(0)
    origin = Origin(device_id, DIGEST, clock_offset_s=origin_s)
    return [replay(task, situation, exits_run, edge, device, rng, origin=origin) for task in records]


def tape(tasks: list[Replayed]) -> Tape:
    return tape_of(tasks, MANIFEST)


def keep_state(folder: Path, tasks: list[Replayed]) -> Path:
    """A state folder that holds ``tasks``."""
    with closing(SqliteStore(folder)) as store:
        store.keep_manifest(DIGEST, MANIFEST_BYTES)
        store.keep_documents([Document(device_id, model_digest=DIGEST) for device_id in {t.device_id for t in tasks}])
        store.keep_replay(tasks)
    return folder
