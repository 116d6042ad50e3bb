"""Tests of the engine, in the folders of what they test."""
