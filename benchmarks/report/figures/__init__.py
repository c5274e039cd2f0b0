"""Figures of the report: each a pure function of one document of results."""
