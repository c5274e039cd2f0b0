"""The benchmark of the Open Inference Protocol: figures, judgement, and a run of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import oip, oip_networks
from twinsplit.errors import SettingsError
from twinsplit.model.runtime import SegmentRuntime

SLOW, FAST = [[0.004, 0.006], [0.004, 0.006]], [[0.002, 0.003], [0.002, 0.003]]


def test_we_are_judged_by_the_faster_one_in_median_and_in_p95() -> None:
    ours = {"oip": FAST, "stream": FAST, "bare": FAST}
    row = oip._row(9000, {**ours, "one": SLOW, "two": [[0.0025, 0.0029]] * 2}, ("one", "two"))
    against = row["oip_over_fastest"]
    assert (against["median_of"], against["p95_of"]) == ("two", "two")
    assert against["median"]["ratio"] == pytest.approx(0.0025 / 0.0027)
    assert against["p95_ratio"] > 1.0
    assert not against["is_met"]
    assert row["oip_over_stream"]["ratio"] == 1.0
    assert oip._row(9000, {**ours, "one": SLOW}, ("one",))["oip_over_fastest"]["is_met"]


def test_the_spread_of_a_ratio_is_that_of_turns_beside_each_other() -> None:
    found = oip._ratio([[2.0], [3.0], [4.0], [5.0]], [[1.0]] * 4)
    assert found["ratio"] == pytest.approx(3.5)
    assert found["quartiles"] == pytest.approx([2.25, 4.75])
    assert oip._ratio([[2.0]], [[1.0]])["quartiles"] == [2.0, 2.0]


def test_other_servers_have_names() -> None:
    assert oip.named_addresses(("a=127.0.0.1:8001", "b=host:9")) == {"a": "127.0.0.1:8001", "b": "host:9"}
    for texts in (("127.0.0.1:8001",), ("a=1:1", "a=1:2"), ("stream=1:1",), ("a=nowhere",)):
        with pytest.raises(SettingsError):
            oip.named_addresses(texts)


def test_the_tail_is_what_it_is_compared_with(tmp_path: Path) -> None:
    (folder,) = oip_networks.write_models(tmp_path, (9000,))
    runtime = SegmentRuntime.load(folder)
    tensor = np.random.default_rng(2).standard_normal(oip_networks.shape_of(9000), dtype=np.float32)
    assert tensor.nbytes == 9000
    output = runtime.run_tail(1, tensor)
    assert output is not None
    np.testing.assert_allclose(output, oip_networks.expected(tensor), atol=1e-4)
