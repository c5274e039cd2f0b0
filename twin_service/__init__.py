"""The twin service: mirrors devices and edges, predicts them between reports, keeps a plan standing at every device.

``core`` is the service without its wires and holds everything that decides: ``status_twin`` and ``edge_twin`` (what is
believed), ``planner`` (when a plan is worth sending), ``backlog_watch`` (when a backlog is), ``documents`` (what
survives). ``exchange``, ``servicer`` and ``service`` are the thin shell around it; only the servicer, ``wire`` and
``wire_views`` know messages of the protocol. ``decision`` is the theory, pure.
"""
