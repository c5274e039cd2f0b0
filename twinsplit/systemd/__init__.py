"""Living under systemd: what a service tells it while it runs, and the units that start it."""
