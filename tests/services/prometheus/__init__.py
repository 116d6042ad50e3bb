"""Tests of what Prometheus is given: its configuration, rules and alerts."""
