"""Tests of engine.sinks."""
