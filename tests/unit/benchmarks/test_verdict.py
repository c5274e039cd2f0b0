from __future__ import annotations

from benchmarks.figures import plain_table
from benchmarks.verdict import difference, sentence
from tests.unit.benchmarks.made_up_runs import result

SLOW = [0.5, 0.6, 0.7, 0.5]
FAST = [0.2, 0.3, 0.4, 0.2]


def test_the_winner_is_named_with_its_distance_to_the_others() -> None:
    text = sentence([result("device-only", SLOW), result("one-time", FAST[::-1]), result("multi-step", [0.1] * 4)])
    assert text.startswith("multi-step cost least, 0.160 s per task")
    assert "% less than one-time" in text
    assert text.index("one-time") < text.index("device-only")


def test_a_defeat_is_said_too() -> None:
    text = sentence([result("one-time", FAST), result("multi-step", SLOW)])
    assert "did NOT cost least" in text
    assert "one-time" in text


def test_a_distance_within_chance_is_called_so() -> None:
    text = sentence([result("one-time", [0.1, 0.5, 0.1, 0.52]), result("multi-step", [0.5, 0.1, 0.5, 0.1])])
    assert "within chance" in text


def test_messages_stand_beside_those_of_polling() -> None:
    runs = [
        result("one-time", SLOW),
        result("multi-step", FAST, messages=6),
        result("multi-step", FAST, messages=30, is_polled=True),
    ]
    assert "1.50 messages per task, asking the twin at every epoch 7.50" in sentence(runs)


def test_one_rule_alone_is_no_comparison() -> None:
    assert sentence([result("one-time", FAST)]).startswith("one-time cost")


def test_differences_are_paired_by_task() -> None:
    mean_s, error_s = difference(result("a", [1.0, 5.0, 9.0]), result("b", [0.9, 4.9, 8.9]))
    assert abs(mean_s - 0.1) < 1e-9
    assert error_s < 1e-9


def test_the_table_has_a_column_per_run_and_lines_up() -> None:
    lines = plain_table([result("one-time", FAST), result("multi-step", SLOW)])
    assert lines[0].split() == ["one-time", "multi-step"]
    assert len({len(line) for line in lines if "ms" in line or "tasks" in line}) == 1
