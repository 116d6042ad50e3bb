"""The Grafana boards as code: `python -m grafana` writes grafana/dashboards."""
