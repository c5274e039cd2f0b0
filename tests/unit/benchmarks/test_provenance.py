"""What a result says of itself."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from benchmarks.provenance import ended, provenance


def test_a_run_says_how_long_it_took_since_its_provenance_was_made() -> None:
    about = provenance(seeds=[1])
    assert "took_s" not in about, "it has not ended"
    about["written_at"] = (datetime.now(timezone.utc) - timedelta(seconds=90)).isoformat(timespec="seconds")
    said = ended(about)
    assert about["took_s"] >= 90
    assert said == f"Took {about['took_s']} s."
