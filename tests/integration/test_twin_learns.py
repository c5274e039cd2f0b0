"""A twin service over gRPC learns from what was replayed, serves it, keeps it, and goes on when it cannot learn."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.integration.device_bench import until
from tests.integration.test_twin_streams import attached_device, attached_edge, running
from tests.unit.learning.made_up_tasks import made_up_tasks
from tests.unit.twin_service.made_up_twins import DIGEST, MANIFEST
from twin_service.cli import twin as twin_command
from twin_service.learning import thread
from twin_service.learning.learner import LearnerSettings, Result
from twin_service.learning.options import GateOptions, LearningOptions, TrainingOptions
from twin_service.service import TwinService
from twin_service.store.sqlite import SqliteStore
from twinsplit.errors import TrainingError
from twinsplit.rpc.v1 import twin_pb2
from twinsplit.transport.channel import open_channel
from twinsplit.transport.convert import plan_from_wire
from twinsplit.types import Decision

QUICK = LearningOptions(TrainingOptions(steps=150, learning_rate=1e-2, slow_copy_steps=30), GateOptions(least_tasks=20))


LESSON_S = 60.0
"""A lesson takes two seconds; on a busy machine longer."""


def teach(twin: TwinService, options: LearningOptions = QUICK) -> None:
    """The learner is told of tasks in which offloading brought 0.8 s less than open-loop believes."""
    learner = twin.exchange.core.learner
    assert learner is not None
    learner.settings = LearnerSettings(options, least_tasks=200)
    for task in made_up_tasks(200, model_digest=DIGEST, epochs=4, offload_bias_s=-0.8):
        learner.task_replayed(task, MANIFEST)


@pytest.mark.slow
async def test_what_is_learnt_reaches_the_devices_is_kept_and_is_shown(tmp_path: Path) -> None:
    async with running(tmp_path, learning_share=0.9) as twin, open_channel(twin.address) as channel:
        await attached_edge(channel)
        device, plan = await attached_device(channel)
        before = plan_from_wire(plan)
        assert before.decision(0, 0, 0, 0.0).is_offload
        learner = twin.exchange.core.learner
        teach(twin)
        await until(lambda: bool(learner.results), LESSON_S)
        assert learner.results == {Result.PROMOTED: 1}
        after = plan_from_wire(await device.hear("plan"))
        assert after.plan_id > before.plan_id
        assert after.decision(0, 0, 0, 0.0) is Decision.CONTINUE
        assert twin.exchange.core.archive.document("cam").plan_revisions["weights"] == 1
        assert 0.0 < twin._learning.core_share() < 1.0
        arguments = ["weights", "--twin", twin.address, "--json"]
        result = await asyncio.to_thread(CliRunner().invoke, twin_command, arguments)
        (version,) = json.loads(result.output)
        assert (version["model_digest"], version["version"], version["state"]) == (DIGEST, 1, "serving")
        assert version["held_out_gain"] > 0.5
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        await attached_edge(channel)
        _, plan = await attached_device(channel)
        assert plan_from_wire(plan).decision(0, 0, 0, 0.0) is Decision.CONTINUE


async def test_without_torch_it_serves_and_says_once_that_it_does_not_learn(tmp_path, monkeypatch, caplog) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))
    with caplog.at_level(logging.WARNING):
        async with running(tmp_path) as twin, open_channel(twin.address) as channel:
            teach(twin)
            device, plan = await attached_device(channel)
            assert plan_from_wire(plan).rule == "multi-step"
            await device.say(poll=twin_pb2.PollRequest(task_id=1))
            await device.hear("poll")
            assert twin.exchange.core.learner.lessons == 0
    said = [record for record in caplog.records if record.getMessage() == "does-not-learn"]
    assert len(said) == 1
    assert "twinsplit[learn]" in said[0].fields["cause"]


@pytest.mark.parametrize("changes", [{"learning_share": 0.0}, {"replay_share": 0.0}, {"rule": "open-loop"}])
async def test_where_learning_is_switched_off_no_thread_is_there_for_it(tmp_path, changes) -> None:
    async with running(tmp_path, **changes) as twin:
        assert twin._learning is None


async def test_plans_go_on_while_a_lesson_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def held(*_: object, **__: object) -> None:
        begun.set()
        may_end.wait(LESSON_S)
        raise TrainingError("it was held long enough")

    monkeypatch.setattr(thread, "learn", held)
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        await attached_edge(channel)
        device, _ = await attached_device(channel)
        teach(twin)
        await until(begun.is_set)
        _, plan = await attached_device(channel, device_id="cam-2")
        assert plan_from_wire(plan).edge_id == "edge"
        await device.say(poll=twin_pb2.PollRequest(task_id=1))
        await device.hear("poll")
        assert twin.exchange.core.learner.results == {}, "the lesson is still under way"
        may_end.set()
        await until(lambda: bool(twin.exchange.core.learner.results))
        assert twin.exchange.core.learner.results == {Result.FAILED: 1}


@pytest.mark.slow
async def test_a_service_that_stops_gives_up_its_lesson(tmp_path: Path) -> None:
    async with running(tmp_path, learning_share=0.5) as twin, open_channel(twin.address) as channel:
        await attached_device(channel)
        teach(twin, LearningOptions(TrainingOptions(steps=10**7), QUICK.gate))
        await until(lambda: twin._learning.core_share() > 0.0)
        stopped_s = time.monotonic()
    assert time.monotonic() - stopped_s < LESSON_S / 2.0, "all of its steps take hours"
    with closing(SqliteStore(tmp_path)) as store:
        assert store.weights() == []


@pytest.mark.slow
async def test_tasks_that_hold_no_numbers_are_named_and_the_service_goes_on(tmp_path, caplog) -> None:
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        device, _ = await attached_device(channel)
        learner = twin.exchange.core.learner
        learner.settings = LearnerSettings(QUICK, least_tasks=30, new_tasks=30)
        for task in made_up_tasks(30, model_digest=DIGEST, epochs=4):
            task.step_cost_s[0] = float("nan")
            learner.task_replayed(task, MANIFEST)
        await until(lambda: bool(learner.results), LESSON_S)
        assert learner.results == {Result.FAILED: 1}
        assert learner.net(DIGEST) is None
        await device.say(poll=twin_pb2.PollRequest(task_id=1))
        await device.hear("poll")
    (said,) = [record for record in caplog.records if record.getMessage() == "weights-failed"]
    assert MANIFEST.name in said.fields["cause"]
