"""Tests of the Grafana boards."""
