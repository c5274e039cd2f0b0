"""The dashboards as code; ``python -m deploy.grafana.boards`` writes them to ``deploy/grafana/dashboards``.

They ask for nothing but what services give: no recorded series, so that the JSON works in any Grafana, also one whose
Prometheus does not load this project's rules.
"""
