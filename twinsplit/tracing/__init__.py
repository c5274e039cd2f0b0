"""Traces of tasks for OpenTelemetry: one trace per task across device, edge and back (docs/how-to/traces-otlp.md).

Spans are made when their task has ended, from times that were measured anyway. Of this package only
:mod:`twinsplit.tracing.outlet` imports OpenTelemetry, and services import that only where they are told to trace.
"""
