"""Tasks as a device would report them: where they ended, with what evidence, after how long, drawn from a seed."""

from __future__ import annotations

import random
from itertools import accumulate

from twinsplit.model.manifest import Manifest
from twinsplit.types import Outcome, Payload, Reason, Stages, TaskRecord, evidence_state

SEGMENT_S = 0.02
EXIT_S = 0.002
GOODPUT_BYTES_PER_S = 200_000.0
ROUND_TRIP_S = 0.01
SLOWED = 50.0
"""A device's goodput falls to this part of itself, so that its plan cannot stay as it is."""
_QUEUE_S = 0.01
_OUTCOMES = (Outcome.DEVICE, Outcome.EXIT, Outcome.EDGE)


def longest_service_s(manifest: Manifest) -> float:
    """Service time of a task that goes through the whole network, seconds."""
    return SEGMENT_S * manifest.segment_count + EXIT_S * len(manifest.exits)


def made_record(
    manifest: Manifest, task_id: int, started_at_s: float, draw: random.Random, plan_id: int, pace: float = 1.0
) -> TaskRecord:
    """One task that started then and has ended; a third each ends on the device, at an exit and at the edge.

    ``pace``: factor upon all its times.
    """
    outcome = draw.choice(_OUTCOMES if manifest.exits else (Outcome.DEVICE, Outcome.EDGE))
    number = draw.randrange(len(manifest.exits)) if outcome is Outcome.EXIT else None
    if number is not None:
        stop_epoch = manifest.exits[number].after_segment
    else:
        stop_epoch = manifest.segment_count if outcome is Outcome.DEVICE else draw.randrange(1, manifest.segment_count)
    passed = [each for each in manifest.exits if each.after_segment <= stop_epoch]
    confidences = tuple(draw.random() if each in passed else None for each in manifest.exits)
    evidence = 0
    if passed:
        last = manifest.exits.index(passed[-1])
        bins = len(passed[-1].p_right)
        evidence = evidence_state(last, draw.randrange(bins), bins)
    segments_s = [pace * SEGMENT_S * draw.uniform(0.9, 1.1) for _ in range(stop_epoch)]
    compute_s = sum(segments_s) + pace * EXIT_S * len(passed)
    is_edge = outcome is Outcome.EDGE
    sent_s = pace * 0.02 if is_edge else 0.0
    return TaskRecord(
        task_id=task_id,
        frame="",
        arrived_at_s=started_at_s - pace * _QUEUE_S,
        started_at_s=started_at_s,
        ended_at_s=started_at_s + compute_s + sent_s,
        outcome=outcome,
        reason={
            Outcome.DEVICE: Reason.NOT_WORTH_IT,
            Outcome.EXIT: Reason.EXIT_CONFIDENT,
            Outcome.EDGE: Reason.OFFLOAD_PAYS,
        }[outcome],
        stop_epoch=stop_epoch,
        evidence=evidence,
        exit_index=number,
        payload=Payload.TENSOR if is_edge else None,
        representation_index=0 if is_edge else None,
        exit_confidences=confidences,
        wire_bytes=2_000 if is_edge else 0,
        confidence=0.9,
        stages=Stages(
            queue=pace * _QUEUE_S,
            compute=compute_s,
            encode=pace * 0.001 if is_edge else None,
            upload=pace * 0.01 if is_edge else None,
            edge_queue=pace * 0.003 if is_edge else None,
            edge_compute=pace * 0.006 if is_edge else None,
        ),
        epoch_times_s=tuple(accumulate(segments_s, initial=started_at_s)),
        energy_joules=3.0 * compute_s,
        energy_source="model",
        plan_id=plan_id,
    )
