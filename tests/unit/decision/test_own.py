from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from situations import manifest_of, situation_of

from twin_service.decision import loading
from twin_service.decision.optimising import OPEN_LOOP
from twin_service.decision.own import Cell, OwnRule
from twin_service.decision.rules import rule_named, rule_names
from twin_service.decision.values import quantised, values_of
from twinsplit.errors import RuleError, SettingsError
from twinsplit.plan import Contingency, Plan, check_plan
from twinsplit.types import Decision

MANIFEST = manifest_of()
SITUATION = situation_of(MANIFEST, 0)


class Greedy(OwnRule):
    """What the open loop's payoffs say, cell by cell."""

    def decide(self, cell: Cell) -> Decision:
        tensor, sent_input, leave, going_on = cell.payoffs
        worth = {
            Decision.EXIT: leave,
            Decision.OFFLOAD_TENSOR: tensor,
            Decision.OFFLOAD_INPUT: sent_input,
            Decision.CONTINUE: going_on,
        }
        return max(cell.possible, key=worth.__getitem__)


class Between(OwnRule):
    """Sends the input at service start while the backlog lies between two bounds and nobody waits."""

    name = "between"
    low_s, high_s = 0.3, 0.42

    def decide(self, cell: Cell) -> Decision:
        is_between = self.low_s <= cell.backlog_s < self.high_s and cell.queue_length == 0
        return Decision.OFFLOAD_INPUT if cell.epoch == 0 and is_between else Decision.CONTINUE

    def exits_run(self, situation):
        return [True, False]


class Saying(OwnRule):
    name = "saying"

    def __init__(self, what: object = None) -> None:
        self.what = what

    def decide(self, cell: Cell) -> Decision:
        if isinstance(self.what, BaseException):
            raise self.what
        return self.what


def test_a_rule_that_takes_the_best_payoff_of_every_cell_makes_the_table_of_the_open_loop() -> None:
    backlogs_s = np.linspace(0.0, 1.0, 101)
    for seed in range(3):
        s = quantised(situation_of(MANIFEST, seed))
        own, open_loop = Greedy().table(s), OPEN_LOOP.table(s)
        bands = np.searchsorted(own.band_edges_s, backlogs_s, side="right")
        open_bands = np.searchsorted(open_loop.band_edges_s, backlogs_s, side="right")
        same = own.table[..., bands] == open_loop.table[..., open_bands]
        assert own.exits_run == open_loop.exits_run
        assert same.mean() > 0.99  # both merge break points that lie close together


def test_a_plan_decides_as_the_rule_does_on_both_sides_of_every_change() -> None:
    table = Between().table(SITUATION)
    assert table.exits_run == (True, False)
    assert len(table.band_edges_s) == 2
    assert table.band_edges_s == pytest.approx((0.3, 0.42), abs=2e-3)
    assert table.table[0, 0, 0].tolist() == [Decision.CONTINUE, Decision.OFFLOAD_INPUT, Decision.CONTINUE]
    assert (table.table[0, 0, 1:] == Decision.CONTINUE).all()
    assert (table.table[1:] == Decision.CONTINUE).all()


@pytest.mark.parametrize("manifest", [MANIFEST, manifest_of(4, ()), manifest_of(5, (1,), device_segments=3)])
@pytest.mark.parametrize("has_edge", [True, False])
def test_every_plan_of_ones_own_can_be_obeyed(manifest, has_edge) -> None:
    table = Greedy().table(situation_of(manifest, 1, has_edge=has_edge))
    plan = Plan(
        1,
        "0" * 64,
        "greedy",
        "e",
        "h:1",
        table.exits_run,
        table.band_edges_s,
        table.table,
        table.tensor_representations,
        table.input_representations,
        10.0,
        Contingency((0.9,) * len(table.exits_run)),
    )
    check_plan(plan, manifest)
    if not has_edge:
        assert (table.table < Decision.OFFLOAD_TENSOR).all()


