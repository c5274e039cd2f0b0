"""The report: figures and tables of what was measured, on one page."""
