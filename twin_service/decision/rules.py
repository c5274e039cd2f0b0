"""Names of stopping rules (design section 2), and the rule behind a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twin_service.decision.evaluation import Rule
from twin_service.decision.fixed import Fixed, OneTimeThreshold
from twin_service.decision.learned import Learned
from twin_service.decision.loading import FILE_FORM, installed_names, installed_rule, is_file_form, load_rule
from twin_service.decision.optimising import LOAD_ONLY, ONE_TIME, ONE_TIME_MYOPIC, OPEN_LOOP, Optimising
from twin_service.decision.value_net import ValueNet
from twinsplit.errors import SettingsError
from twinsplit.model.manifest import Manifest

_NAMED: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        OPEN_LOOP,
        LOAD_ONLY,
        ONE_TIME,
        ONE_TIME_MYOPIC,
        Fixed("device-only", None),
        Fixed("edge-only", 0),
    )
}

LEARNED_RULES = ("multi-step", "learned")
"""Both are open-loop until weights have been promoted; ``multi-step`` is the product's default."""
_WITH_CUT_AND_THRESHOLD = "threshold-static:"
RULE_FORMS = (*_NAMED, *LEARNED_RULES, "static:K", "one-time-threshold:T", "threshold-static:K,T")
"""Built-in rules that :func:`rule_named` understands: K a cut, T a calibrated probability."""


def rule_names(text: str) -> list[str]:
    """Names of a list such as ``one-time,threshold-static:2,0.8,my_file.py:MyRule``, where one name has a comma."""
    names: list[str] = []
    for name in text.split(","):
        if names and names[-1].startswith(_WITH_CUT_AND_THRESHOLD) and "," not in names[-1]:
            names[-1] += f",{name.strip()}"
        elif name.strip():
            names.append(name.strip())
    return names


def rule_named(
    name: str, *, is_reduced: bool = False, net_of: Callable[[Manifest], ValueNet | None] = lambda _manifest: None
) -> Rule:
    """The rule of a name such as ``open-loop``, ``static:2`` or ``one-time-threshold:0.9``, or one's own: such as
    ``my_file.py:MyRule``, or a name of the entry point group ``twinsplit.rules``.

    ``is_reduced``: whether R1 and R2 rule decisions out, in rules that look at every epoch. ``net_of``: weights in
    force for a model, of ``multi-step`` and ``learned``; ``None``: it has none, and they are open-loop.

    Raises:
        SettingsError: no such rule, its parameter does not fit, or a rule of one's own that cannot be loaded.
    """
    if name in _NAMED:
        rule = _NAMED[name]
        return replace(rule, is_reduced=is_reduced) if isinstance(rule, Optimising) else rule
    if name in LEARNED_RULES:
        return Learned(name, net_of, is_reduced=is_reduced)
    head, _, tail = name.partition(":")
    try:
        if head == "static":
            return Fixed(name, _cut(tail))
        if head == "one-time-threshold":
            return OneTimeThreshold(name, _probability(tail))
        if head == "threshold-static":
            cut, threshold = tail.split(",")
            return Fixed(name, _cut(cut), _probability(threshold))
    except ValueError:
        raise SettingsError(f"rule {name!r}: give K as a cut from 0 and T as a probability in 0..1") from None
    return _own_rule(name)


def _own_rule(name: str) -> Rule:
    rule = load_rule(name) if is_file_form(name) else installed_rule(name)
    if rule is not None and rule.name in (*_NAMED, *LEARNED_RULES):
        raise SettingsError(f"rule {name!r}: {rule.name!r} is the name of a built-in rule; give it another name")
    if rule is not None:
        return rule
    forms = ", ".join((*RULE_FORMS, *installed_names(), FILE_FORM))
    raise SettingsError(f"no rule is called {name!r}; there are {forms}")


def _cut(text: str) -> int:
    cut = int(text)
    if cut < 0:
        raise ValueError(text)
    return cut


def _probability(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise ValueError(text)
    return value
