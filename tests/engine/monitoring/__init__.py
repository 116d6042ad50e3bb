"""Tests of what the engine tells about itself."""
