"""Learning from replayed tasks: what to learn from, training, the gate before new weights serve (design section 5)."""
