"""What runs the tails of an edge: its own compute thread, or servers of the Open Inference Protocol behind it."""
