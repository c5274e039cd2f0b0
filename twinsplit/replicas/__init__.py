"""Several replicas of the twin service: which one a device is attached to, and whose plans count (design section 7)."""
