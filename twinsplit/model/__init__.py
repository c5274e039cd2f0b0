"""A partitioned model: manifest, partitioning, segment runtime, exits, calibration, preprocessing."""

import os

# Newer builds of ONNX Runtime for Linux give the machine an id and send usage to their maker, unless told not to before
# they are imported. A device that must not send its frames anywhere sends nobody this either.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
