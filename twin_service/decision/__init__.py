"""When to stop: utility, decision-space reduction, backward induction, rules (design section 5; formulation is ours).

Everything here is pure: a :class:`~twin_service.decision.situation.Situation` in, a table out.
"""
