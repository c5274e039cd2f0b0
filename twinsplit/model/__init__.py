"""A partitioned model: manifest, partitioning, segment runtime, exits, calibration, preprocessing."""
