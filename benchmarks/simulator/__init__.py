"""Discrete-event simulator: devices, edges and uplinks around the very objects that the services run."""
