"""What a twin service tells about itself: every metric of the catalogue, and every message counted."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from pathlib import Path

import numpy as np

from tests.integration.test_twin_streams import attached_device, attached_edge, backlog_report, running
from tests.unit.learning.made_up_tasks import made_up_task
from tests.unit.twin_service.made_up_twins import DIGEST, MANIFEST
from twin_service.learning.learner import Assignment
from twin_service.learning.lesson import Report
from twin_service.learning.promotion import Gain, Scores
from twin_service.metrics import JUDGED_FIELDS
from twinsplit.rpc.v1 import twin_pb2
from twinsplit.telemetry.catalogue import CATALOGUE
from twinsplit.transport.certificate_ends import METRIC as CERTIFICATE_ENDS
from twinsplit.transport.channel import open_channel
from twinsplit.types import Decision


async def scrape(http_address: str) -> str:
    def read() -> str:
        with urllib.request.urlopen(f"http://{http_address}/metrics", timeout=20.0) as answer:
            return str(answer.read().decode())

    return await asyncio.to_thread(read)


async def test_every_metric_of_the_twin_service_is_there(tmp_path: Path) -> None:
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        edge = await attached_edge(channel)
        device, _ = await attached_device(channel)
        await device.say(progress=twin_pb2.ProgressReport(task_id=1, epoch=99))
        await device.hear("error")
        await asyncio.sleep(0.05)  # only a task that began after the device attached is judged
        task = twin_pb2.EndedTask(
            task_id=1,
            outcome=twin_pb2.OUTCOME_DEVICE,
            reason="not-worth-it",
            started_age_s=0.03,
            epoch_s=[0.01, 0.02, 0.03],
            evidence=1,
            exit_agrees=True,
        )
        await device.say(start=twin_pb2.StartReport(task_id=2))
        await device.say(progress=twin_pb2.ProgressReport(task_id=2, epoch=1))
        state = twin_pb2.DeviceState(goodput_bytes_per_s=9e5, round_trip_s=0.003)
        await device.say(task=twin_pb2.TaskReport(ended=[task], state=state))
        await edge.say(backlog=backlog_report(0.01))
        await device.say(poll=twin_pb2.PollRequest(task_id=2))
        await device.hear("poll")
        edge.call.cancel()
        await device.hear("plan")
        gain = Gain(0.01, 0.002)
        report = Report(300, 0.02, Scores(60, 0.03, 0.04, 0.04, gain, gain), "brings-less-than-open-loop", None)
        twin.exchange.lesson_ended(Assignment(DIGEST, 1, (), None), report)
        replayed = made_up_task(1, np.random.default_rng(0), taken_epoch=1, taken=Decision.EXIT)
        twin.exchange.core.ended_tasks.accounts.task_replayed(replayed, MANIFEST)
        text = await scrape(twin.http_address)
        expected = {name for name, spec in CATALOGUE.items() if "twin" in spec.services}
        found = {line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE ")}
        missing = {name for name in expected if name not in found and name.removesuffix("_total") not in found}
        assert missing == {CERTIFICATE_ENDS}, "of no certificate nothing is told"
        assert 'twinsplit_twins{kind="device",state="attached"} 1.0' in text
        assert 'twinsplit_plan_revisions_total{reason="edge-lost"} 1.0' in text
        assert 'twinsplit_plan_revisions_total{reason="calibration"} 0.0' in text, "so that its first one is seen"
        judged = set(re.findall(r'twinsplit_prediction_error\{field="(\w+)"\}', text))
        assert judged == {*JUDGED_FIELDS, "segment_s"}, "the edge has gone, and its backlog_s with it"
        assert 'twinsplit_weights_results_total{result="refused"} 1.0' in text
        assert 'twinsplit_weights_results_total{result="promoted"} 0.0' in text
        assert "twinsplit_held_out_gain 0.25" in text
        assert 'twinsplit_refused_messages_total{code="BAD_MESSAGE"} 1.0' in text


async def test_every_message_sent_is_counted_by_kind(tmp_path: Path) -> None:
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        await attached_edge(channel)
        device, _ = await attached_device(channel)
        await device.say(poll=twin_pb2.PollRequest(task_id=1))
        await device.hear("poll")
        sent = twin.signalling.by_kind()
        assert {kind: count.messages for kind, count in sent.items()} == {"welcome": 2, "plan": 1, "poll": 1}
        assert all(count.bytes > 0 for count in sent.values())
        messages = twin.exchange.core.archive.document("cam").messages
        assert messages == {"hello": 1, "welcome": 1, "manifest": 1, "plan": 1, "poll": 2}
