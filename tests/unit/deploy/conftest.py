"""Python 3.10 has no grafana-foundation-sdk: there the dashboards are read, not made."""

import sys

collect_ignore = ["test_generated_dashboards.py"] if sys.version_info < (3, 11) else []
