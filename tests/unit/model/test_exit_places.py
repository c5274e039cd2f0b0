from collections.abc import Sequence
from typing import Any

import pytest

from twinsplit.errors import ModelError, SettingsError
from twinsplit.model.exit_places import exit_places
from twinsplit.model.manifest import Cut, Manifest, Segment, TensorSpec


def manifest(macs: Sequence[int], **changes: Any) -> Manifest:
    """A model of segments with these MACs; its tensors are t0, t1, ..."""
    return Manifest(
        schema_version=1,
        name="made-up",
        version=1,
        task="classification",
        segments=tuple(Segment(index=i, file=f"{i}.onnx", sha256="0" * 64, macs=m) for i, m in enumerate(macs)),
        cuts=tuple(
            Cut(index=k, tensor=TensorSpec(name=f"t{k}", shape=(1, 4), dtype="float32")) for k in range(len(macs) + 1)
        ),
        **changes,
    )


@pytest.mark.parametrize(
    ("macs", "places"),
    [
        ([25, 25, 25, 25], [1, 2]),
        ([8, 11, 12, 7, 1], [1, 2]),  # the shipped network
        ([5, 5, 5, 5, 5, 25, 50], [5, 6]),
        ([1, 99], [1]),
        ([60, 30, 10], [1]),  # nothing lies near a quarter, and one place holds one exit
        ([90, 10], [1]),  # late, but there is no other
        ([0, 0, 0, 0], [1, 2]),  # MACs are not known: segments count alike
    ],
)
def test_exits_stand_near_a_quarter_and_half_of_the_compute(macs: Sequence[int], places: list[int]) -> None:
    assert exit_places(manifest(macs), (), ()) == places


def test_exits_stand_where_a_device_gets_to() -> None:
    assert exit_places(manifest([10] * 10, device_segments=4), (), ()) == [1, 2]
    with pytest.raises(SettingsError, match=r"--after 5: .* devices reach: 1 \(t1\), 2 \(t2\), 3 \(t3\), 4 \(t4\)$"):
        exit_places(manifest([10] * 10, device_segments=4), ["5"], ())


def test_cuts_are_named_by_number_or_tensor() -> None:
    assert exit_places(manifest([1] * 5), ["t3", "1", 2], ()) == [1, 2, 3]


def test_a_tensor_that_has_a_number_for_a_name_is_found_where_no_cut_has_that_number() -> None:
    model = manifest([1] * 4)
    cuts = list(model.cuts)
    cuts[2] = Cut(index=2, tensor=TensorSpec(name="192", shape=(1, 4), dtype="float32"))
    assert exit_places(model.model_copy(update={"cuts": tuple(cuts)}), ["192"], ()) == [2]


@pytest.mark.parametrize(
    ("after", "taken", "match"),
    [
        (["0"], (), "--after 0"),
        (["4"], (), "--after 4"),
        (["nowhere"], (), "--after nowhere"),
        (["2", "t2"], (), "names cut 2 twice"),
        (["2"], (2,), "stands after cut 2 already; --replace"),
        ((), (1, 2), "stand after cut 1 and 2 already"),
    ],
)
def test_places_that_cannot_be_are_refused(after: Sequence[str], taken: Sequence[int], match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        exit_places(manifest([1] * 4), after, taken)


def test_places_that_are_taken_are_left_out_of_the_choice() -> None:
    assert exit_places(manifest([25] * 4), (), [1]) == [2]


def test_a_model_without_a_cut_is_refused() -> None:
    with pytest.raises(ModelError, match=r"made-up is one segment.*model split --cut"):
        exit_places(manifest([7]), (), ())
