"""What a result says of itself."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from benchmarks.provenance import ended, provenance, shown_commit


def test_a_run_says_how_long_it_took_since_its_provenance_was_made() -> None:
    about = provenance(seeds=[1])
    assert "took_s" not in about, "it has not ended"
    about["written_at"] = (datetime.now(timezone.utc) - timedelta(seconds=90)).isoformat(timespec="seconds")
    said = ended(about)
    assert about["took_s"] >= 90
    assert said == f"Took {about['took_s']} s."


def test_a_page_names_the_commit_in_short_and_says_where_files_were_changed() -> None:
    number = "c66d427c6b9dde4d83a3d3e90e5428c6acff1349"
    assert shown_commit(number) == number[:12]
    assert shown_commit(f"{number}-dirty") == f"{number[:12]}, changed"
    assert shown_commit("unknown") == "unknown"
