"""The edge: queues the tails of many devices, finishes them and reports its backlog."""
