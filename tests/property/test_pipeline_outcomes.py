"""Whatever happens in whatever order: every task gets exactly one outcome, and the bounds hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from device.breaker import BreakerSettings
from device.reports import TaskReport
from device.task import AskTwin, Encode, RunExit, RunSegment
from tests.unit.device.made_up_device import (
    EDGE,
    MadeUpDevice,
    exit_answer,
    manifest_of,
    plan_of,
    settings_of,
    whole_answer,
)
from twinsplit.edge_list import ListedEdge
from twinsplit.errors import BadMessageError
from twinsplit.model.manifest import Manifest
from twinsplit.plan import Observation
from twinsplit.reckoning import BacklogState
from twinsplit.types import Decision, DropPolicy, Outcome, Payload, Payloads, Reason

QUEUE_CAPACITY = 2
KEPT_TENSORS = 3
SECOND = "127.0.0.1:7002"
EDGES = (EDGE, SECOND)
MANIFESTS = (manifest_of(), manifest_of(3, (1,), device_segments=2), manifest_of(3, (), device_segments=2))
DURATIONS_S = (0.0, 0.01, 0.3)


class AnyOrder:
    """A device to which anything happens that can happen; every event takes a random number."""

    def __init__(self, manifest: Manifest, policy: DropPolicy, payloads: Payloads, is_polled: bool, deadline_s) -> None:
        self.device = MadeUpDevice(
            manifest,
            settings_of(
                queue_capacity=QUEUE_CAPACITY,
                drop_policy=policy,
                is_polled=is_polled,
                kept_tensors=KEPT_TENSORS,
                deadline_s=deadline_s,
                answer_timeout_s=0.5,
                breaker=BreakerSettings(failures_to_open=2, open_s=0.2, max_open_s=1.0),
            ),
            payloads,
        )
        self.pipeline = self.device.pipeline
        self.plan_id = 0
        self.sent: Counter[int] = Counter()
        self.is_stopped = False
        self.plan_arrives(1)
        for address in EDGES:
            self.device.take(self.pipeline.edge_connected(self.device.now_s, address))
        self.list_arrives(1)

    def frame_arrives(self, number: int) -> None:
        self.device.arrive()

    def bad_frame_arrives(self, number: int) -> None:
        self.device.take(self.pipeline.frame_refused(self.device.now_s, "bad"))

    def step_ends(self, number: int) -> None:
        device, pipeline = self.device, self.pipeline
        step, device.step = device.step, None
        if step is None:
            return
        device.clock.advance(DURATIONS_S[number % 3])
        now_s = device.now_s
        if number % 29 == 0:
            device.take(pipeline.step_failed(now_s))
        elif isinstance(step, RunSegment):
            is_last = step.index + 1 == device.manifest.segment_count
            device.take(pipeline.segment_done(now_s, whole_answer() if is_last else None))
        elif isinstance(step, RunExit):
            device.take(pipeline.exit_done(now_s, step.index, exit_answer(step.index, number // 3 % 3)))
        elif isinstance(step, AskTwin):
            device.take(pipeline.polled(now_s, (None, *Decision)[number % 5]))
        else:
            assert isinstance(step, Encode)
            is_input = step.offload.payload is Payload.INPUT or step.offload.cut == 0
            assert not (is_input and device.payloads is Payloads.TENSORS_ONLY), "the input left the device"
            self.sent[step.task.task_id] += 1
            device.take(pipeline.encoded(now_s, 10 if number % 2 else 5000))

    def answer_comes(self, number: int) -> None:
        if self.device.uploads:
            task_id = sorted(self.device.uploads)[number % len(self.device.uploads)]
            self.device.answer(task_id)
            self.answer_again(number)

    def answer_again(self, number: int) -> None:
        """Any edge answers any task, whether it was ever asked or not; what is not waited for changes nothing."""
        task_id, address = number % (self.pipeline.outcomes.entered + 1), EDGES[number // 7 % 2]
        task = self.pipeline.offloads.task(task_id)
        is_waited_for = task is not None and task.offload.edge_address == address
        ended = len(self.device.records)
        self.device.take(
            self.pipeline.answer_received(
                self.device.now_s, task_id, whole_answer(), edge_queue_s=0.0, edge_compute_s=0.0, edge_address=address
            )
        )
        assert len(self.device.records) == ended + is_waited_for
        if is_waited_for:
            self.device.uploads.pop(task_id, None)

    def upload_fails(self, number: int) -> None:
        if self.device.uploads:
            task_id = sorted(self.device.uploads)[number % len(self.device.uploads)]
            reason = (Reason.EDGE_REFUSED, Reason.EDGE_LOST)[number % 2]
            address = (None, *EDGES)[number // 3 % 3]
            self.device.take(self.pipeline.upload_failed(self.device.now_s, task_id, reason, address))

    def time_passes(self, number: int) -> None:
        self.device.clock.advance((0.001, 0.1, 0.6)[number % 3])
        self.device.take(self.pipeline.tick(self.device.now_s))

    def connection_changes(self, number: int) -> None:
        event = self.pipeline.edge_disconnected if number % 5 == 0 else self.pipeline.edge_connected
        self.device.take(event(self.device.now_s, EDGES[number // 5 % 2]))

    def list_arrives(self, number: int) -> None:
        tails_s = (0.01,) * self.device.manifest.segment_count
        backlogs_s = (0.0, 0.05, 0.3)
        edges = (
            ListedEdge(f"edge-{k}", address, tails_s, BacklogState(backlogs_s[number // 5 % 3], self.device.now_s))
            for k, address in enumerate(EDGES)
        )
        self.device.take(self.pipeline.edges_listed(self.device.now_s, tuple(edges)[: (2, 2, 2, 1, 0)[number % 5]]))

    def plan_arrives(self, number: int) -> None:
        def decide(epoch: int, evidence: int, queue: int, band: int) -> Decision:
            choice = Decision(hash((number, epoch, evidence, queue, band)) % 4)
            is_input_forbidden = self.device.payloads is Payloads.TENSORS_ONLY and number % 5
            if is_input_forbidden and (choice is Decision.OFFLOAD_INPUT or (epoch == 0 and choice.is_offload)):
                return Decision.CONTINUE
            return Decision.CONTINUE if choice is Decision.EXIT and evidence == 0 else choice

        self.plan_id += 1
        plan = plan_of(
            self.device.manifest,
            decide,
            plan_id=self.plan_id,
            edge_id=None if number % 7 == 0 else "edge",
            edge_address=EDGES[number // 11 % 2],
            lease_s=0.05 if number % 11 == 0 else 10.0,
            contingency_cut=(None, 1, 2)[number % 3],
            exits_run=tuple(bool(number >> e.index & 1) for e in self.device.manifest.exits),
            observation=Observation.SERVICE_START if number % 2 else Observation.EACH_EPOCH,
        )
        try:
            self.device.take(self.pipeline.plan_received(self.device.now_s, plan, BacklogState(0.2, self.device.now_s)))
        except BadMessageError:
            assert self.device.payloads is Payloads.TENSORS_ONLY

    def stop(self, number: int) -> None:
        self.is_stopped = True
        self.device.take(self.pipeline.abort(self.device.now_s))
        assert self.pipeline.is_empty
        assert self.pipeline.in_service is None

    def check_books(self) -> None:
        pipeline, records = self.pipeline, self.device.records
        ids = [r.task_id for r in records]
        assert len(ids) == len(set(ids)), "two outcomes for one task"
        assert len(records) == pipeline.outcomes.ended.total()
        is_busy = pipeline.in_service is not None
        assert pipeline.outcomes.entered == len(records) + pipeline.queue_length + len(pipeline.offloads) + is_busy
        assert is_busy == (self.device.step is not None) or self.is_stopped
        assert pipeline.queue_length <= QUEUE_CAPACITY + KEPT_TENSORS
        assert pipeline.kept_tensors <= KEPT_TENSORS
        assert all(count == 1 for count in self.sent.values()), "a payload was made twice"
        uploads = [(u.task.task_id, u.offload.edge_address) for u in self.device.uploads_seen]
        assert len(uploads) == len(set(uploads)), "a task was sent to one edge twice"
        offloads = pipeline.offloads
        assert offloads.sent == len(uploads) == len({task_id for task_id, _ in uploads}) + offloads.sent_on.total()
        for record in records:
            assert record.latency_s >= 0.0
            assert (record.label is not None) == record.outcome.is_answered
            assert record.outcome is not Outcome.FAILED or record.reason is not Reason.OFFLOAD_PAYS

    def finish(self) -> None:
        """No more frames; the edge never answers again."""
        device, pipeline = self.device, self.pipeline
        pipeline.close()
        while not pipeline.is_empty:
            device.run()
            device.clock.advance(1.0)
            device.take(pipeline.tick(device.now_s))
        assert sorted(r.task_id for r in device.records) == list(range(1, pipeline.outcomes.entered + 1))
        reported = [r.task_id for report in device.reports if isinstance(report, TaskReport) for r in report.ended]
        assert sorted(reported) == sorted(r.task_id for r in device.records), "reports tell every outcome once"


EVENTS: list[tuple[Callable[[AnyOrder, int], None], int]] = [
    (AnyOrder.frame_arrives, 8),
    (AnyOrder.step_ends, 16),
    (AnyOrder.answer_comes, 2),
    (AnyOrder.upload_fails, 2),
    (AnyOrder.time_passes, 1),
    (AnyOrder.connection_changes, 2),
    (AnyOrder.plan_arrives, 1),
    (AnyOrder.list_arrives, 1),
    (AnyOrder.answer_again, 1),
    (AnyOrder.bad_frame_arrives, 1),
]
WEIGHTED = [event for event, weight in EVENTS for _ in range(weight)]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(MANIFESTS),
    st.sampled_from(DropPolicy),
    st.sampled_from(Payloads),
    st.booleans(),
    st.sampled_from([None, 0.05, 1.0]),
    st.lists(st.tuples(st.integers(0, len(WEIGHTED) - 1), st.integers(0, 500)), min_size=20, max_size=120),
    st.booleans(),
)
def test_every_task_gets_exactly_one_outcome(manifest, policy, payloads, is_polled, deadline_s, events, is_aborted):
    life = AnyOrder(manifest, policy, payloads, is_polled, deadline_s)
    for event, number in events:
        WEIGHTED[event](life, number)
        life.check_books()
    if is_aborted:
        life.stop(0)
        life.frame_arrives(0)
    life.finish()
    life.check_books()
