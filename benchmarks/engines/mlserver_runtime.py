"""A runtime of MLServer for one ONNX file; it runs in MLServer's environment, where twinsplit is not installed."""

from __future__ import annotations

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxTail(MLModel):  # type: ignore[misc] # MLServer is not installed where this is checked
    """Runs the file named by ``uri``."""

    async def load(self) -> bool:
        """Open it."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        uri = self.settings.parameters.uri
        self._session = onnxruntime.InferenceSession(uri, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Its output."""
        tensor = NumpyCodec.decode_input(payload.inputs[0])
        output = self._session.run([self._output], {self._input: tensor})[0]
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[NumpyCodec.encode_output(name=self._output, payload=output)],
        )
