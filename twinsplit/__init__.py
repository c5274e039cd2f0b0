"""What at least two twinsplit services need: types, errors, model, tensor, transport, telemetry, reckoning.

``device``, ``edge`` and ``twin_service`` import this package and never one another; it imports none of them.
"""

__version__ = "0.1.0"
