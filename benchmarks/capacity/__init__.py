"""What a fleet needs, calculated from what was measured on one machine (``twinsplit bench capacity``)."""
