from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.books import Books, BooksError, booked_accuracy, entry_of_line, entry_of_record, whole_accuracy_of
from tests.unit.benchmarks.made_up_runs import MANIFEST, WEIGHTS, WHOLE, entry, line
from twinsplit.model.manifest import Manifest
from twinsplit.types import Outcome, Payload, Reason, Stages, TaskRecord


def books(*entries: object) -> Books:
    found = Books(WEIGHTS, WHOLE)
    for each in entries:
        found.enter(each)
    return found


def test_cost_is_lost_accuracy_and_time_and_energy() -> None:
    at_exit = entry(outcome="exit", exit=0, confidence=0.8, latency_s=0.1, energy_joules=0.5)
    assert books(at_exit).close().cost_s == pytest.approx(2.0 * (WHOLE - 0.8) + 0.1 + 0.1 * 0.5)


def test_an_answer_after_the_deadline_is_worth_nothing_and_still_takes_its_time() -> None:
    found = Books(replace(WEIGHTS, deadline_s=0.2), WHOLE)
    for each in (
        entry(1, outcome="exit", exit=0, confidence=0.8, latency_s=0.2, energy_joules=0.5),
        entry(2, outcome="exit", exit=0, confidence=0.8, latency_s=0.21, energy_joules=0.5),
        entry(3, outcome="failed", latency_s=0.1, energy_joules=0.0, confidence=None),
    ):
        found.enter(each)
    in_time, late, _ = found.costs_s()
    assert in_time == pytest.approx(2.0 * (WHOLE - 0.8) + 0.2 + 0.1 * 0.5)
    assert late == pytest.approx(2.0 * WHOLE + 0.21 + 0.1 * 0.5)
    summary = found.close()
    assert summary.share_in_time == pytest.approx(1 / 3)
    assert summary.accuracy_in_time == pytest.approx(0.8 / 3)
    assert summary.booked_accuracy == pytest.approx(1.6 / 3)


def test_without_a_deadline_nothing_is_said_of_time() -> None:
    summary = books(entry()).close()
    assert (summary.share_in_time, summary.accuracy_in_time) == (None, None)


def test_accuracy_is_lost_against_the_whole_network_on_the_same_evidence() -> None:
    certain = MANIFEST.evidence_count - 1
    at_exit = entry(outcome="exit", exit=1, evidence=certain, confidence=MANIFEST.p_exit_right(certain), latency_s=0.1)
    lost = MANIFEST.p_whole_right(certain) - MANIFEST.p_exit_right(certain)
    summary = books(at_exit).close()
    assert summary.cost_s == pytest.approx(2.0 * lost + 0.1 + 0.1 * 0.6)
    assert summary.plain_cost_s == pytest.approx(2.0 * (WHOLE - MANIFEST.p_exit_right(certain)) + 0.1 + 0.1 * 0.6)


def test_hard_frames_are_nobodys_fault() -> None:
    on_device = [
        entry(i + 1, evidence=evidence, confidence=MANIFEST.p_whole_right(evidence))
        for i, evidence in enumerate((1, 1, 4))
    ]
    assert books(*on_device).close().cost_s == pytest.approx(books(entry()).close().cost_s)


def test_a_lost_task_counts_no_accuracy_its_time_its_energy_and_a_penalty() -> None:
    dropped = entry(outcome="dropped", confidence=None, label=None, latency_s=1.5, energy_joules=0.2, stop_epoch=None)
    summary = books(dropped).close()
    assert summary.cost_s == pytest.approx(2.0 * WHOLE + 1.5 + 0.1 * 0.2 + 2.0)
    assert (summary.booked_accuracy, summary.share_answered, summary.latency_p50_s) == (0.0, 0.0, None)


def test_percentiles_of_latency_are_over_answered_tasks_only() -> None:
    tasks = [entry(1, latency_s=0.1), entry(2, latency_s=0.3), entry(3, outcome="failed", latency_s=99.0)]
    summary = books(*tasks).close()
    assert summary.latency_p50_s == pytest.approx(0.2)
    assert summary.share_answered == pytest.approx(2 / 3)
    assert summary.mean_time_s == pytest.approx((0.1 + 0.3 + 99.0) / 3)


