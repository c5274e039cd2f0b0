"""Decisions: where tasks stop and why, what that costs, how plans change, what is learned."""

from __future__ import annotations

from deploy.grafana.boards.frame import Board, instances
from deploy.grafana.boards.panels import (
    COUNT,
    NONE,
    PER_MIN,
    PER_S,
    SECONDS,
    SHARE,
    SQUARE_SECONDS,
    Ask,
    lines,
    number,
    quantiles,
)
from deploy.grafana.boards.queries import COST, COST_TEXT, RATE, REGRET, RIGHT_IN_HINDSIGHT, WHOLE_NETWORK

_ME = 'instance=~"$devices"'
_COSTED = f"sum(rate(twinsplit_costed_tasks_total{RATE}))"
_NO_CALIBRATION = "no task ended, or the network is not calibrated"
_NO_REPLAY = "no task was replayed (setting replay-share)"
_NO_LEARNING = "the rule does not learn (it is neither multi-step nor learned)"
_NO_LESSON = "no lesson has ended: it takes 300 replayed tasks, and torch (twinsplit[learn])"


def board() -> Board:
    """The dashboard."""
    variable = instances("devices", "device", "Devices", is_multiple=True)
    text = "Where tasks stop, what it costs, plans, learning. The choice of devices holds for where tasks stop."
    found = Board("Decisions", text, (variable,))
    _stops(found)
    _costs(found)
    _plans(found)
    _learning(found)
    return found


def _rate(name: str, more: str = "") -> str:
    return f"rate(twinsplit_{name}{{{_ME}{more}}}{RATE})"


def _stops(found: Board) -> None:
    found.row(
        "Where tasks stop",
        lines(
            "Stops by epoch",
            "Tasks per second that leave the device or end at an exit, by decision epoch (0: before any segment).",
            PER_S,
            Ask(f"sum by (epoch) ({_rate('decisions_total')})", "epoch {{epoch}}"),
            is_stacked=True,
            width=8,
            may_be_empty="every task goes through the whole network on the device",
        ),
        lines(
            "Stops by decision and reason",
            "Tasks per second by what stopped them (an exit, offloading the tensor of a cut or the input) and why.",
            PER_S,
            Ask(f"sum by (decision, reason) ({_rate('decisions_total')})", "{{decision}}: {{reason}}"),
            is_stacked=True,
            width=8,
            may_be_empty="every task goes through the whole network on the device",
        ),
        lines(
            "Ended tasks by reason",
            "Tasks per second by the reason why they ended where they did.",
            PER_S,
            Ask(f"sum by (reason) ({_rate('task_reasons_total')})", "{{reason}}"),
            is_stacked=True,
            width=8,
        ),
        lines(
            "Share of tasks by outcome",
            "Where tasks end, as shares of all that ended.",
            SHARE,
            Ask(
                f"sum by (outcome) ({_rate('tasks_total')}) / on () group_left () sum({_rate('tasks_total')})",
                "{{outcome}}",
            ),
            is_stacked=True,
            most=1.0,
        ),
        lines(
            "Degraded answers",
            "Share of tasks that a contingency or a fault path answered.",
            SHARE,
            Ask(
                f"sum by (instance) ({_rate('tasks_degraded_total')}) / sum by (instance) ({_rate('tasks_total')})",
                "{{instance}}",
            ),
        ),
    )


def _costs(found: Board) -> None:
    found.row(
        "Cost and regret, all devices",
        number(
            "Cost per task",
            COST_TEXT,
            SECONDS,
            COST,
            width=6,
            may_be_empty=_NO_CALIBRATION,
        ),
        number(
            "Regret per task",
            "Mean utility that a replayed task lost against its best decision in hindsight, which no rule can know.",
            SECONDS,
            REGRET,
            width=6,
            may_be_empty=_NO_REPLAY,
        ),
        number(
            "Right in hindsight",
            "Share of replayed tasks for which no other decision would have been better.",
            SHARE,
            RIGHT_IN_HINDSIGHT,
            width=6,
            may_be_empty=_NO_REPLAY,
        ),
        number(
            "Gain over open-loop",
            "Mean utility of some 200 newest replayed tasks, less what open-loop would have brought them. The one is "
            "measured, the other reckoned: compare it before and after new weights, not with 0.",
            SECONDS,
            "avg(twinsplit_open_loop_gain_seconds)",
            width=6,
            may_be_empty=_NO_REPLAY,
        ),
        lines(
            "Cost per task by part",
            "What the cost is made of. Part accuracy is alpha (1 - A); what the whole network would cost of that has a "
            "line of its own and is no part of the cost.",
            SECONDS,
            Ask(
                f"sum by (part) (rate(twinsplit_cost_seconds_total{RATE})) / on () group_left () {_COSTED}", "{{part}}"
            ),
            Ask(WHOLE_NETWORK, "whole network's mistakes"),
            may_be_empty=_NO_CALIBRATION,
        ),
        lines(
            "Regret",
            "Of replayed tasks. Hindsight knows what arrives next, so no rule gets to 0; look for changes.",
            SECONDS,
            Ask(
                REGRET,
                "mean",
            ),
            *quantiles("twinsplit_regret_seconds"),
            may_be_empty=_NO_REPLAY,
        ),
    )


