"""Process metrics: what the system tells, and nothing where it does not."""

import psutil
import pytest

from twinsplit import __version__
from twinsplit.telemetry.catalogue import CATALOGUE
from twinsplit.telemetry.process import ProcessReading


def test_the_process_is_described() -> None:
    found = {name: (labels, value) for name, labels, value in ProcessReading("edge").samples()}
    assert set(found) <= set(CATALOGUE)
    labels, one = found["twinsplit_build_info"]
    assert (labels["service"], labels["version"], one) == ("edge", __version__, 1.0)
    assert found["twinsplit_process_resident_memory_bytes"][1] > 1e6
    assert found["twinsplit_process_threads"][1] >= 1


def test_what_the_system_does_not_tell_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_self: object) -> None:
        raise psutil.AccessDenied

    before = {name for name, _, _ in ProcessReading("edge").samples()}
    monkeypatch.setattr(psutil.Process, "num_fds", denied)
    after = {name for name, _, _ in ProcessReading("edge").samples()}
    assert before - after == {"twinsplit_process_open_files"}
