"""Channels, servers, TLS, the table of errors and statuses, and the tail stream (design sections 3 and 10)."""