def _plans(found: Board) -> None:
    found.row(
        "Plans",
        lines(
            "Plan revisions by reason",
            "Plans sent per minute, by what made them necessary.",
            PER_MIN,
            Ask(f"60 * sum by (reason) (rate(twinsplit_plan_revisions_total{RATE}))", "{{reason}}"),
            is_stacked=True,
            width=8,
        ),
        lines(
            "Plans at devices",
            "Plans received per minute: obeyed, older than the one in force, or refused.",
            PER_MIN,
            Ask(f"60 * sum by (result) ({_rate('plans_received_total')})", "{{result}}"),
            width=8,
        ),
        lines(
            "Planning time",
            "Time to plan one device; a batch shares its time.",
            SECONDS,
            *quantiles("twinsplit_planning_seconds"),
            width=8,
        ),
        lines(
            "Pairs ruled out",
            "Share of (epoch, payload) pairs that the necessary conditions removed while planning.",
            SHARE,
            Ask(
                f"sum(rate(twinsplit_pruned_pairs_total{RATE})) / sum(rate(twinsplit_candidate_pairs_total{RATE}))",
                "pruned",
            ),
            width=8,
            may_be_empty="`reduction` of the twin is off, as it is by default",
            most=1.0,
        ),
        lines(
            "Failures of a rule",
            "Devices per minute that got no plan because a rule of one's own failed on them.",
            PER_MIN,
            Ask(f"60 * sum(rate(twinsplit_rule_failures_total{RATE}))", "failures"),
            width=8,
        ),
        lines(
            "Calibration drift",
            "Largest deviation of P(exit right | bin) from its calibration, as agreement with the whole network shows.",
            SHARE,
            Ask("twinsplit_calibration_drift", "{{instance}}"),
            width=8,
            may_be_empty="no exit could be compared with the whole network's answer yet",
        ),
    )


def _learning(found: Board) -> None:
    found.row(
        "Learning",
        lines(
            "Version of the weights",
            "Learned weights in force by model; 0 is open-loop.",
            NONE,
            Ask("twinsplit_weights_version", "{{model}}"),
            width=8,
            may_be_empty=_NO_LEARNING,
        ),
        lines(
            "Held-out gain",
            "Share of open-loop's error on held-out tasks that the newest lesson takes off.",
            SHARE,
            Ask("twinsplit_held_out_gain", "{{instance}}"),
            width=8,
            may_be_empty=_NO_LESSON,
        ),
        lines(
            "Training loss",
            "Of the newest lesson, both heads, in square seconds.",
            SQUARE_SECONDS,
            Ask("twinsplit_training_loss", "{{instance}}"),
            width=8,
            may_be_empty=_NO_LESSON,
        ),
        lines(
            "What became of lessons",
            "Versions promoted, refused by the gate, rolled back, failed or unreadable, since the start.",
            COUNT,
            Ask("sum by (result) (twinsplit_weights_results_total)", "{{result}}"),
            Ask("sum(twinsplit_lessons_total)", "begun"),
            width=8,
            may_be_empty=_NO_LEARNING,
        ),
        lines(
            "Replayed tasks",
            "Tasks per second that were replayed under all their decisions, and those left out, by reason.",
            PER_S,
            Ask(f"sum(rate(twinsplit_tasks_replayed_total{RATE}))", "replayed"),
            Ask(f"sum by (reason) (rate(twinsplit_tasks_not_replayed_total{RATE}))", "{{reason}}"),
            width=8,
        ),
        lines(
            "Cores for replaying and learning",
            "Share of one core; both keep within their setting.",
            SHARE,
            Ask("twinsplit_replay_core_share", "replaying"),
            Ask("twinsplit_learning_core_share", "learning"),
            width=8,
        ),
    )
