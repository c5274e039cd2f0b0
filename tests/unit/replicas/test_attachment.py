"""Numbers of attachments only grow, whatever clocks do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin_service.documents import Document
from twinsplit.errors import BadMessageError
from twinsplit.replicas.attachment import MOST_EPOCH, AttachmentEpoch
from twinsplit.transport.convert import attachment_from_wire

MS = 1_000_000


def test_the_first_number_comes_from_the_clock_and_later_ones_are_higher() -> None:
    epochs = AttachmentEpoch()
    first = epochs.begin(1_700_000_000_000 * MS)
    assert first == 1_700_000_000_000
    assert epochs.begin(1_600_000_000_000 * MS) == first + 1, "a clock that was set back"
    assert epochs.begin(1_800_000_000_000 * MS) == 1_800_000_000_000


def test_what_was_made_for_an_earlier_attachment_is_stale() -> None:
    epochs = AttachmentEpoch()
    epochs.begin(100 * MS)
    epochs.granted(105)
    assert epochs.current == 105
    assert epochs.is_stale(104)
    assert not epochs.is_stale(105)
    assert not epochs.is_stale(106)
    assert not epochs.is_stale(0), "an older twin numbers no attachments"


attachments = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.integers(min_value=0, max_value=2**41),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=20,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(attachments)
def test_of_one_life_every_attachment_has_a_higher_number_than_all_before_at_whichever_replica(steps) -> None:
    """Steps: replica, the device's clock in ms, does the welcome get through, has the replica lost its state."""
    documents = {replica: Document("cam") for replica in "abc"}
    epochs, seen = AttachmentEpoch(), []
    for replica, unix_ms, is_welcomed, is_state_lost in steps:
        if is_state_lost:
            documents[replica] = Document("cam")
        announced = epochs.begin(unix_ms * MS)
        documents[replica].attached(announced - 1)
        granted = documents[replica].epoch
        assert granted >= announced
        assert all(granted > earlier for earlier in seen)
        if is_welcomed:
            epochs.granted(granted)
            seen.append(epochs.current)
            assert not epochs.is_stale(granted)


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(min_value=0, max_value=2**41), min_size=1, max_size=10))
def test_at_one_replica_numbers_grow_over_restarts_of_the_device_too(clocks) -> None:
    document, granted = Document("cam"), [0]
    for unix_ms in clocks:
        document.attached(AttachmentEpoch().begin(unix_ms * MS) - 1)
        granted.append(document.epoch)
    assert granted == sorted(set(granted))


def test_whoever_claims_the_largest_number_does_not_lock_the_device_out() -> None:
    document, epochs = Document("cam"), AttachmentEpoch()
    document.attached(MOST_EPOCH - 1)
    document.attached(epochs.begin(5 * MS) - 1)
    assert attachment_from_wire(document.epoch) == MOST_EPOCH
    epochs.granted(document.epoch)
    assert epochs.begin(6 * MS) == MOST_EPOCH
    assert not epochs.is_stale(document.epoch)
    with pytest.raises(BadMessageError):
        attachment_from_wire(MOST_EPOCH + 1)
