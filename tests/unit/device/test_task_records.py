"""Ended tasks as JSON, checked against the schema that is shipped."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from device.task_records import task_document, task_line, task_record_schema
from tests.unit.device.made_up_device import MadeUpDevice, manifest_of, offload_at, plan_of, settings_of
from twinsplit.model.runtime import Answer
from twinsplit.types import Outcome, Payload, Reason

MANIFEST = manifest_of()
ISSUE_KEYS = set(
    "task_id frame label confidence outcome reason stop_epoch exit payload degraded latency_s stages_s "  # noqa: SIM905 - reads as the documented list does
    "energy_joules energy_source plan_id".split()
)


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = task_record_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def records_of_every_kind():
    device = MadeUpDevice(MANIFEST, settings_of(queue_capacity=1), exit_bin=2)
    device.take(
        device.pipeline.plan_received(device.now_s, plan_of(MANIFEST, offload_at(2), thresholds=(2.0, 2.0)), None)
    )
    for _ in range(3):  # served by the edge, resumed, dropped
        device.arrive()
    device.run()
    device.answer(1)
    device.take(device.pipeline.upload_failed(device.now_s, 2, Reason.EDGE_LOST))
    device.take(device.pipeline.frame_refused(device.now_s, "bad"))
    device.run()
    newer = plan_of(MANIFEST, plan_id=2, lease_s=0.001)
    device.take(device.pipeline.plan_received(device.now_s, newer, None))
    device.clock.advance(1.0)
    device.arrive()  # leaves at an exit, by the contingency
    device.run()
    return device.records


def test_every_kind_of_record_fits_the_schema(validator):
    records = records_of_every_kind()
    assert {r.outcome for r in records} == set(Outcome)
    for record in records:
        validator.validate(json.loads(task_line(record)))


def test_a_line_is_one_line():
    for record in records_of_every_kind():
        assert "\n" not in task_line(record)


def test_the_keys_are_those_that_were_promised():
    document = task_document(records_of_every_kind()[0])
    assert set(document) >= ISSUE_KEYS
    assert set(document) == set(task_record_schema()["required"])


def test_the_schema_knows_every_outcome_reason_and_payload():
    properties = task_record_schema()["properties"]
    assert properties["outcome"]["enum"] == [outcome.value for outcome in Outcome]
    assert properties["reason"]["enum"] == [reason.value for reason in Reason]
    assert properties["payload"]["enum"] == [*(payload.value for payload in Payload), None]


def test_the_documentation_has_every_key_and_reason():
    text = (Path(__file__).parents[3] / "docs" / "task-records.md").read_text(encoding="utf-8")
    words = set(re.findall(r"`([^`\n]+)`", text))
    schema = task_record_schema()
    assert set(schema["properties"]) <= words
    assert set(schema["properties"]["stages_s"]["properties"]) <= words
    assert {reason.value for reason in Reason} <= words


def test_an_output_that_is_no_classifiers_is_passed_on(validator):
    device = MadeUpDevice(manifest_of(3, (), task="raw"))
    device.arrive()
    device.run()
    output = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    document = task_document(device.record, Answer(None, None, None, output))
    validator.validate(document)
    shown = document["output"]
    raw = base64.b64decode(shown["base64"])
    assert np.frombuffer(raw, "<f4").reshape(shown["shape"]).tolist() == output.tolist()


def test_a_classifiers_output_is_not_shown():
    record = records_of_every_kind()[0]
    answer = Answer(1, "boot", 0.9, np.zeros((1, 3), np.float32))
    assert "output" not in task_document(record, answer)


def test_unknown_energy_is_null():
    (record,) = [r for r in records_of_every_kind() if r.outcome is Outcome.EDGE]
    document = task_document(record)
    assert document["energy_joules"] > 0.0
    assert document["energy_source"] == "model"
