"""A program of the inference protocol's own world: it knows tritonclient and numpy, and nothing of twinsplit.

It runs in a process of its own, since tritonclient and twinsplit both register the package ``inference``. On standard
input it reads one JSON object, {"address": HOST:PORT, "calls": [...]}, and writes the answers as a JSON array; an error
is an answer, too.
"""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException


def infer(client: Any, call: dict[str, Any]) -> dict[str, Any]:
    given = call["input"]
    array = np.frombuffer(base64.b64decode(given["base64"]), given["dtype"]).reshape(given["shape"])
    if given["datatype"] == "BYTES":
        array = np.array([base64.b64decode(given["base64"])], dtype=object)
    tensor = triton.InferInput(given["name"], list(array.shape), given["datatype"])
    tensor.set_data_from_numpy(array)
    outputs = [triton.InferRequestedOutput(name) for name in call.get("outputs", ())] or None
    answer = client.infer(
        call["model"],
        [tensor],
        model_version=call.get("version", ""),
        outputs=outputs,
        request_id=call.get("id", ""),
        client_timeout=call.get("timeout_s"),
        parameters=call.get("parameters"),
    )
    response = answer.get_response()
    return {
        "model": response.model_name,
        "version": response.model_version,
        "id": response.id,
        "parameters": {
            name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in response.parameters.items()
        },
        "outputs": {output.name: listed(answer.as_numpy(output.name)) for output in response.outputs},
    }


def listed(array: Any) -> list[Any]:
    return [each.decode() if isinstance(each, bytes) else each for each in array.reshape(-1).tolist()]


def answer_to(client: Any, call: dict[str, Any]) -> Any:
    try:
        if call["kind"] == "infer":
            return infer(client, call)
        ask = getattr(client, call["kind"])
        answer = ask(*call.get("arguments", ()), **({"as_json": True} if call["kind"].startswith("get_") else {}))
    except InferenceServerException as error:
        return {"status": error.status(), "text": error.message()}
    return answer


def main() -> None:
    asked = json.load(sys.stdin)
    client = triton.InferenceServerClient(asked["address"])
    json.dump([answer_to(client, call) for call in asked["calls"]], sys.stdout)
    client.close()


if __name__ == "__main__":
    main()
