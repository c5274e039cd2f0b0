"""The rule by which prometheus-adapter answers an autoscaler, evaluated by Prometheus' own engine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.needs("promtool")

RULES = Path(__file__).resolve().parents[2] / "deploy/kubernetes/components/elastic-edges/prometheus-adapter.yaml"
SERIES = "twinsplit_backlog_seconds"


def checked(folder: Path, expected: float) -> subprocess.CompletedProcess[str]:
    """A recording rule of the adapter's query, over two pods that are asked for and one that is not."""
    (rule,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["rules"]["custom"]
    query: str = rule["metricsQuery"]
    # As the adapter fills them in for the pods of one autoscaler.
    matchers = 'namespace="twinsplit",pod=~"twinsplit-edge-0|twinsplit-edge-1"'
    for part, value in (("Series", SERIES), ("LabelMatchers", matchers), ("GroupBy", "pod")):
        query = query.replace(f"<<.{part}>>", value)
    recording = {"groups": [{"name": "adapter", "rules": [{"record": "pods:backlog", "expr": query}]}]}
    (folder / "rules.yml").write_text(yaml.safe_dump(recording))

    def series(pod: str, values: str) -> dict[str, str]:
        return {"series": f'{SERIES}{{namespace="twinsplit",pod="{pod}",instance="10.0.0.1:7101"}}', "values": values}

    case = {
        "interval": "15s",
        "input_series": [
            # 0.2 at the window's left end, which some releases count and others do not, and on the mean after it.
            series("twinsplit-edge-0", "0+0x7 0.2 0+0x3 0.4+0x12"),
            series("twinsplit-edge-1", "0.1+0x24"),
            series("twinsplit-twin-0", "9+0x24"),
        ],
        "promql_expr_test": [
            {
                "expr": "round(pods:backlog, 0.001)",
                "eval_time": "4m",
                "exp_samples": [
                    {"labels": '{pod="twinsplit-edge-0"}', "value": expected},
                    {"labels": '{pod="twinsplit-edge-1"}', "value": 0.1},
                ],
            }
        ],
    }
    test = {"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": [case]}
    (folder / "test.yml").write_text(yaml.safe_dump(test))
    return subprocess.run(
        ["promtool", "test", "rules", "test.yml"], cwd=folder, capture_output=True, text=True, check=False
    )


def test_an_autoscaler_is_told_the_mean_of_two_minutes_by_pod(tmp_path: Path) -> None:
    done = checked(tmp_path, 0.2)
    assert done.returncode == 0, done.stdout + done.stderr


def test_another_mean_would_have_been_found_out(tmp_path: Path) -> None:
    assert checked(tmp_path, 0.3).returncode != 0
