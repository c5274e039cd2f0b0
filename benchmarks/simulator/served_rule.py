"""The rule of a name as the twin service has it, with the service's own settings."""

from __future__ import annotations

from twin_service.decision.evaluation import Rule
from twin_service.decision.rules import rule_named
from twin_service.settings import TwinSettings

_IS_REDUCED: bool = TwinSettings.model_fields["reduction"].default


def served_rule(name: str) -> Rule:
    """As a twin service makes it that was told nothing but the name.

    Raises:
        SettingsError: no such rule.
    """
    return rule_named(name, is_reduced=_IS_REDUCED)
