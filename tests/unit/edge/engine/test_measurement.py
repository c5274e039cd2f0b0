from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.engine.back_end import infer_request, output_of
from edge.engine.measurement import asked_of, read_models
from edge.models import ElsewhereRuntime
from tests.unit.edge.tiny_model import write_tiny_model
from twinsplit.clock import SystemClock
from twinsplit.errors import ComputeError, ModelError
from twinsplit.oip.messages import InferenceResponse, NamedTensor


def test_every_tail_is_asked_for_by_name_and_version(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny" / "1")
    models = read_models(tmp_path, SystemClock())
    assert asked_of(list(models.values())) == [("tiny", "1"), ("tiny.from_cut_1", "1"), ("tiny.from_cut_2", "1")]


def test_no_segment_is_needed_to_read_a_model(tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    for file in tmp_path.glob("*.onnx"):
        file.unlink()
    (model,) = read_models(tmp_path, SystemClock()).values()
    assert min(model.decode_s) > 0.0
    with pytest.raises(ComputeError, match="elsewhere"):
        model.runtime.run_segment(0, np.zeros(1))
    assert isinstance(model.runtime, ElsewhereRuntime)


def test_models_that_an_engine_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "a")
    write_tiny_model(tmp_path / "b", seed=1)
    with pytest.raises(ModelError, match="cannot tell apart"):
        read_models(tmp_path, SystemClock())


def test_a_request_holds_the_tensor_under_its_name_in_the_manifest(tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    (model,) = read_models(tmp_path, SystemClock()).values()
    tensor = np.arange(256, dtype=np.float32).reshape(1, 4, 8, 8)
    request = infer_request(model.manifest, 1, tensor[:, :, ::-1], {})
    (entry,) = request.inputs
    assert (request.model_name, request.model_version, request.outputs) == ("tiny.from_cut_1", "1", ("t3",))
    assert (entry.name, entry.datatype, entry.shape) == ("t1", "FP32", (1, 4, 8, 8))
    np.testing.assert_array_equal(np.frombuffer(entry.data, np.float32).reshape(tensor.shape), tensor[:, :, ::-1])


def test_an_answer_that_is_not_the_networks_output_is_none(tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    (model,) = read_models(tmp_path, SystemClock()).values()
    spec = model.manifest.cuts[-1].tensor
    right = NamedTensor("t3", "FP32", (1, 4), np.ones(4, np.float32).tobytes())
    for output, is_right in (
        (right, True),
        (right._replace(name="t2"), False),
        (right._replace(datatype="INT32"), False),
        (right._replace(shape=(4, 1)), False),
    ):
        found = output_of(InferenceResponse("tiny", outputs=(output,)), spec)
        assert (found is not None) == is_right
