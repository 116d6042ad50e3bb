"""Tests of the engine service and its jobs."""