def test_a_cell_says_what_is_known_and_possible_there() -> None:
    seen: list[Cell] = []

    class Watching(OwnRule):
        def decide(self, cell: Cell) -> Decision:
            seen.append(cell)
            return Decision.CONTINUE

        def exits_run(self, situation):
            return (True, True)

    Watching().table(replace(SITUATION, is_tensors_only=True))
    first = next(cell for cell in seen if cell.epoch == 0)
    assert (first.exit_index, first.p_exit_right, first.possible) == (None, None, (Decision.CONTINUE,))
    assert first.p_whole_right == pytest.approx(MANIFEST.p_whole_right(0))
    later = next(cell for cell in seen if cell.epoch == 2 and cell.evidence == 6)
    assert later.exit_index == 1
    assert later.p_exit_right == pytest.approx(MANIFEST.exits[1].p_right[1])
    assert later.possible == (Decision.CONTINUE, Decision.EXIT, Decision.OFFLOAD_TENSOR)
    assert {cell.queue_length for cell in seen} == {0, 1, 2, 3}
    assert {cell.evidence for cell in seen if cell.epoch == 1} == {0, 1, 2, 3, 4}  # the second exit has not run yet


def test_a_decision_at_a_point_needs_no_table() -> None:
    rule = Between()
    values = rule.values(SITUATION)
    assert rule.decision_at(values, 0, 0, 0.0, 0.35, 0.0) is Decision.OFFLOAD_INPUT
    assert rule.decision_at(values, 0, 0, 1.0, 0.35, 0.0) is Decision.CONTINUE
    greedy = Greedy()
    at = values_of(SITUATION).at(1, 0, 7.0, 0.2, 0.3)
    assert greedy.decision_at(greedy.values(SITUATION), 1, 0, 7.0, 0.2, 0.3) is (
        Decision.OFFLOAD_TENSOR
        if at.tensor >= max(at.input, at.going_on)
        else Decision.OFFLOAD_INPUT
        if at.input > at.going_on
        else Decision.CONTINUE
    )


@pytest.mark.parametrize(
    ("what", "cause"),
    [
        (ZeroDivisionError("division by zero"), "raised ZeroDivisionError: division by zero"),
        (SystemExit("enough"), "raised SystemExit: enough"),
        (7, "decided 7, which is no Decision; there are CONTINUE, EXIT"),
        ("EXIT", "decided 'EXIT', which is no Decision"),
        (0, "decided 0, which is no Decision"),
        (None, "decided None"),
        (Decision.EXIT, "decided EXIT, but no exit has run yet"),
        (Decision.OFFLOAD_TENSOR, "decided OFFLOAD_TENSOR, but that payload cannot be sent here"),
    ],
)
def test_a_rule_that_fails_is_named_with_the_cell_and_the_cause(what, cause) -> None:
    with pytest.raises(RuleError) as caught:
        Saying(what).table(SITUATION)
    text = str(caught.value)
    assert text.startswith("rule 'saying' at epoch 0, no evidence, queue length 0, backlog 0.000 s: ")
    assert cause in text


def test_an_interrupt_by_the_user_is_no_failure_of_the_rule() -> None:
    with pytest.raises(KeyboardInterrupt):
        Saying(KeyboardInterrupt()).table(SITUATION)


def test_evidence_is_named_by_exit_and_bin() -> None:
    class Late(OwnRule):
        def decide(self, cell: Cell) -> Decision:
            return Decision.CONTINUE if cell.evidence != 6 else 1 / 0

    with pytest.raises(RuleError, match=r"at epoch 2, evidence 6 \(exit 2, bin 1\)"):
        Late().table(SITUATION)


@pytest.mark.parametrize("exits", [(True,), 3, "yes"])
def test_exits_run_that_do_not_fit_the_model_are_named(exits) -> None:
    rule = Saying(Decision.CONTINUE)
    rule.exits_run = lambda _situation: exits
    with pytest.raises(RuleError, match="exits_run"):
        rule.table(SITUATION)


