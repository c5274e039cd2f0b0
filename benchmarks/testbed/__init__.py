"""The testbed: twin, edge, edge load and device as real processes under a stated scenario.

Device speed, uplink and edge speed are *emulated* on one machine; every output says so.
"""
