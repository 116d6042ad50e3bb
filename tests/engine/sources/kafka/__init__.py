"""Tests of the Kafka source and its streams."""
