"""Evidence tells of a sample; it makes the network neither better nor worse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from situations import manifest_of, situation_of

from twin_service.decision.statistics import statistics_of, statistics_without_evidence
from twin_service.decision.stopping import present_payoffs
from twin_service.decision.utility import batch_of
from twinsplit.model.manifest import Manifest
from twinsplit.types import NO_EVIDENCE


def with_useless_exits(manifest: Manifest) -> Manifest:
    exits = tuple(each.model_copy(update={"p_right": (0.0,) * manifest.bin_count}) for each in manifest.exits)
    return manifest.model_copy(update={"exits": exits})


@pytest.mark.parametrize("seed", range(3))
def test_exits_that_cost_nothing_and_answer_nothing_change_no_value_of_going_on(seed: int) -> None:
    """Whatever P(whole right) was counted in each bin: with two exits the counts never fit one another exactly."""
    manifest = with_useless_exits(manifest_of(seed=seed))
    quick = (1e-4,) * manifest.segment_count  # so that nobody leaves before the end
    s = replace(situation_of(manifest, seed, has_edge=False), segment_s=quick, exit_s=(0.0, 0.0))
    statistics = statistics_of(manifest)
    assert max(np.abs(losses).max() for losses in statistics.whole_losses) > 0.01, "or there is nothing to see"
    queue, backlog_s = np.array([0.0, 2.0]), np.zeros((1, 1))
    found = {
        run: present_payoffs(batch_of([s], statistics, run), queue, backlog_s).going_on[0, 0, :, 0, NO_EVIDENCE]
        for run in ((False, False), (True, False), (False, True), (True, True))
    }
    for values in found.values():
        assert values == pytest.approx(found[False, False])


def test_seen_through_mean_accuracies_there_is_nothing_to_take_out() -> None:
    for losses in statistics_without_evidence(manifest_of()).whole_losses:
        assert losses == pytest.approx(0.0)
