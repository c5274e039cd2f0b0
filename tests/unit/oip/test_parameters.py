"""Parameters of a request: what is said, what is passed over, what is refused."""

from __future__ import annotations

import pytest

from twinsplit.errors import BadMessageError
from twinsplit.oip import parameters
from twinsplit.oip.messages import InferenceRequest, NamedTensor, Value
from twinsplit.oip.parameters import REQUEST_PARAMETERS, SAYS_NOTHING, RequestSays, said_by, said_in


def test_all_that_can_be_said() -> None:
    said = said_in(
        {
            "twinsplit_budget_s": 0.25,
            "twinsplit_device_id": "cam",
            "twinsplit_task_id": 7,
            "twinsplit_plan_id": 12,
            "twinsplit_model_digest": "ab",
            "twinsplit_representation": "uint8",
            "twinsplit_codec": "zstd",
            "twinsplit_scale": 0.5,
            "twinsplit_zero_point": 3,
            "twinsplit_raw_shape": "1,3,32,32",
        }
    )
    assert said == RequestSays(0.25, "cam", 7, 12, "ab", "uint8", "zstd", 0.5, 3, (1, 3, 32, 32))


def test_nothing_said_is_no_limit_and_the_tensor_as_it_is() -> None:
    assert said_in({}) == SAYS_NOTHING == RequestSays()
    assert said_in({"twinsplit_budget_s": 0.0}).budget_s is None


def test_what_a_tensor_says_counts_before_what_the_request_says() -> None:
    tensor = NamedTensor("x", "FP32", (1,), bytes(4), {"twinsplit_budget_s": 1.0})
    given = {"twinsplit_budget_s": 2.0, "twinsplit_plan_id": 3}
    assert said_by(InferenceRequest("m", parameters=given, inputs=(tensor,))) == RequestSays(1.0, plan_id=3)
    with pytest.raises(BadMessageError, match="twinsplit_budget"):
        said_by(InferenceRequest("m", inputs=(tensor._replace(parameters={"twinsplit_budget": 1.0}),)))


def test_parameters_of_others_are_passed_over() -> None:
    assert said_in({"sequence_id": 3, "priority": 1, "binary_data_output": True}) == SAYS_NOTHING


def test_numbers_may_come_as_text_or_as_whole_ones() -> None:
    assert said_in({"twinsplit_budget_s": "0.25"}).budget_s == 0.25
    assert said_in({"twinsplit_budget_s": 2}).budget_s == 2.0
    assert said_in({"twinsplit_plan_id": "12"}).plan_id == 12
    assert said_in({"twinsplit_plan_id": (1 << 63) - 1}).plan_id == (1 << 63) - 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("twinsplit_budget_s", value) for value in (-1.0, float("nan"), float("inf"), "soon", "", True)),
        *(("twinsplit_scale", value) for value in (-0.5, float("inf"))),
        *(("twinsplit_zero_point", value) for value in (-1, 1.5, "a", False)),
        *(("twinsplit_plan_id", value) for value in (-1, 1.5, 1 << 63, float("inf"))),
        *(("twinsplit_device_id", value) for value in (1, True, 0.5)),
        *(("twinsplit_raw_shape", value) for value in ("", "1,,2", "1x2", 3, ",".join(["1"] * 17), "1," * 500)),
        ("twinsplit_representation", 8),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_the_parameters_name(name: str, value: Value) -> None:
    with pytest.raises(BadMessageError, match=name):
        said_in({name: value})


@pytest.mark.parametrize("name", ["twinsplit_budget", "twinsplit_queue_wait_s", "twinsplit_"])
def test_a_name_of_ours_that_no_request_has_is_refused(name: str) -> None:
    with pytest.raises(BadMessageError, match="twinsplit_budget_s"):
        said_in({name: 1.0})


def test_every_name_begins_alike_and_is_there_once() -> None:
    named = {key: value for key, value in vars(parameters).items() if key.isupper() and isinstance(value, str)}
    names = [value for key, value in named.items() if key != "PREFIX"]
    assert all(name.startswith(parameters.PREFIX) for name in names)
    assert len(set(names)) == len(names)
    assert set(names) > REQUEST_PARAMETERS
