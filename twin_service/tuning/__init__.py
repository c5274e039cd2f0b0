"""Weights from a wish: alpha and beta found by replaying recorded tasks under other weights."""
