from __future__ import annotations

import random

from edge.arrival_log import ArrivalLog
from edge.backlog_reporting import ReportPolicy
from edge.execution import TailExecutor
from edge.gpu_energy import GpuEnergy
from edge.metrics import EdgeMetrics
from edge.servicer import EdgeIdentity, EdgeServicer
from edge.tail_queue import TailEnd, TailQueue
from edge.tail_work import TailResult, TailWork
from edge.twin_link import Announcement, TwinLink
from edge.twin_links import TwinLinks
from twinsplit.clock import ManualClock
from twinsplit.energy import MeterReading
from twinsplit.errors import ErrorCode
from twinsplit.reckoning import BacklogState
from twinsplit.replicas.listing import ReplicaSource
from twinsplit.telemetry.catalogue import CATALOGUE
from twinsplit.telemetry.exposition import Sample
from twinsplit.telemetry.histogram import Histogram
from twinsplit.telemetry.signalling import SignallingCount
from twinsplit.transport.calls import CallCount
from twinsplit.transport.certificate_ends import METRIC as CERTIFICATE_ENDS

OF_THE_PROCESS = {"twinsplit_build_info", CERTIFICATE_ENDS} | {
    name for name in CATALOGUE if name.startswith("twinsplit_process_")
}

OF_AN_ENGINE = {name for name in CATALOGUE if name.startswith(("twinsplit_engine_", "twinsplit_computing_process_"))}
"""Seen in tests/integration/edge_engine and test_computing_process.py."""


def make_metrics(*, has_twin: bool = True) -> tuple[EdgeMetrics, EdgeServicer]:
    clock = ManualClock()
    queue: TailQueue[TailWork] = TailQueue(4, {"a": (0.1,)}, 0.0)
    executor = TailExecutor(queue, {}, clock)
    identity = EdgeIdentity("edge", "CPUExecutionProvider")
    servicer = EdgeServicer(executor, {}, identity, clock)
    signalling, calls = SignallingCount(), CallCount()
    signalling.note_sent("hello", 10)
    calls.note_start("Infer")
    calls.note_end("Infer", "OK", 1.0)
    link = None
    if has_twin:
        announcement = Announcement("edge", "127.0.0.1:1", [])

        def link_to(address: str, log: ArrivalLog) -> TwinLink:
            return TwinLink(
                address, None, announcement, executor, ReportPolicy(), clock, signalling, random.Random(1), log
            )

        link = TwinLinks(ReplicaSource("127.0.0.1:2,127.0.0.1:3"), servicer.arrivals, link_to)
    energy = GpuEnergy(GpuMeter(), clock)
    for at_s in (clock.monotonic_s() - 0.1, clock.monotonic_s()):
        energy.sampled(at_s, MeterReading(watts=30.0))
    return EdgeMetrics(executor, servicer, identity, 4, signalling, calls, link, energy), servicer


class GpuMeter:
    source = "nvml"
    interval_s = 0.1

    def read(self) -> None:
        return

    def close(self) -> None:
        return


def named(samples: list[Sample]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample[0], []).append(sample)
    return found


def test_an_edge_shows_every_metric_that_the_catalogue_has_for_edges_and_no_other() -> None:
    metrics, servicer = make_metrics()
    servicer.refusals[ErrorCode.EDGE_FULL] += 1
    expected = {name for name, spec in CATALOGUE.items() if "edge" in spec.services} - OF_THE_PROCESS - OF_AN_ENGINE
    assert set(named(list(metrics.samples()))) == expected


def test_labels_are_those_of_the_catalogue() -> None:
    metrics, servicer = make_metrics()
    servicer.refusals[ErrorCode.BAD_TENSOR] += 1
    for name, labels, _ in metrics.samples():
        assert set(labels) == set(CATALOGUE[name].labels)


def test_an_edge_without_a_twin_has_no_series_about_one() -> None:
    metrics, _ = make_metrics(has_twin=False)
    assert "twinsplit_twin_attached" not in named(list(metrics.samples()))


def test_only_finished_tails_enter_the_histograms() -> None:
    metrics, servicer = make_metrics()
    for end in TailEnd:
        servicer.observe(TailResult(end, None, None, 0.01, 0.02, BacklogState(0.0, 0.0)))
    found = named(list(metrics.samples()))
    for name, total in (("twinsplit_tail_wait_seconds", 0.01), ("twinsplit_tail_service_seconds", 0.02)):
        histogram = found[name][0][2]
        assert isinstance(histogram, Histogram)
        buckets, seconds = histogram.cumulative()
        assert buckets[-1] == ("+Inf", 1)
        assert seconds == total