def test_exits_run_that_ends_the_process_is_named() -> None:
    rule = Saying(Decision.CONTINUE)
    rule.exits_run = lambda _situation: sys.exit(3)
    with pytest.raises(RuleError, match="rule 'saying': exits_run raised SystemExit: 3"):
        rule.table(SITUATION)


FILE = """
from twin_service.decision.own import Cell, OwnRule
from twinsplit.types import Decision

class Home(OwnRule):
    name = "home"
    def decide(self, cell: Cell) -> Decision:
        return Decision.CONTINUE

class Unnamed(OwnRule):
    def decide(self, cell): return Decision.CONTINUE

class Needy(OwnRule):
    def __init__(self, threshold): pass

class Double(OwnRule):
    name = "open-loop"

class Odd(OwnRule):
    name = "a b"

class Number(OwnRule):
    name = 3

class Other:
    pass

CONSTANT = 3
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_a_rule_is_found_by_file_and_class(file) -> None:
    rule = rule_named(f"{file}:Home")
    assert rule.name == "home"
    assert (rule.table(SITUATION).table == Decision.CONTINUE).all()
    assert rule_named(f"{file}:Unnamed").name == "Unnamed"


@pytest.mark.parametrize(
    ("class_name", "cause"),
    [
        ("Missing", "mine.py has no class 'Missing'; it defines Home, Unnamed, Needy"),
        ("", "has no class ''"),
        ("Other", "no subclass of twin_service.decision.own.OwnRule"),
        ("CONSTANT", "no subclass of twin_service.decision.own.OwnRule"),
        ("OwnRule", "no subclass of twin_service.decision.own.OwnRule"),
        ("Needy", "cannot be made without arguments: TypeError"),
        ("Double", "'open-loop' is the name of a built-in rule"),
        ("Odd", "its name 'a b' is not one of letters"),
        ("Number", "its name 3 is not"),
    ],
)
def test_what_is_no_rule_is_refused_with_its_cause(file, class_name, cause) -> None:
    with pytest.raises(SettingsError, match=cause):
        rule_named(f"{file}:{class_name}")


def test_a_file_that_is_not_there_or_cannot_be_imported_is_named(tmp_path) -> None:
    with pytest.raises(SettingsError, match=r"there is no file .*gone\.py; write FILE\.py:CLASS"):
        rule_named(f"{tmp_path}/gone.py:Mine")
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    with pytest.raises(SettingsError, match=r"broken\.py cannot be imported: ModuleNotFoundError"):
        rule_named(f"{tmp_path}/broken.py:Mine")
    (tmp_path / "typo.py").write_text("class Mine(:\n")
    with pytest.raises(SettingsError, match=r"typo\.py cannot be imported: SyntaxError"):
        rule_named(f"{tmp_path}/typo.py:Mine")
    (tmp_path / "script.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(SettingsError, match=r"script\.py cannot be imported: SystemExit: 0"):
        rule_named(f"{tmp_path}/script.py:Mine")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package that offers two rules, as an installer would leave it."""
    (tmp_path / "their_rules.py").write_text(FILE)
    folder = tmp_path / "their_rules-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: their-rules\nVersion: 1\n")
    (folder / "entry_points.txt").write_text(
        f"[{loading.ENTRY_POINT_GROUP}]\nhome = their_rules:Home\nbad = their_rules:Gone\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_an_installed_rule_is_found_by_the_name_of_its_entry_point(installed) -> None:
    assert rule_named("home").name == "home"
    with pytest.raises(SettingsError, match="their_rules:Gone cannot be imported"):
        rule_named("bad")
    with pytest.raises(
        SettingsError, match=r"no rule is called 'nobody'; there are open-loop,.* bad, home, FILE\.py:CLASS"
    ):
        rule_named("nobody")


def test_names_are_told_apart_also_where_one_has_a_comma() -> None:
    assert rule_names("one-time, threshold-static:2,0.8,a/b.py:Mine,,multi-step") == [
        "one-time",
        "threshold-static:2,0.8",
        "a/b.py:Mine",
        "multi-step",
    ]