def test_outcomes_payloads_and_ends_add_up() -> None:
    tasks = [
        entry(1),
        entry(2, outcome="exit", exit=1),
        entry(3, outcome="edge", payload="tensor", stop_epoch=2),
        entry(4, outcome="edge", payload="input", stop_epoch=0),
        entry(5, payload="tensor"),  # sent, but answered by the device after all
        entry(6, outcome="dropped"),
    ]
    summary = books(*tasks).close(entered=6)
    assert sum(summary.outcomes.values()) == sum(summary.ends.values()) == summary.tasks == 6
    assert summary.payloads == {"tensor": 1, "input": 1}
    assert sum(summary.payloads.values()) == summary.outcomes["edge"]
    assert summary.ends["edge, tensor of cut 2"] == 1
    assert summary.ends["exit 2"] == 1


def test_a_task_with_two_outcomes_is_refused() -> None:
    with pytest.raises(BooksError, match="task 1 ended twice"):
        books(entry(1), entry(1, outcome="exit", exit=0))


def test_a_task_without_an_outcome_is_named() -> None:
    with pytest.raises(BooksError, match=r"3 tasks entered but 2 have an outcome \(first without: \[2\]\)"):
        books(entry(1), entry(3)).close(entered=3)


def test_no_tasks_at_all_are_refused() -> None:
    with pytest.raises(BooksError, match="no task entered"):
        books().close()


def test_what_was_right_counts_over_every_task_that_entered() -> None:
    labels = {"a.jpg": "coat", "b.jpg": "bag"}
    lines = [line(1), line(2, frame="b.jpg"), line(3, outcome="dropped", label=None), line(4, outcome="exit", exit=0)]
    found = books(*(entry_of_line(each, MANIFEST, WEIGHTS, labels) for each in lines)).close()
    assert found.accuracy == pytest.approx(2 / 4)
    assert books(entry()).close().accuracy is None


def test_a_line_that_cannot_be_booked_names_what_is_wrong() -> None:
    with pytest.raises(BooksError, match="outcome"):
        entry_of_line({"task_id": 1}, MANIFEST, WEIGHTS)
    with pytest.raises(BooksError, match="vanished"):
        entry_of_line(line(outcome="vanished"), MANIFEST, WEIGHTS)


def test_unknown_energy_is_reckoned_from_power_and_time() -> None:
    found = entry(energy_joules=None, energy_source=None, stages_s={"compute": 0.2, "upload": 0.1})
    assert found.energy_joules == pytest.approx(3.0 * 0.2 + 1.0 * 0.1)
    assert found.energy_source == "model"


def test_costs_come_in_the_order_of_arrival() -> None:
    found = books(entry(2, latency_s=2.0), entry(1, latency_s=1.0)).costs_s()
    assert found[1] - found[0] == pytest.approx(1.0)


def test_records_and_lines_of_a_task_are_booked_alike(manifest: Manifest) -> None:
    record = TaskRecord(
        task_id=7,
        frame="a.jpg",
        arrived_at_s=1.0,
        started_at_s=1.1,
        ended_at_s=1.4,
        outcome=Outcome.EDGE,
        reason=Reason.OFFLOAD_PAYS,
        stop_epoch=1,
        evidence=2,
        payload=Payload.TENSOR,
        representation_index=0,
        label_index=3,
        confidence=booked_accuracy(manifest, Outcome.EDGE, 2, manifest.cuts[1].representations[0].loss),
        stages=Stages(queue=0.1, compute=0.1, upload=0.1),
    )
    from_record = entry_of_record(record, manifest, WEIGHTS, label=3)
    from_line = entry_of_line(
        line(
            7,
            outcome="edge",
            reason="offload-pays",
            stop_epoch=1,
            evidence=2,
            payload="tensor",
            latency_s=record.latency_s,
            confidence=record.confidence,
            stages_s={"queue": 0.1, "compute": 0.1, "upload": 0.1},
            energy_joules=None,
            energy_source=None,
        ),
        manifest,
        WEIGHTS,
        {"a.jpg": "coat"},
    )
    assert from_record == from_line


def test_accuracy_is_booked_by_evidence(manifest: Manifest) -> None:
    exit_0 = manifest.exits[0]
    assert booked_accuracy(manifest, Outcome.EXIT, 1) == exit_0.p_right[0]
    assert booked_accuracy(manifest, Outcome.DEVICE, 1) == exit_0.p_whole_right[0]
    assert booked_accuracy(manifest, Outcome.EDGE, 0, 0.02) == pytest.approx(whole_accuracy_of(manifest) - 0.02)
    assert booked_accuracy(manifest, Outcome.FAILED, 1) == 0.0
