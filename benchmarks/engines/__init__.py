"""Real inference servers behind an edge: Triton and MLServer, started on this machine for tests and benchmarks.

They live in an environment of their own (``make engines``), since neither goes with the protobuf that twinsplit needs.
"""
