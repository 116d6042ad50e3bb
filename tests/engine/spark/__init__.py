"""Tests of streams on a real standalone Spark cluster."""
