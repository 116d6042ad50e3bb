"""Tests of engine/rdd."""
