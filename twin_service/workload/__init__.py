"""The workload twin: time lines of edges and devices, and every ended task replayed under all its decisions."""
