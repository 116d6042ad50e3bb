"""Tests of engine/dstream."""
