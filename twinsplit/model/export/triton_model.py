"""A model of Triton's Python backend that runs the ``model.onnx`` beside it by ONNX Runtime.

Copied into model repositories by ``twinsplit model export --to triton --backend python``; it needs numpy and
onnxruntime in the Python of Triton's stub, and nothing of twinsplit.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray


class TritonPythonModel:
    """What the backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model."""
        import triton_python_backend_utils  # type: ignore[import-not-found] # Triton's stub alone has it

        self._utils = triton_python_backend_utils
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", "1"))
        options.inter_op_num_threads = int(parameters.get("inter_op_thread_count", "1"))
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        place = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self._session = onnxruntime.InferenceSession(place, options, providers=["CPUExecutionProvider"])
        self._input = config["input"][0]["name"]
        self._output = config["output"][0]["name"]
        self._is_batched = config["max_batch_size"] > 0

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests, at once where the model takes several tensors."""
        utils = self._utils
        tensors = [utils.get_input_tensor_by_name(request, self._input).as_numpy() for request in requests]
        if self._is_batched and len(tensors) > 1:
            ends = np.cumsum([len(tensor) for tensor in tensors])[:-1]
            outputs = np.split(self._run(np.concatenate(tensors)), ends)
        else:
            outputs = [self._run(tensor) for tensor in tensors]
        return [utils.InferenceResponse([utils.Tensor(self._output, output)]) for output in outputs]

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        output: NDArray[Any] = self._session.run([self._output], {self._input: tensor})[0]
        return output
